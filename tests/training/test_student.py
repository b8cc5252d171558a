from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from megaportraits.config import TrainStudentConfig, parse_config
from megaportraits.data.augment import FEATURES_CM
from megaportraits.data.batches import DistillationBatch, collate
from megaportraits.data.distillation import DistillationSample, shard_path, write_shard
from megaportraits.data.distillation_dataset import DistillationPreview
from megaportraits.models.storage import load_student, save_student
from megaportraits.models.student import Student
from megaportraits.ops.geometry import HeadPose, euler_to_matrix
from megaportraits.ops.warping import Pose, project
from megaportraits.training import checkpoint
from megaportraits.training.features import feature_map
from megaportraits.training.stage import phase_parameters
from megaportraits.training.student import (
    StudentStage,
    add_avatar,
    join,
    see_driver,
    target_over,
    train_student,
)
from tests.conftest import TINY_STUDENT

COLORS = ((200, 60, 60), (60, 200, 60), (60, 60, 200))
ADVERSARIAL = {"adversarial": 1.0, "feature_matching": 10.0}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that paints each avatar's colour on the side that the driver's bright half is on."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("distillation")
    for part, count in (("train", 24), ("val", 6)):
        made = []
        for number in range(count):
            left = bool(rng.integers(2))
            driver = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
            half = slice(0, 32) if left else slice(32, 64)
            driver[:, half] += 180
            pictures = {}
            for avatar, color in enumerate(COLORS):
                picture = np.zeros((64, 64, 4), np.uint8)
                picture[:, half] = (*color, 255)
                pictures[avatar] = picture
            pose = HeadPose(np.eye(3), np.zeros(2), 1.0)
            matte = np.full((64, 64), 255, np.uint8)
            made.append(DistillationSample(f"{number:08d}", f"driver {number}", driver, matte, pose, pictures))
        write_shard(shard_path(folder / part, 0), made)
    return folder


def settings(steps: int = 3, *, optim: dict[str, Any] | None = None, **loss: float) -> TrainStudentConfig:
    off = {"perceptual": 0, "face": 0, "gaze": 0, "adversarial": 0, "feature_matching": 0}
    return parse_config(
        TrainStudentConfig,
        {
            "model": TINY_STUDENT,
            "discriminator": {"widths": [4, 6], "strides": [2, 2], "scales": 4},
            "data": {"workers": 0},
            "loss": {**off, "reconstruction": 1, "matte": 1, **loss},
            "optim": {"steps": steps, "batch_size": 4, "learning_rate": 3e-3, "ema_decay": 0.9, **(optim or {})},
            "run": {"accelerator": "cpu", "log_every": 50, "sample_every": 50, "checkpoint_minutes": 0},
        },
        "tiny",
    )


def stage_and_batch(samples: Path, **loss: float) -> tuple[StudentStage, DistillationBatch]:
    torch.manual_seed(0)
    config = settings(**loss)
    stage = StudentStage(config, Student(config.model, ["a", "b", "c"]))
    sample = DistillationPreview(samples / "train", length=4, driver_size=64, size=64)
    items = [sample[k] for k in range(4)]
    return stage, collate(items)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def student(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Student:
    """One that has learned."""
    run = tmp_path_factory.mktemp("run")
    train_student(settings(steps=150, optim={"learning_rate": 1e-2}), ["red", "green", "blue"], samples, run)
    return load_student(run / "student.safetensors")


def test_a_student_learns_who_and_what(samples: Path, student: Student) -> None:
    sample = DistillationPreview(samples / "val", length=18, driver_size=64, size=64)
    for k in range(18):
        item = collate([sample[k]])
        out = student(see_driver(item, None), item.avatar)
        assert out.alpha is not None
        picture, black = out.over(torch.zeros(1, 3, 1, 1)), torch.zeros(1, 3, 1, 1)
        error = (picture - target_over(item, black)).abs().mean()
        mirrored = (picture - target_over(item, black).flip(3)).abs().mean()
        assert error < 0.1 < mirrored
        inside = picture[..., :32] if out.alpha[..., :32].mean() > 0.5 else picture[..., 32:]
        assert int(inside.mean((0, 2, 3)).argmax()) == int(item.avatar)


def test_a_run_resumes_exactly_with_both_networks(samples: Path, tmp_path: Path) -> None:
    config = settings(steps=4, **ADVERSARIAL)
    for run in ("straight", "broken"):
        train_student(config, ["a", "b", "c"], samples, tmp_path / run)
    (tmp_path / "broken/checkpoints/step-00000004.pt").unlink()
    assert train_student(config, ["a", "b", "c"], samples, tmp_path / "broken", resume=True) == 4
    straight, broken = (checkpoint.latest(tmp_path / run / "checkpoints") for run in ("straight", "broken"))
    assert straight is not None and broken is not None
    for part in ("stage", "average"):
        for key, value in straight[part].items():
            assert torch.equal(value, broken[part][key]), key


def test_the_discriminator_sees_detached_pictures_and_belongs_to_its_phase(samples: Path) -> None:
    stage, batch = stage_and_batch(samples, **ADVERSARIAL)
    own = phase_parameters(stage)
    assert stage.discriminator is not None
    assert {id(p) for p in own["discriminator"]} == {id(p) for p in stage.discriminator.parameters()}
    assert {id(p) for p in own["student"]} == {id(p) for p in stage.model.parameters()}
    stage("student", batch, 1, seeded())
    stage("discriminator", batch, 1, seeded())["discriminator"].backward()
    assert all(p.grad is None for p in stage.model.parameters())
    assert any(p.grad is not None and p.grad.any() for p in stage.discriminator.parameters())


@pytest.mark.parametrize("name", list(ADVERSARIAL))
def test_the_student_learns_through_the_discriminator(samples: Path, name: str) -> None:
    stage, batch = stage_and_batch(samples, **ADVERSARIAL)
    stage("student", batch, 1, seeded())[name].backward()
    assert stage.model.exit.weight.grad.any() and stage.model.encoder.stem.weight.grad.any()


def test_the_discriminator_keeps_silent_until_its_step(samples: Path) -> None:
    stage, batch = stage_and_batch(samples, adversarial_from=5, **ADVERSARIAL)
    assert "adversarial" not in stage("student", batch, 5, seeded())
    assert "discriminator" in stage("discriminator", batch, 5, seeded())
    assert "adversarial" in stage("student", batch, 6, seeded())


def test_targets_stand_before_the_colour_that_the_student_is_given(samples: Path) -> None:
    _, batch = stage_and_batch(samples)
    over = target_over(batch, torch.full((4, 3, 1, 1), 0.25))
    solid, open_ = (batch.matte == value for value in (255, 0))
    torch.testing.assert_close(over[open_.expand_as(over)], torch.tensor(0.25).expand(int(open_.sum()) * 3))
    image = batch.image.float() / 255
    torch.testing.assert_close(over[solid.expand_as(over)], image[solid.expand_as(over)])


def test_eyes_and_mouth_count_more_wherever_the_head_is() -> None:
    turned = torch.from_numpy(euler_to_matrix(20.0, 0.0, 0.0)).float()
    pose = Pose(torch.stack([torch.eye(3), turned]), torch.tensor([[0.0, 0.0], [0.1, -0.2]]), torch.tensor([1.0, 0.8]))
    weight = feature_map(pose, 128, emphasis=3)
    assert weight.shape == (2, 1, 128, 128) and weight.min() == 1 and weight.max() == 4
    for feature, _ in FEATURES_CM:
        column, row = ((project(torch.tensor([feature]), pose)[:, 0] + 1) * 64).long().unbind(1)
        assert (weight[torch.arange(2), 0, row, column] == 4).all()
    assert (weight[0, 0] == weight[0, 0].flip(1)).all(), "a frontal face has two eyes"
    assert (weight > 1).float().mean() < 0.15
    eyes = feature_map(pose, 128, emphasis=3, eyes=2.0)
    assert eyes.max() == 7 and (eyes > 4).any((1, 2, 3)).all() and (eyes[weight == 1] == 1).all()


def test_drivers_change_their_looks_by_the_generator_alone(samples: Path) -> None:
    _, batch = stage_and_batch(samples)
    assert torch.equal(see_driver(batch, seeded()), see_driver(batch, seeded()))
    assert not torch.equal(see_driver(batch, seeded()), see_driver(batch, None))
    torch.testing.assert_close(see_driver(batch, None), batch.driver.image.float() / 255)


def test_an_added_avatar_leaves_all_others_bit_identical(samples: Path, student: Student, tmp_path: Path) -> None:
    fourth = only(samples, (2,), tmp_path / "fourth")
    config = settings(steps=40, optim={"learning_rate": 5e-2})
    _, grown = add_avatar(config, student, "sky", fourth, tmp_path / "add")
    save_student(tmp_path / "grown.safetensors", grown)
    after = load_student(tmp_path / "grown.safetensors")
    assert after.avatars == ("red", "green", "blue", "sky")
    drivers = torch.rand(2, 3, 64, 64)
    for index in range(3):
        old, new = (model(drivers, torch.tensor([index, index])) for model in (student, after))
        assert torch.equal(old.image, new.image)
        assert old.alpha is not None and new.alpha is not None and torch.equal(old.alpha, new.alpha)
    was, now = student.state_dict(), after.state_dict()
    assert all(torch.equal(was[key], now[key][: len(was[key])]) for key in was)
    item = collate([DistillationPreview(fourth / "val", length=1, driver_size=64, size=64)[0]])
    black = torch.zeros(1, 3, 1, 1)
    error = {
        i: (after(see_driver(item, None), torch.tensor([i])).over(black) - target_over(item, black)).abs().mean()
        for i in (0, 1, 3)
    }
    assert error[3] < 0.5 * min(error[0], error[1])


def test_an_added_avatar_resumes_exactly(samples: Path, student: Student, tmp_path: Path) -> None:
    config = settings(steps=4)
    third = only(samples, (2,), tmp_path / "third")
    _, straight = add_avatar(config, student, "z", third, tmp_path / "straight")
    add_avatar(config, student, "z", third, tmp_path / "broken")
    (tmp_path / "broken/checkpoints/step-00000004.pt").unlink()
    _, broken = add_avatar(config, student, "z", third, tmp_path / "broken", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(straight.tensors, broken.tensors, strict=True))


def test_joined_students_keep_each_avatar(samples: Path) -> None:
    config = settings().model
    a, b = Student(config, ["a"]), Student(config, ["b"])
    for tensor in [*a.tensors, *b.tensors]:
        torch.nn.init.normal_(tensor)
    b.load_state_dict({k: v for k, v in a.state_dict().items() if not k.startswith("tensors")}, strict=False)
    both, driver = join(a, b), torch.rand(1, 3, 64, 64)
    for index, alone in enumerate((a.eval(), b.eval())):
        expected = alone(driver, torch.tensor([0])).image
        torch.testing.assert_close(both(driver, torch.tensor([index])).image, expected)


def only(samples: Path, avatars: tuple[int, ...], folder: Path) -> Path:
    """The samples with pictures of these avatars alone, counted from 0."""
    from megaportraits.data.distillation import DistillationIndex

    for part in ("train", "val"):
        index = DistillationIndex(samples / part)
        made = [index.read(i, avatars) for i in range(len(index))]
        write_shard(
            shard_path(folder / part, 0),
            [
                DistillationSample(
                    m.key, m.origin, m.driver, m.matte, m.pose, {n: m.pictures[a] for n, a in enumerate(avatars)}
                )
                for m in made
            ],
        )
    return folder
