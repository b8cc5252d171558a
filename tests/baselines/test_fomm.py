from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from megaportraits.baselines.fomm import FirstOrderMotionModel, Keypoints, sparse_motion
from megaportraits.baselines.keypoints import SparseMotion, expected_positions, gaussians, heat_maps
from megaportraits.baselines.storage import load_baseline, save_baseline
from megaportraits.config import FommConfig, parse_config
from megaportraits.errors import WeightsError
from megaportraits.ops.warping import cell_centres
from tests.conftest import TINY_FOMM


@pytest.fixture
def model() -> FirstOrderMotionModel:
    torch.manual_seed(0)
    return FirstOrderMotionModel(parse_config(FommConfig, TINY_FOMM, "tiny")).eval()


def random_keypoints(seed: int, count: int = 4) -> Keypoints:
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.eye(2) + 0.3 * torch.randn(2, count, 2, 2, generator=generator)
    return Keypoints(torch.rand(2, count, 2, generator=generator) - 0.5, jacobian)


def conv_block(inputs: int, outputs: int, kernel: int = 3) -> int:
    """Parameters of a convolution with bias and of the norm after it."""
    return inputs * outputs * kernel**2 + outputs + 2 * outputs


def hourglass(inputs: int, width: int) -> int:
    """Parameters of the published hourglass: five levels, at most 1024 features."""
    down = [inputs, *(min(1024, width * 2 ** (i + 1)) for i in range(5))]
    count = sum(conv_block(a, b) for a, b in itertools.pairwise(down))
    for level in reversed(range(5)):
        skipped = 1 if level == 4 else 2
        count += conv_block(skipped * min(1024, width * 2 ** (level + 1)), min(1024, width * 2**level))
    return count


def test_the_default_has_the_published_sizes() -> None:
    """14.21 M parameters of the detector and 45.57 M of the generator, from the layers of `vox-256.yaml`."""
    with torch.device("meta"):
        model = FirstOrderMotionModel(FommConfig())
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    detector = hourglass(3, 32) + 35 * 49 * (10 + 40) + 50
    dense = hourglass(44, 64) + 108 * 49 * (11 + 1) + 12
    bottleneck = 6 * 2 * (256 * 256 * 9 + 256 + 2 * 256)
    generator = conv_block(3, 64, 7) + conv_block(64, 128) + conv_block(128, 256) + bottleneck
    generator += conv_block(256, 128) + conv_block(128, 64) + 64 * 49 * 3 + 3
    assert counts["detector"] == detector == 14_215_368
    assert sum(counts.values()) - counts["detector"] == dense + generator == 45_575_391


def test_images_alpha_and_occlusion_have_their_shapes_and_ranges(model: FirstOrderMotionModel) -> None:
    made = model(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32))
    assert made.image.shape == (2, 3, 32, 32) and made.alpha is not None and made.alpha.shape == (2, 1, 32, 32)
    assert made.flow.shape == (2, 8, 8, 2) and made.occlusion.shape == (2, 1, 8, 8)
    for values in (made.image, made.alpha, made.occlusion):
        assert values.min() >= 0 and values.max() <= 1


def test_equal_source_and_driver_give_the_identity_flow(model: FirstOrderMotionModel) -> None:
    image = torch.rand(2, 3, 32, 32)
    made = model(image, image)
    torch.testing.assert_close(made.flow, cell_centres((8, 8), image).expand(2, -1, -1, -1), atol=1e-5, rtol=0)
    other = model(image, torch.rand(2, 3, 32, 32))
    assert (other.flow - made.flow).abs().max() > 1e-3


def test_each_field_maps_its_driver_keypoint_to_its_source_keypoint_with_the_jacobians() -> None:
    source, driver = random_keypoints(0), random_keypoints(1)
    size = (64, 64)
    fields = sparse_motion(source, driver).fields(size)
    cells = cell_centres(size, source.position)
    torch.testing.assert_close(fields[:, 0], cells.expand(2, -1, -1, -1))
    for k in range(4):
        linear = source.jacobian[:, k] @ torch.linalg.inv(driver.jacobian[:, k])
        wanted = torch.einsum("bij,bhwj->bhwi", linear, cells - driver.position[:, k, None, None])
        torch.testing.assert_close(fields[:, k + 1], wanted + source.position[:, k, None, None], atol=1e-5, rtol=1e-5)


def test_a_pure_shift_of_all_keypoints_moves_every_field_by_it() -> None:
    driver = random_keypoints(0)
    shifted = Keypoints(driver.position + torch.tensor([0.1, -0.2]), driver.jacobian)
    fields = sparse_motion(shifted, driver).fields((6, 6))
    moved = fields[:, 1:] - cell_centres((6, 6), driver.position)
    torch.testing.assert_close(moved, torch.tensor([0.1, -0.2]).expand_as(moved), atol=1e-5, rtol=0)


def test_heat_maps_sum_to_one_and_a_peak_lies_at_its_cell() -> None:
    logits = torch.zeros(1, 2, 8, 8)
    logits[0, 0, 2, 5] = 20
    heat = heat_maps(logits, 0.1)
    torch.testing.assert_close(heat.sum((2, 3)), torch.ones(1, 2))
    positions = expected_positions(heat)
    torch.testing.assert_close(positions[0, 0], torch.tensor([5.5 / 4 - 1, 2.5 / 4 - 1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(positions[0, 1], torch.zeros(2), atol=1e-6, rtol=0)  # a flat map: the middle
    assert gaussians(positions, (8, 8))[0, 0].argmax() == 2 * 8 + 5


def test_an_untrained_detector_has_identity_jacobians(model: FirstOrderMotionModel) -> None:
    found = model.motion(torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(found.jacobian, torch.eye(2).expand(2, 4, 2, 2))
    assert found.position.abs().max() <= 1


def test_relative_motion_starts_at_the_source_and_is_absolute_for_the_same_start() -> None:
    source, first, now = (random_keypoints(seed) for seed in range(3))
    for got, wanted in ((first.relative(first, source), source), (now.relative(first, first), now)):
        torch.testing.assert_close(got.position, wanted.position, atol=1e-5, rtol=0)
        torch.testing.assert_close(got.jacobian, wanted.jacobian, atol=1e-5, rtol=1e-4)


def test_an_occluded_source_does_not_reach_the_image(model: FirstOrderMotionModel) -> None:
    features = torch.rand(1, 8, 8, 8)
    hidden = torch.zeros(1, 1, 8, 8)
    first, second = model.generator(features, hidden), model.generator(torch.rand(1, 8, 8, 8), hidden)
    torch.testing.assert_close(first[0], second[0])
    assert not torch.allclose(model.generator(features, hidden + 1)[0], first[0])


def test_fields_of_volumes_are_in_three_dimensions() -> None:
    points, turn = torch.zeros(1, 2, 3), torch.eye(3).flip(0).expand(1, 2, 3, 3)  # exchanges x and z
    fields = SparseMotion(points, points, turn).fields((2, 4, 6))
    assert fields.shape == (1, 3, 2, 4, 6, 3)
    torch.testing.assert_close(fields[0, 1], cell_centres((2, 4, 6), points).flip(-1))


def test_saved_weights_give_the_same_images(model: FirstOrderMotionModel, tmp_path: Path) -> None:
    model.half().float()
    save_baseline(tmp_path / "b.safetensors", model, model.config, notes={"steps": "3"})
    again = load_baseline(tmp_path / "b.safetensors", "fomm")
    images = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again(*images).image, model(*images).image)
    with pytest.raises(WeightsError, match="expected a face-vid2vid model"):
        load_baseline(tmp_path / "b.safetensors", "face-vid2vid")
