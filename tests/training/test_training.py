from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from megaportraits.config import ConfigError, ModelConfig, RunConfig, TrainBaseConfig, load_config, parse_config
from megaportraits.data.batches import PairBatch, collate
from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ShardWriter
from megaportraits.data.pairs import PairDataset
from megaportraits.errors import TrainingError, WeightsError
from megaportraits.losses.foreground import EYES_TO_MOUTH
from megaportraits.models.base import BaseModel
from megaportraits.models.motion import MAX_RESIDUAL_SIGMA, Motion
from megaportraits.models.storage import load_base, save_base
from megaportraits.nn.weights_file import read_notes
from megaportraits.ops.geometry import HeadPose
from megaportraits.pipeline import Avatar
from megaportraits.training import checkpoint, loader
from megaportraits.training.base import BaseStage, train_base
from megaportraits.training.features import feature_map
from megaportraits.training.readout import readout_loss
from megaportraits.training.schedule import learning_rate, warmed_ema
from megaportraits.training.start import start_from
from megaportraits.training.views import make_views
from tests.conftest import TINY, TINY_DISCRIMINATOR
from tests.data.test_batches import same

POSE = ("rotation", "translation", "scale")


def tiny_run(clips: Path, steps: int = 4, *, optim: dict[str, Any] | None = None, **loss: float) -> TrainBaseConfig:
    weights = {
        "perceptual": 0,
        "face": 0,
        "gaze": 0,
        "adversarial": 0,
        "feature_matching": 0,
        "reconstruction": 1,
        "matte": 1,
        "pose": 1,
        "expression": 1,
        "warp": 1,
        "contrastive": 1,
    }
    return parse_config(
        TrainBaseConfig,
        {
            "model": TINY,
            "discriminator": TINY_DISCRIMINATOR,
            "data": {
                "path": str(clips),
                "validation": str(clips),
                "workers": 0,
                "cross_identity": 0.5,
                "random_background": True,
            },
            "loss": {**weights, "contrastive_every": 2, **loss},
            "optim": {"steps": steps, "batch_size": 3, "learning_rate": 1e-3, "spectral_norm": False, **(optim or {})},
            "run": {
                "accelerator": "cpu",
                "log_every": 1,
                "sample_every": 2,
                "teacher_pose": True,
                "checkpoint_minutes": 0,
                "tensorboard": False,
            },
        },
        "test",
    )


def test_opencvs_threads_are_gone_before_workers_are_forked(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that stops the pool of its parent waits for threads which it does not have."""
    seen: list[int] = []

    def watched(*words: Any, **options: Any) -> DataLoader[Any]:
        seen.append(cv2.getNumThreads())
        return DataLoader(*words, **options)

    monkeypatch.setattr(loader, "DataLoader", watched)
    monkeypatch.setattr(cv2, "setNumThreads", set_threads := Mock(wraps=cv2.setNumThreads))
    cv2.setNumThreads(2)
    config = tiny_run(clips, steps=1)
    assert train_base(config.model_copy(update={"data": config.data.model_copy(update={"workers": 1})}), tmp_path) == 1
    assert seen == [1] and set_threads.call_count == 2
    monkeypatch.setattr(signal, "signal", install := Mock())  # this process goes on hearing Ctrl-C
    loader.quiet_worker(0)
    assert set_threads.call_count == 2
    install.assert_called_once_with(signal.SIGINT, signal.SIG_IGN)


def stage_and_batch(clips: Path, **loss: float) -> tuple[BaseStage, PairBatch]:
    config = tiny_run(clips, **loss)
    names = ("jawOpen", "eyeBlink_L", "eyeBlink_R")
    torch.manual_seed(0)
    dataset = PairDataset(clips, length=8, size=32, expression_names=names, cross_identity=0.5)
    items = [dataset[i] for i in range(4)]
    return BaseStage(config, names), collate(items)


def test_every_parameter_of_the_stage_learns(clips: Path) -> None:
    stage, batch = stage_and_batch(clips)
    for parameter in stage.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    losses = stage("generator", batch, 2, torch.Generator().manual_seed(0))
    assert set(losses) == set(stage.weights())
    torch.stack(list(losses.values())).sum().backward()
    assert [n for n, p in stage.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_contrastive_gradient_reaches_the_generator_through_the_prediction(clips: Path) -> None:
    stage, batch = stage_and_batch(clips)
    losses = stage("generator", batch, 2, torch.Generator().manual_seed(0))
    losses["contrastive"].backward()
    assert stage.model.generator_2d.output.conv.weight.grad.any()
    assert stage.model.motion.to_z.weight.grad.any()


def test_eyes_and_mouths_count_more_in_real_clips_too(clips: Path) -> None:
    """Only synthetic frames know their surface; of real ones the pose tells where the features are."""
    stage, batch = stage_and_batch(clips, reconstruction_emphasis=3)
    known = stage._emphasis(batch, 32)
    batch.target.valid[1] = False
    weight = stage._emphasis(batch, 32)
    assert torch.equal(weight[0], known[0])
    pose = batch.target.pose
    emphasis = stage.config.loss.reconstruction_emphasis
    assert torch.equal(weight[1], feature_map(pose, 32, emphasis=emphasis, eyes=EYES_TO_MOUTH)[1])
    assert weight[1].max() > 1 + emphasis > weight[1].min() == 1


def test_a_batch_of_one_person_contrasts_nothing(clips: Path) -> None:
    stage, batch = stage_and_batch(clips)
    batch = replace(batch, person=torch.zeros_like(batch.person))
    loss = stage("generator", batch, 2, torch.Generator().manual_seed(0))["contrastive"]
    loss.backward()
    assert float(loss.detach()) == 0


def test_parts_of_one_sample_are_refused_where_they_cannot_contrast(clips: Path) -> None:
    stage, batch = stage_and_batch(clips)
    alone = batch[:1]
    assert "contrastive" not in stage("generator", alone, 1, torch.Generator())
    with pytest.raises(TrainingError, match="another sample"):
        stage("generator", alone, 2, torch.Generator())


def test_a_step_can_be_repeated_exactly(clips: Path) -> None:
    stage, batch = stage_and_batch(clips)
    a, b = (stage("generator", batch, 1, torch.Generator().manual_seed(5)) for _ in range(2))
    assert {k: float(v.detach()) for k, v in a.items()} == {k: float(v.detach()) for k, v in b.items()}


def test_resume_is_exact(clips: Path, tmp_path: Path) -> None:
    config = tiny_run(clips, steps=6)
    train_base(config, tmp_path / "straight")
    interrupted = tmp_path / "interrupted"
    train_base(config, interrupted)
    (interrupted / "checkpoints" / "step-00000006.pt").unlink()  # as if killed during step 6
    assert checkpoint.latest(interrupted / "checkpoints")["step"] == 5
    train_base(config, interrupted, resume=True)
    straight, resumed = (
        load_file(tmp_path / "straight/base.safetensors"),
        load_file(interrupted / "base.safetensors"),
    )
    assert all(torch.equal(straight[k], resumed[k]) for k in straight)
    lines = [json.loads(line) for line in (interrupted / "stats.jsonl").read_text().splitlines()]
    assert [e["step"] for e in lines if "lr" in e] == [1, 2, 3, 4, 5, 6]


def test_a_run_killed_before_its_first_step_still_goes_on_from_where_it_was_to_start(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, start = tiny_run(clips, steps=1), tmp_path / "start.safetensors"
    torch.manual_seed(1)
    save_base(start, BaseModel(config.model))
    train_base(config, tmp_path / "straight", init=start)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("megaportraits.training.loop.TrainingJob.advance", lambda *_: exec("raise KeyboardInterrupt"))
        train_base(config, tmp_path / "killed", init=start)
    train_base(config, tmp_path / "killed", init=start, resume=True)
    straight, killed = (load_file(tmp_path / run / "base.safetensors") for run in ("straight", "killed"))
    assert all(torch.equal(straight[k], killed[k]) for k in straight)


def test_resuming_where_there_is_no_run_starts_none(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no run to resume"):
        train_base(tiny_run(clips), tmp_path / "mistyped", resume=True)
    assert not (tmp_path / "mistyped").exists()


def test_a_run_without_a_readable_checkpoint_is_left_as_it_is(clips: Path, tmp_path: Path) -> None:
    train_base(tiny_run(clips, steps=1), tmp_path / "run")
    for number, path in enumerate((tmp_path / "run/checkpoints").iterdir()):
        path.write_bytes([b"not a checkpoint\n" * 9, path.read_bytes()[:100]][number])
    before = (tmp_path / "run/stats.jsonl").read_bytes()
    with pytest.raises(TrainingError, match=r"no checkpoint in .* can be read"):
        train_base(tiny_run(clips, steps=1), tmp_path / "run", resume=True)
    assert (tmp_path / "run/stats.jsonl").read_bytes() == before


def test_the_last_weights_are_written_before_the_checkpoint_that_ends_the_run(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoint.save

    def killed(folder: Path, state: dict[str, Any], *, keep: int) -> Path:
        if state["step"] == 2:
            raise KeyboardInterrupt
        return save(folder, state, keep=keep)

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train_base(tiny_run(clips, steps=2), tmp_path)
    assert read_notes(tmp_path / "base.safetensors")["steps"] == "2"


def test_the_loss_scale_of_half_precision_is_resumed(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(settings: RunConfig) -> Fabric:  # as 16-mixed on a GPU, which Fabric does not offer for the CPU
        fabric = Fabric(accelerator=settings.accelerator, plugins=[MixedPrecision("16-mixed", "cpu")])
        fabric.launch()
        return fabric

    monkeypatch.setattr("megaportraits.training.loop.make_fabric", half)
    train_base(tiny_run(clips, steps=1), tmp_path)
    state = checkpoint.latest(tmp_path / "checkpoints")
    assert state is not None and state["precision"]["scale"] > 128
    state["precision"]["scale"] = 128.0
    checkpoint.save(tmp_path / "checkpoints", state, keep=1)
    train_base(tiny_run(clips, steps=2), tmp_path, resume=True)
    state = checkpoint.latest(tmp_path / "checkpoints")
    assert state is not None and state["step"] == 2 and state["precision"]["scale"] <= 128


def test_the_loss_scale_changes_once_a_step_however_many_optimizers_there_are(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=1)

    def half(settings: RunConfig) -> Fabric:
        fabric = Fabric(accelerator=settings.accelerator, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
        fabric.launch()
        return fabric

    monkeypatch.setattr("megaportraits.training.loop.make_fabric", half)
    train_base(tiny_run(clips, steps=2, adversarial=1, feature_matching=1), tmp_path)
    assert scaler.get_scale() == 4 * 64  # doubled twice: gradients were finite


def test_weights_without_the_options_that_start_at_zero_are_a_start_with_the_same_pictures(
    tiny_config: ModelConfig,
) -> None:
    torch.manual_seed(0)
    off = dict.fromkeys(("refine_flow", "expression_in_generator", "expression_change"), False)
    old = BaseModel(tiny_config.model_copy(update=off)).eval()
    new = BaseModel(tiny_config).eval()
    start_from(new, old)
    source, driver = torch.rand(2, 1, 3, 32, 32)
    torch.testing.assert_close(new(source, driver).image, old(source, driver).image)


def test_a_correction_of_z_is_kept_only_if_the_config_names_its_blendshapes(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    motion = tiny_config.motion.model_copy(update={"blendshapes": ("jawOpen", "eyeBlinkLeft")})
    corrected, plain = tiny_config.model_copy(update={"motion": motion}), tiny_config
    old, new, again = BaseModel(corrected).eval(), BaseModel(plain).eval(), BaseModel(corrected).eval()
    assert old.motion.correction is not None and again.motion.correction is not None
    old.motion.correction.gain.fill_(1.0)
    start_from(new, old)
    start_from(again, old)
    source, driver = torch.rand(2, 1, 3, 32, 32)
    torch.testing.assert_close(new(source, driver).image, old(source, driver).image)
    assert again.motion.correction.gain.all()


def test_validation_images_use_estimated_blendshapes_as_at_inference(clips: Path) -> None:
    stage, batch = stage_and_batch(clips)
    motion = stage.config.model.motion.model_copy(update={"blendshapes": ("jawOpen",)})
    model = BaseModel(stage.config.model.model_copy(update={"motion": motion})).eval()
    assert model.motion.correction is not None
    model.motion.correction.gain.fill_(1.0)
    for parameter in model.requires_grad_(False).parameters():
        if not parameter.any():  # what changes nothing at the start
            torch.nn.init.normal_(parameter, std=0.1)
    pictures = []
    for score in (torch.nan, 0.0, 1.0):
        target = replace(batch.target, blendshapes=torch.full_like(batch.target.blendshapes, score))
        pictures.append(stage.sample(model, replace(batch, target=target))[0])
    unknown, shut, opened = pictures
    assert torch.equal(unknown, shut)  # z, whose read-out is zero yet, says 0
    assert (opened - shut).abs().max() > 1e-4


def test_motion_in_training_is_motion_at_inference(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one frame without augmentation, by the same pose and blendshapes; only memory layouts differ."""
    names = ("jawOpen", "eyeBlinkLeft")
    config = tiny_run(clips)
    motion = config.model.motion.model_copy(update={"blendshapes": names, "append_blendshapes": True})
    data = config.data.model_copy(update={"driver_augmentation": False, "random_background": False})
    config = config.model_copy(update={"model": config.model.model_copy(update={"motion": motion}), "data": data})
    torch.manual_seed(0)
    stage = BaseStage(config, ())
    assert stage.model.motion.correction is not None
    for buffer in stage.model.motion.correction.buffers():
        buffer.copy_(0.1 * torch.rand_like(buffer))
    stage.model.motion.correction.deviation.fill_(0.5)
    dataset = PairDataset(clips, length=1, size=32, seed=3)
    batch = collate([dataset[0]])
    frames = batch.source, batch.target
    for frame in frames:
        frame.blendshapes.uniform_()
    for view in (*frames, batch.driver):
        view.matte.fill_(255)
    monkeypatch.setattr("megaportraits.training.views.color_jitter", lambda image, **_: image)
    with torch.no_grad():
        trained, _ = stage.motions(batch, make_views(batch, config, torch.Generator().manual_seed(0)))
    heads, poses = [], []
    for frame, picture in zip(frames, (batch.source, batch.driver), strict=True):
        rotation, translation, scale = (getattr(frame, name)[0].double() for name in POSE)
        poses.append(HeadPose(rotation.numpy(), translation.numpy(), float(scale)))
        heads.append(picture.image[0].permute(1, 2, 0).contiguous().numpy())
    scores = [frame.blendshapes[0].numpy() for frame in frames]
    inferred = Motion.cat(Avatar(stage.model, pose_from="landmarks").motions(heads, poses, scores))
    residual = trained.expression.residual
    assert residual is not None and residual.abs().min() > 0 and residual.abs().max() < MAX_RESIDUAL_SIGMA
    torch.testing.assert_close(trained.expression.vector, inferred.expression.vector, atol=1e-5, rtol=0)
    assert all(torch.equal(getattr(trained.pose, name), getattr(inferred.pose, name)) for name in POSE)


def test_appended_blendshapes_must_be_those_of_the_calibration(tiny_config: ModelConfig) -> None:
    def model(*names: str, seeing: bool) -> BaseModel:
        motion = tiny_config.motion.model_copy(update={"blendshapes": names, "append_blendshapes": seeing})
        return BaseModel(tiny_config.model_copy(update={"motion": motion}))

    with pytest.raises(WeightsError, match=r"motion.blendshapes: .*jawOpen.* -> .*mouthClose"):
        start_from(model("jawOpen", "mouthClose", seeing=True), model("jawOpen", seeing=False))
    with pytest.raises(WeightsError, match=r"append_blendshapes: False -> True"):
        start_from(model("jawOpen", seeing=True), model("jawOpen", seeing=False))


def test_weights_of_another_model_are_refused_by_the_values_that_differ(clips: Path, tmp_path: Path) -> None:
    config, start = tiny_run(clips), tmp_path / "start.safetensors"
    motion = config.model.motion.model_copy(update={"z": 10})
    other = config.model.model_copy(update={"name": "other", "motion": motion, "refine_flow": False})
    save_base(start, BaseModel(other))
    with pytest.raises(WeightsError, match=r"\(theirs -> its\): motion.z: 10 -> 12\n"):
        train_base(config, tmp_path / "run", init=start)
    smaller = tiny_run(clips).model_copy(update={"model": other.model_copy(update={"motion": config.model.motion})})
    save_base(start, BaseModel(config.model))
    with pytest.raises(WeightsError, match="refine_flow: True -> False"):  # what was learned would be lost
        train_base(smaller, tmp_path / "run", init=start)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("random_background", [False, True])
def test_without_alpha_drivers_alone_may_have_a_background(clips: Path, random_background: bool) -> None:
    stage, batch = stage_and_batch(clips)
    model = stage.config.model.model_copy(update={"predict_matte": False})
    data = stage.config.data.model_copy(update={"random_background": random_background, "driver_augmentation": False})
    for view in (batch.source, batch.target, batch.driver):
        view.matte.zero_()
    config = stage.config.model_copy(update={"model": model, "data": data})
    views = make_views(batch, config, torch.Generator().manual_seed(0))
    assert not views.source_full.any() and not views.target.any()
    assert bool(views.driver_augmented.any()) == random_background


def test_without_alpha_validation_compares_the_foreground_as_training_does(clips: Path) -> None:
    stage, batch = stage_and_batch(clips)
    config = stage.config.model_copy(update={"model": stage.config.model.model_copy(update={"predict_matte": False})})
    stage = BaseStage(config, stage.expression_names)
    batch.target.matte.zero_()
    with torch.no_grad():
        _, numbers = stage.sample(stage.model.eval(), batch)
    assert numbers["psnr"] == math.inf


def test_only_the_named_parts_learn(clips: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    torch.manual_seed(1)
    save_base(start, BaseModel(tiny_run(clips).model))
    train_base(tiny_run(clips, 2, optim={"parts": ["generator_2d", "projection"]}), tmp_path / "run", init=start)
    before, after = load_file(start), load_file(tmp_path / "run" / "base.safetensors")
    changed = {name.partition(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"generator_2d", "projection"}


def test_unknown_parts_are_refused_by_name(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="generator_4d") as caught:
        train_base(tiny_run(clips, 2, optim={"parts": ["generator_4d"]}), tmp_path / "run")
    assert "generator_2d" in str(caught.value.fix)
    assert not (tmp_path / "run").exists()


def test_a_run_is_never_overwritten_unasked(clips: Path, tmp_path: Path) -> None:
    train_base(tiny_run(clips, steps=1), tmp_path / "run")
    with pytest.raises(TrainingError, match="already holds a run"):
        train_base(tiny_run(clips, steps=1), tmp_path / "run")


def test_the_written_weights_are_float16_and_load_again(clips: Path, tmp_path: Path) -> None:
    train_base(tiny_run(clips, steps=1), tmp_path / "run")
    path = tmp_path / "run/base.safetensors"
    assert {t.dtype for t in load_file(path).values()} == {torch.float16}
    model = load_base(path)
    assert model.config.name == "tiny"
    assert model(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)).image.isfinite().all()


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, {"step": step}, keep=5)
    newest = tmp_path / "step-00000002.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    assert checkpoint.latest(tmp_path) == {"step": 1}


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in range(5):
        checkpoint.save(tmp_path, {"step": step}, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003.pt", "step-00000004.pt"]


def test_a_nan_names_its_loss_and_step(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megaportraits.training.base.warp_loss", lambda *a, **k: torch.tensor(math.nan))
    with pytest.raises(TrainingError, match="loss 'warp_source' is nan at step 1"):
        train_base(tiny_run(clips), tmp_path / "run")


def test_cosine_schedule_starts_and_ends_at_the_papers_rates() -> None:
    optim = load_config(TrainBaseConfig, "paper-512").optim
    assert learning_rate(optim, 0) == pytest.approx(2e-4)
    assert learning_rate(optim, optim.steps) == pytest.approx(1e-6)
    assert learning_rate(optim, optim.steps // 2) == pytest.approx((2e-4 + 1e-6) / 2)


def test_the_read_out_is_named_by_the_first_clip_that_has_names(clips: Path, tmp_path: Path) -> None:
    labels = FrameLabels(np.eye(3), np.zeros(2), 1.0)
    frame = ClipFrame(np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8), labels)
    (clips / "clips-000000.tar").rename(clips / "clips-000001.tar")
    with ShardWriter(clips, 0) as shard:
        shard.write(ClipRecord("r", "real", "p", None, 32, 25.0, (), (labels, labels)), [frame, frame])
    train_base(tiny_run(clips, steps=2), tmp_path / "run")
    state = checkpoint.latest(tmp_path / "run/checkpoints")
    assert state is not None and state["stage"]["readout.weight"].shape[0] == 3 + 2


def test_pairs_depend_on_seed_and_index_alone(clips: Path) -> None:
    a, b = (PairDataset(clips, length=9, size=16, seed=3, cross_identity=0.5) for _ in range(2))
    assert same(a[7], b[7])


def test_cross_identity_drivers_make_the_targets_motion(clips: Path) -> None:
    dataset = PairDataset(clips, length=50, size=32, cross_identity=1.0)
    item = dataset[0]
    assert item.cross and not torch.equal(item.driver.image, item.target.image)


def test_unknown_labels_do_not_teach() -> None:
    predicted = torch.zeros(2, 3, requires_grad=True)
    labels = torch.tensor([[1.0, math.nan, 1.0], [math.nan, math.nan, math.nan]])
    loss = readout_loss(predicted, labels, torch.ones(3))
    loss.backward()
    assert float(loss.detach()) == 1.0
    assert predicted.grad is not None and torch.equal(predicted.grad != 0, ~labels.isnan())


def test_config_problems_are_reported_all_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(TrainBaseConfig, {"optim": {"steps": "many"}, "lose": {}}, "x.yaml")
    assert "optim.steps" in str(error.value) and "lose" in str(error.value)


def test_overrides_reach_nested_values_and_wrong_ones_are_refused() -> None:
    assert load_config(TrainBaseConfig, "nano", ["optim.steps=7"]).optim.steps == 7
    with pytest.raises(ConfigError, match="not of the form"):
        load_config(TrainBaseConfig, "nano", ["optim.steps"])
    with pytest.raises(ConfigError, match=r"Shipped configs: .*nano"):
        load_config(TrainBaseConfig, "mega")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(TrainBaseConfig, "nano", ["optim.parts=[generator_2d"])


def test_the_average_forgets_its_random_start_and_then_keeps_its_decay() -> None:
    update = warmed_ema(0.9)
    mean, value = [torch.zeros(3)], [torch.ones(3)]
    update(mean, value, 1)
    torch.testing.assert_close(mean[0], torch.full((3,), 9 / 11))
    mean = [torch.zeros(3)]
    update(mean, value, 10_000)
    torch.testing.assert_close(mean[0], torch.full((3,), 0.1))


def test_without_image_losses_the_same_warps_learn_and_no_image_is_made(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_image = {"reconstruction": 0, "matte": 0, "contrastive": 0}
    (drawing, batch), (warping, _) = stage_and_batch(clips), stage_and_batch(clips, **no_image)
    warping.load_state_dict(drawing.state_dict())
    assert drawing.renders_images and not warping.renders_images
    drawn = drawing("generator", batch, 1, torch.Generator().manual_seed(0))
    monkeypatch.setattr(BaseModel, "render", None)
    monkeypatch.setattr(BaseModel, "encode", None)
    warped = warping("generator", batch, 1, torch.Generator().manual_seed(0))
    assert set(warped) == {"pose", "expression", "warp_source", "warp_driver"}
    for name, loss in warped.items():
        torch.testing.assert_close(loss, drawn[name])
    sum(warped.values()).backward()
    for part in (warping.model.warp_source, warping.model.warp_driver, warping.model.motion.expression):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())
