from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from megaportraits.config import StudentConfig, TrainStudentConfig, load_config, parse_config
from megaportraits.errors import ConfigError, ShapeError, WeightsError
from megaportraits.models.storage import find_student, load_base, load_student, save_student
from megaportraits.models.student import Student, resized
from megaportraits.nn.adaptive import SpatiallyAdaptiveNorm
from tests.conftest import TINY_STUDENT


def randomized(avatars: int = 3, **changes: object) -> Student:
    """A student whose identity tensors are random, as after some training."""
    torch.manual_seed(0)
    config = parse_config(StudentConfig, {**TINY_STUDENT, **changes}, "tiny")
    model = Student(config, [f"a{i}" for i in range(avatars)])
    for tensor in model.tensors:
        torch.nn.init.normal_(tensor)
    return model.eval().requires_grad_(False)


def gmac(config: StudentConfig) -> float:
    """Multiply-adds of a frame, 1e9, once the identity is known."""
    with torch.device("meta"):
        model = Student(config, ["one"]).eval()
        identity = model.identity(torch.zeros(1, dtype=torch.long))
        with FlopCounterMode(display=False) as counter:
            model.render(torch.zeros(1, 3, config.input_size, config.input_size), identity)
    return counter.get_total_flops() / 2e9


def test_the_papers_student_costs_a_tenth_of_its_teacher_and_eight_megabytes_an_avatar() -> None:
    config = load_config(TrainStudentConfig, "student").model
    with torch.device("meta"):
        model = Student(config, ["one"])
        assert model(torch.zeros(1, 3, 512, 512), torch.zeros(1, dtype=torch.long)).image.shape == (1, 3, 1024, 1024)
    megabytes = 2 * sum(tensor[0].numel() for tensor in model.tensors) / 1e6
    assert megabytes == pytest.approx(8, abs=1), "100 avatars are 800 MB (4.5)"
    assert max(tensor.shape[-1] for tensor in model.tensors) == 64
    assert gmac(config) == pytest.approx(26.5, abs=1), "a tenth of the base model's 260 alone"


@pytest.mark.parametrize("size", [128, 256])
def test_nano_takes_about_one_gmac_at_both_sizes(size: int) -> None:
    config = load_config(TrainStudentConfig, "student-nano", [f"model.image_size={size}"]).model
    assert gmac(config) < 1.1


def test_the_index_selects_the_avatar() -> None:
    model, driver = randomized(), torch.rand(1, 3, 64, 64)
    pictures = [model(driver, torch.tensor([i])).image for i in range(3)]
    assert (pictures[0] - pictures[1]).abs().max() > 0.01 and (pictures[1] - pictures[2]).abs().max() > 0.01
    mixed = model(driver.expand(3, -1, -1, -1), torch.tensor([2, 0, 1])).image
    torch.testing.assert_close(mixed, torch.cat([pictures[i] for i in (2, 0, 1)]), atol=1e-5, rtol=1e-4)


def test_the_driver_changes_the_picture() -> None:
    model = randomized()
    drivers = torch.rand(2, 3, 64, 64)
    a, b = model(drivers, torch.tensor([1, 1])).image
    assert (a - b).abs().max() > 0.01


def test_encoder_skips_join_where_the_generator_has_the_encoders_resolutions() -> None:
    plain = load_config(TrainStudentConfig, "student-nano", ["model.encoder_skips=false"]).model
    paper = load_config(TrainStudentConfig, "student").model
    with torch.device("meta"):
        nano = Student(plain.model_copy(update={"encoder_skips": True}), ["one"])
        assert not Student(plain, ["one"]).skips and not Student(paper, ["one"]).skips
    channels = [(skip[2].in_channels, skip[2].out_channels) for skip in nano.skips.values()]
    assert list(nano.skips) == ["3", "4", "5"] and channels == [(128, 128), (64, 128), (32, 96)]  # 8, 16, 32 px


def test_one_identity_serves_many_drivers() -> None:
    model, drivers = randomized(), torch.rand(3, 3, 64, 64)
    once = model.render(drivers, model.identity(torch.tensor([2])))
    every = model(drivers, torch.tensor([2, 2, 2]))
    torch.testing.assert_close(once.image, every.image)
    assert once.alpha is not None and every.alpha is not None
    torch.testing.assert_close(once.alpha, every.alpha)


def test_pictures_are_as_large_as_configured_and_lie_in_0_1() -> None:
    for size in (64, 128):
        out = randomized(image_size=size)(torch.rand(2, 3, 96, 96), torch.tensor([0, 1]))
        assert out.image.shape == (2, 3, size, size) and out.alpha is not None and out.alpha.shape == (2, 1, size, size)
        assert out.image.min() >= 0 and out.image.max() <= 1
    assert randomized(predict_matte=False)(torch.rand(1, 3, 64, 64), torch.tensor([0])).alpha is None


def test_every_parameter_learns_and_of_the_identities_only_the_chosen_ones() -> None:
    model = randomized().train().requires_grad_(True)
    out = model(torch.rand(2, 3, 64, 64), torch.tensor([0, 2]))
    assert out.alpha is not None
    (out.image.square().mean() + out.alpha.square().mean()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    for tensor in model.tensors:
        assert tensor.grad is not None
        assert tensor.grad[0].any() and tensor.grad[2].any() and not tensor.grad[1].any()


def test_identity_tensors_are_capped_and_enlarged_bilinearly() -> None:
    model = randomized(identity_size=4)
    assert max(tensor.shape[-1] for tensor in model.tensors) == 4
    norm = SpatiallyAdaptiveNorm(3, 8)
    coarse = torch.randn(1, 3, 4, 4)
    fine = torch.nn.functional.interpolate(coarse, (8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(norm.modulation(coarse), norm.modulation(fine))


def test_spade_without_a_tensor_is_instance_norm() -> None:
    norm, x = SpatiallyAdaptiveNorm(3, 8), torch.randn(2, 3, 8, 8) * 4 + 1
    out = norm(x, norm.modulation(torch.zeros(1, 3, 4, 4)))
    torch.testing.assert_close(out.mean((2, 3)), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var((2, 3), correction=0), torch.ones(2, 3), atol=1e-3, rtol=0)


def test_a_file_is_all_that_a_student_needs(tmp_path: Path) -> None:
    model = randomized().half().float()  # what float16 can hold comes back exactly
    save_student(tmp_path / "s.safetensors", model)
    loaded = load_student(tmp_path / "s.safetensors")
    assert loaded.avatars == ("a0", "a1", "a2") and loaded.config == model.config
    driver, index = torch.rand(2, 3, 64, 64), torch.tensor([1, 2])
    assert torch.equal(loaded(driver, index).image, model(driver, index).image)
    assert loaded.find("a1") == 1
    with pytest.raises(WeightsError, match="has no avatar 'nobody'"):
        loaded.find("nobody")
    with pytest.raises(WeightsError, match="expected a base model"):
        load_base(tmp_path / "s.safetensors")
    with pytest.raises(WeightsError, match="does not exist"):
        load_student(tmp_path / "other.safetensors")


def test_wrong_inputs_are_refused() -> None:
    model = randomized()
    with pytest.raises(ShapeError, match="index: expected"):
        model(torch.rand(2, 3, 64, 64), torch.tensor([0]))
    with pytest.raises(ShapeError, match="driver: expected"):
        model(torch.rand(1, 3, 64, 32), torch.tensor([0]))
    for changes in ({"input_size": 40}, {"image_size": 96}, {"doublings": 9}):
        with pytest.raises(ConfigError):
            parse_config(StudentConfig, {**TINY_STUDENT, **changes}, "tiny")


def test_the_shipped_student_is_called_by_its_name_and_files_by_their_paths(tmp_path: Path) -> None:
    shipped = load_student(find_student("nano"))
    assert len(shipped.avatars) == 8 and shipped.config.image_size == 256
    for path in (tmp_path / "mine.safetensors", tmp_path / "folder", Path("student.onnx")):
        assert find_student(str(path)) == path
    with pytest.raises(WeightsError, match="no student named 'huge'"):
        find_student("huge")


@torch.no_grad()
def test_a_resized_student_draws_the_same_picture_in_blocks_and_comes_back() -> None:
    small, driver, index = randomized(image_size=64), torch.rand(2, 3, 64, 64), torch.tensor([0, 1])
    picture = small(driver, index).image
    for size in (128, 256):
        large = resized(small, size).eval()
        assert large.config.image_size == size and large.avatars == small.avatars
        blocks = torch.nn.functional.interpolate(picture, (size, size), mode="nearest")
        torch.testing.assert_close(large(driver, index).image, blocks)
        torch.testing.assert_close(resized(large, 64).eval()(driver, index).image, picture)
    with pytest.raises(ConfigError, match="must be 1, 2 or 4 times"):
        resized(small, 192)
