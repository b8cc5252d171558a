from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from megaportraits.data.augment import FEATURES_CM, color_jitter, flip, mirrored_names, random_warp, warp_field
from megaportraits.data.thin_plate import CELLS, _spline, thin_plate_field, thin_plate_warp
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES
from megaportraits.faces.outlines import FEATURES
from megaportraits.ops.geometry import euler_to_matrix, matrix_to_euler
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


def batch_of(count: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    pose = poses(count)
    return {
        "target_image": torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8),
        "target_matte": torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8),
        "target_rotation": pose.rotation,
        "target_translation": pose.translation,
        "target_scale": pose.scale,
        "target_readout": torch.rand(count, len(NAMES) + 2),
        "target_landmarks": torch.rand(count, len(FEATURES), 2) - 0.5,
        "target_coords": torch.rand(count, 4, 4, 4),
        "target_valid": torch.rand(count, 4, 4) < 0.5,
        "gaze": torch.rand(count, 2),
        "blink": torch.rand(count, 2),
        "identity": torch.arange(count),
    }


def test_two_flips_are_none_and_unchosen_samples_stay() -> None:
    batch = batch_of()
    which = torch.tensor([True, False, True])
    once = flip(batch, which, NAMES)
    twice = flip(once, which, NAMES)
    for key, value in batch.items():
        assert torch.equal(twice[key], value), key
        assert torch.equal(once[key][1], value[1]), key
    changed = {k for k in batch if not torch.equal(once[k], batch[k])}
    assert changed == set(batch) - {"target_scale", "identity"}


def test_a_flipped_landmark_is_its_mirror_images() -> None:
    batch = batch_of()
    flipped = flip(batch, torch.tensor([True, True, True]), NAMES)["target_landmarks"]
    right, left = FEATURES.index(33), FEATURES.index(263)  # outer corners of the eyes
    torch.testing.assert_close(flipped[:, left], batch["target_landmarks"][:, right] * torch.tensor([-1.0, 1.0]))


def test_left_and_right_coefficients_change_places() -> None:
    assert [NAMES[i] for i in mirrored_names(NAMES)] == [
        "jawOpen", "eyeBlink_R", "eyeBlink_L", "jawRight", "jawLeft", "mouthRollUpper",
    ]  # fmt: skip


def test_measured_scores_change_sides_by_their_names() -> None:
    scores = torch.rand(1, len(BLENDSHAPE_NAMES))
    out = flip({"target_scores": scores}, torch.tensor([True]))["target_scores"][0]
    at = BLENDSHAPE_NAMES.index
    assert out[at("mouthSmileLeft")] == scores[0, at("mouthSmileRight")]
    assert out[at("jawLeft")] == scores[0, at("jawRight")] and out[at("jawOpen")] == scores[0, at("jawOpen")]


def test_a_mirrored_head_turns_and_looks_the_other_way() -> None:
    batch = batch_of(1) | {
        "target_rotation": torch.tensor(euler_to_matrix(20, 7, -11), dtype=torch.float32)[None],
        "gaze": torch.tensor([[10.0, -4.0]]),
        "blink": torch.tensor([[1.0, 0.0]]),
    }
    out = flip(batch, torch.tensor([True]), NAMES)
    np.testing.assert_allclose(matrix_to_euler(out["target_rotation"][0].double().numpy()), (-20, 7, 11), atol=1e-4)
    assert out["gaze"].tolist() == [[-10.0, -4.0]] and out["blink"].tolist() == [[0.0, 1.0]]
    assert out["target_readout"][0, -2] == -batch["target_readout"][0, -2]


def test_the_mean_blink_of_both_eyes_stays_with_its_sample() -> None:
    blink = torch.tensor([0.0, 0.5, 1.0])
    assert torch.equal(flip({"blink": blink}, torch.ones(3, dtype=torch.bool))["blink"], blink)


def test_a_flipped_pose_projects_mirrored_points_to_mirrored_places() -> None:
    batch = batch_of(2)
    points = torch.randn(5, 3) * 5
    out = flip(batch, torch.ones(2, dtype=torch.bool), NAMES)

    def seen(b: dict[str, torch.Tensor], p: torch.Tensor) -> torch.Tensor:
        return project(p, Pose(b["target_rotation"], b["target_translation"], b["target_scale"]))

    there = seen(out, points * torch.tensor([-1.0, 1.0, 1.0]))
    torch.testing.assert_close(there, seen(batch, points) * torch.tensor([-1.0, 1.0]))


def test_flipped_surface_maps_keep_the_relation_of_pixel_and_point() -> None:
    """A frontal head: canonical X is the pixel's own x, before and after."""
    x = (torch.arange(6) + 0.5) / 3 - 1
    coords = torch.zeros(1, 6, 6, 4)
    coords[..., 0] = x
    coords[..., 3] = torch.rand(1, 6, 6)
    out = flip({"target_coords": coords}, torch.tensor([True]))["target_coords"]
    torch.testing.assert_close(out[..., 0], coords[..., 0])
    torch.testing.assert_close(out[..., 3], coords[..., 3].flip(2))


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


def test_a_spline_passes_through_its_control_points_and_reproduces_planes() -> None:
    generator = torch.Generator().manual_seed(0)
    points, values = torch.rand(2, 12, 2, generator=generator), torch.rand(2, 12, 3, generator=generator)
    torch.testing.assert_close(_spline(points, values, points), values, atol=2e-4, rtol=0)
    slope = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    elsewhere = torch.rand(5, 2, generator=generator) * 4 - 2
    got = _spline(points[:1], points[:1] @ slope + 0.3, elsewhere)
    torch.testing.assert_close(got[0], elsewhere @ slope + 0.3, atol=2e-4, rtol=0)


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
