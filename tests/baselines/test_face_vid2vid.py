from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from megaportraits.baselines.face_vid2vid import FaceMotion, FaceSource, FaceVid2Vid, sparse_motion
from megaportraits.baselines.storage import load_baseline, save_baseline
from megaportraits.config import FaceVid2VidConfig, parse_config
from megaportraits.ops.geometry import HEAD_HALF_CM, HeadPose, euler_to_matrix
from megaportraits.ops.warping import cell_centres, sample_at
from tests.conftest import TINY_FACE_VID2VID


@pytest.fixture
def model() -> FaceVid2Vid:
    torch.manual_seed(0)
    return FaceVid2Vid(parse_config(FaceVid2VidConfig, TINY_FACE_VID2VID, "tiny")).eval()


def motion_of(yaw: float, pitch: float, roll: float, seed: int = 0) -> FaceMotion:
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.from_numpy(euler_to_matrix(yaw, pitch, roll)).float()[None]
    shift, deltas = torch.randn(1, 3, generator=generator), torch.randn(1, 4, 3, generator=generator)
    return FaceMotion(rotation, 0.1 * shift, 0.05 * deltas)


def test_the_default_has_the_sizes_of_the_papers_figures() -> None:
    """Layer by layer, from the appendix; the paper gives no total."""
    with torch.device("meta"):
        model = FaceVid2Vid(FaceVid2VidConfig())
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}

    def conv_block(inputs: int, outputs: int, cells: int) -> int:
        return inputs * outputs * cells + outputs + 2 * outputs

    volume = 256 * 512 + 512 + 6 * 2 * (32 * 32 * 27 + 32 + 2 * 32)
    assert counts["appearance"] == conv_block(3, 64, 49) + conv_block(64, 128, 9) + conv_block(128, 256, 9) + volume
    down, up = (3, 64, 128, 256, 512, 1024), (1024, 512, 256, 128, 64, 32)
    canonical = sum(conv_block(a, b, 9) for a, b in itertools.pairwise(down))
    canonical += 1024 * 16384 + 16384
    canonical += sum(conv_block(a, b, 27) for a, b in itertools.pairwise(up)) + 32 * 20 * 343 + 20
    assert counts["canonical"] == canonical
    heads = 2048 * (3 * 66 + 3 + 60) + (3 * 66 + 3 + 60)
    assert 23.4e6 < counts["pose"] - heads < 23.6e6  # a ResNet-50 without its classifier
    assert counts["merge"] + counts["project"] == conv_block(512, 256, 9) + 256 * 256 + 256
    dense, inputs = 0, 21 * 5
    widths = (inputs, 64, 128, 256, 512, 1024)
    dense += sum(conv_block(a, b, 27) for a, b in itertools.pairwise(widths))
    dense += conv_block(1024, 512, 27) + sum(conv_block(2 * w, w // 2, 27) for w in (512, 256, 128, 64))
    features = 32 + inputs
    assert counts["dense_motion"] == dense + features * 21 * 343 + 21 + features * 16 * 49 + 1


def test_images_alpha_and_occlusion_have_their_shapes(model: FaceVid2Vid) -> None:
    made = model(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32))
    assert made.image.shape == (2, 3, 32, 32) and made.alpha is not None and made.alpha.shape == (2, 1, 32, 32)
    assert made.flow.shape == (2, 3, 8, 8, 3) and made.occlusion.shape == (2, 1, 8, 8)


def test_keypoints_turn_like_head_points_then_move() -> None:
    """`HeadPose.project` has y up in centimetres; keypoints have y down in crop units."""
    motion = motion_of(25, -10, 15)
    head = np.random.default_rng(0).normal(size=(4, 3)) * 6  # centimetres
    canonical = torch.from_numpy(head * (1, -1, 1) / HEAD_HALF_CM).float()[None]
    turned = HeadPose(motion.rotation[0].double().numpy(), np.zeros(2), 1.0).project(head)
    wanted = torch.from_numpy(turned).float() + motion.translation + motion.deltas[0]
    torch.testing.assert_close(motion.keypoints(canonical)[0], wanted, atol=1e-5, rtol=0)


def test_equal_motion_gives_the_identity_flow_and_leaves_the_volume(model: FaceVid2Vid) -> None:
    image = torch.rand(2, 3, 32, 32)
    made = model(image, image)
    cells = cell_centres((3, 8, 8), image).expand(2, -1, -1, -1, -1)
    torch.testing.assert_close(made.flow, cells, atol=1e-5, rtol=0)
    volume = torch.rand(2, 4, 3, 8, 8)
    torch.testing.assert_close(sample_at(volume, made.flow), volume, atol=1e-4, rtol=0)


def test_a_rigid_turn_of_the_driver_is_one_rigid_field() -> None:
    """Without deltas all fields are u(p) = R_s R_d^-1 (p - t_d) + t_s."""
    still = torch.zeros(1, 4, 3)
    source, driver = (FaceMotion(m.rotation, m.translation, still) for m in (motion_of(5, 0, 3), motion_of(30, 10, 0)))
    canonical = torch.rand(1, 4, 3, generator=torch.Generator().manual_seed(3)) - 0.5
    motion = sparse_motion(FaceSource(torch.zeros(1, 1, 1, 1, 1), canonical, source), driver)
    fields = motion.fields((3, 5, 5))[0, 1:]
    torch.testing.assert_close(fields, fields[:1].expand_as(fields), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        FaceMotion(source.rotation, source.translation, still).keypoints(canonical), motion.source
    )
    assert not torch.allclose(fields[0], cell_centres((3, 5, 5), canonical), atol=0.05)


def test_bins_give_the_middle_for_flat_logits_and_their_angle_for_a_peak(model: FaceVid2Vid) -> None:
    net = model.pose
    with torch.no_grad():
        for part in (net.angles, net.translation, net.deltas):
            part.weight.zero_()
            part.bias.zero_()
        flat = net(torch.rand(1, 3, 32, 32))
        torch.testing.assert_close(flat.rotation, torch.eye(3)[None], atol=1e-5, rtol=0)
        for angle, place in enumerate((40, 30, 35)):  # bins of yaw, pitch and roll
            net.angles.bias[angle * 66 + place] = 100
        peaked = net(torch.rand(1, 3, 32, 32)).rotation[0]
    wanted = euler_to_matrix(*((place - 32.5) * 3 for place in (40, 30, 35)))
    torch.testing.assert_close(peaked, torch.from_numpy(wanted).float(), atol=1e-4, rtol=0)


def test_relative_motion_starts_at_the_source_and_is_absolute_for_the_same_start() -> None:
    source, first, now = motion_of(5, 0, 0, 1), motion_of(-20, 4, 0, 2), motion_of(10, -8, 6, 3)
    for got, wanted in ((first.relative(first, source), source), (now.relative(first, first), now)):
        for name in ("rotation", "translation", "deltas"):
            torch.testing.assert_close(getattr(got, name), getattr(wanted, name), atol=1e-5, rtol=0)


def test_saved_weights_give_the_same_images(model: FaceVid2Vid, tmp_path: Path) -> None:
    model.half().float()
    save_baseline(tmp_path / "b.safetensors", model, model.config, notes={})
    again = load_baseline(tmp_path / "b.safetensors", "face-vid2vid")
    images = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again(*images).image, model(*images).image)
