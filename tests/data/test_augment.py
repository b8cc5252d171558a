from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from megaportraits.data.augment import FEATURES_CM, color_jitter, random_warp, warp_field
from megaportraits.data.thin_plate import CELLS, thin_plate_field, thin_plate_warp
from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.ops.warping import Pose, project

NAMES = ("jawOpen", "eyeBlink_L", "eyeBlink_R", "jawLeft", "jawRight", "mouthRollUpper")


def poses(count: int, seed: int = 0) -> Pose:
    rng = np.random.default_rng(seed)
    rotation = np.stack([euler_to_matrix(*rng.normal(size=3) * (12, 6, 8)) for _ in range(count)])
    return Pose(
        torch.tensor(rotation, dtype=torch.float32),
        torch.tensor(rng.normal(size=(count, 2)) * 0.05, dtype=torch.float32),
        torch.tensor(rng.uniform(0.85, 1.15, count), dtype=torch.float32),
    )


def lids_and_lips(opening: float) -> torch.Tensor:
    """Upper and lower lid of both eyes, upper and lower lip, centimetres apart by `opening` times their full gap."""
    eyes = [(x, 3.5 + side * 0.5 * opening, 9.0) for x in (3.1, -3.1) for side in (1, -1)]
    return torch.tensor([*eyes, (0.0, -3.6 + 1.5 * opening, 10.5), (0.0, -3.6 - 1.5 * opening, 10.5)])


def moved(points: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """Where crop points (B, N, 2) show up after warping: p + d(p) = q, solved by iteration."""
    p = points.clone()
    for _ in range(60):
        grid = p[:, :, None]
        d = F.grid_sample(field, grid, align_corners=False, padding_mode="border")[..., 0].transpose(1, 2)
        p = points - d
    return p


def test_the_random_warp_leaves_lid_and_lip_gaps_alone_but_not_the_face() -> None:
    pose = poses(16)
    image = torch.zeros(16, 3, 256, 256)
    field = warp_field(image, strength=0.05, generator=torch.Generator().manual_seed(1), pose=pose)
    for opening in (1.0, 0.5, 0.05):
        before = project(lids_and_lips(opening), pose)
        after = moved(before, field)
        gap_before, gap_after = (((p[:, ::2] - p[:, 1::2]).norm(dim=-1)) for p in (before, after))
        torch.testing.assert_close(gap_after, gap_before, rtol=0.02, atol=5e-4)
    face = torch.tensor([(3.1, 3.5, 9.0), (-3.1, 3.5, 9.0), (0.0, -3.6, 10.5), (0.0, -7.6, 10.4)])
    before = project(face, pose)
    lengths = [(p[:, :, None] - p[:, None]).norm(dim=-1)[:, 0, 1:] for p in (before, moved(before, field))]
    assert (lengths[1] / lengths[0] - 1).abs().mean() > 0.04  # eye to eye, to mouth, to chin


def test_without_a_pose_the_warp_still_opens_nothing_that_is_shut() -> None:
    pose = poses(8)
    field = warp_field(torch.zeros(8, 3, 128, 128), strength=0.05, generator=torch.Generator().manual_seed(2))
    shut = moved(project(lids_and_lips(0.0), pose), field)
    torch.testing.assert_close(shut[:, ::2], shut[:, 1::2])


@pytest.mark.parametrize("warp", [random_warp, thin_plate_warp])
def test_a_warp_of_no_strength_is_a_no_op(warp: Callable[..., torch.Tensor]) -> None:
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(warp(image, strength=0, generator=torch.Generator(), pose=poses(2)), image)


def spline_field(pose: Pose, *, holds: bool) -> torch.Tensor:
    return thin_plate_field(
        (128, 128),
        strength=0.05,
        generator=torch.Generator().manual_seed(1),
        cells=CELLS,
        pose=pose if holds else None,
        batch=len(pose.scale),
    )


def test_thin_plate_splines_degrade_the_face_and_keep_lids_lips_and_gaze() -> None:
    """B.1: "severely degrades the shape of the facial features, yet keeps the expression intact"."""
    pose = poses(32)
    face = torch.tensor([(3.1, 3.5, 9.0), (-3.1, 3.5, 9.0), (0.0, -3.6, 10.5), (0.0, -7.6, 10.4)])
    eye = torch.tensor([(1.7, 3.5, 9.0), (4.5, 3.5, 9.0), (3.4, 3.5, 9.0)])  # corners, and an iris off the middle
    changed: dict[str, list[float]] = {"gaps": [], "gaze": [], "shape": []}
    for holds in (True, False):
        field = spline_field(pose, holds=holds)
        before = project(lids_and_lips(1.0), pose)
        gaps = [(p[:, ::2] - p[:, 1::2]).norm(dim=-1) for p in (before, moved(before, field))]
        changed["gaps"].append(float((gaps[1] / gaps[0] - 1).abs().mean()))
        before = project(eye, pose)
        looks = [
            (p[:, 2] - p[:, 0]).norm(dim=-1) / (p[:, 1] - p[:, 0]).norm(dim=-1) for p in (before, moved(before, field))
        ]
        changed["gaze"].append(float((looks[1] - looks[0]).abs().mean()))
        before = project(face, pose)
        lengths = [(p[:, :, None] - p[:, None]).norm(dim=-1)[:, 0, 1:] for p in (before, moved(before, field))]
        changed["shape"].append(float((lengths[1] / lengths[0] - 1).abs().mean()))
    assert changed["shape"][0] > 0.04  # eye to eye, to mouth, to chin
    assert changed["gaps"][0] < 0.02 < 0.06 < changed["gaps"][1]
    assert changed["gaze"][0] < 0.015


def test_the_features_held_are_the_eyes_and_the_mouth() -> None:
    centers = torch.tensor([center for center, _ in FEATURES_CM])
    assert (lids_and_lips(1.0)[::2, None] - centers).norm(dim=-1).min(1).values.max() < 3.6 / 2


def test_the_drivers_jitter_is_severe_and_stays_in_range() -> None:
    image = torch.rand(64, 3, 8, 8)
    change = {
        s: (color_jitter(image, strength=s, generator=torch.Generator().manual_seed(0)) - image).abs().mean()
        for s in (0.25, 1.0)
    }
    assert change[1.0] > 0.12 > change[0.25] > 0
    jittered = color_jitter(image, strength=1.0, generator=torch.Generator())
    assert jittered.min() >= 0 and jittered.max() <= 1


def test_source_and_target_share_their_jitter() -> None:
    image = torch.rand(3, 3, 8, 8)
    a, b = color_jitter(image.repeat(2, 1, 1, 1), strength=1, generator=torch.Generator(), repeat=2).chunk(2)
    assert torch.equal(a, b)
