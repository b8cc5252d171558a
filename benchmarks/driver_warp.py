"""Measure how the driver's warps (B.1) change a face: its shape should change; its lids, lips and gaze should not.

    python benchmarks/driver_warp.py

Points of the mean face, of lids and lips at several openings, and of irises are projected with random head poses and
warped exactly. Shape is the mean distance of MediaPipe's 468 points after the best similarity transform, mm on the
head. Openings are the gaps between lids or lips, given as relative change. Gaze is the position of the iris between the
corners of its eye, in eye widths. The figures in docs/model.md are the output of this script.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from megaportraits.data.augment import warp_field
from megaportraits.data.thin_plate import CELLS, thin_plate_field
from megaportraits.faces.canonical import canonical_mesh
from megaportraits.ops.geometry import HEAD_HALF_CM, euler_to_matrix
from megaportraits.ops.warping import Pose, project

SIZE = 256


def random_poses(count: int) -> Pose:
    """Random head poses with the distribution of `synth`."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.randn(count, 3, generator=generator) * torch.tensor([13.0, 6.0, 6.0])
    rotation = torch.stack([torch.from_numpy(euler_to_matrix(*a)).float() for a in angles.tolist()])
    scale = 1 + 0.1 * (torch.rand(count, generator=generator) * 2 - 1)
    return Pose(rotation, 0.05 * torch.randn(count, 2, generator=generator), scale)


def moved(points: Tensor, field: Tensor) -> Tensor:
    """Positions p after the warp of crop points q (B, N, 2): solves p + d(p) = q by iteration."""
    p = points.clone()
    for _ in range(60):
        d = F.grid_sample(field, p[:, :, None], align_corners=False, padding_mode="border")[..., 0]
        p = points - d.transpose(1, 2)
    return p


def shape_mm(before: Tensor, after: Tensor, scale: Tensor) -> Tensor:
    """Mean distance after the best similarity transform, (B,), mm."""
    a, b = (torch.view_as_complex((p - p.mean(1, keepdim=True)).contiguous()) for p in (before, after))
    best = (a.conj() * b).sum(1, keepdim=True) / a.abs().square().sum(1, keepdim=True)
    return (best * a - b).abs().mean(1) * (10 * HEAD_HALF_CM) / scale


def gaps(opening: float) -> Tensor:
    """Points of upper and lower lid of both eyes and of upper and lower lip, in this order."""
    eyes = [(x, 3.5 + side * 0.5 * opening, 9.0) for x in (3.1, -3.1) for side in (1, -1)]
    return torch.tensor([*eyes, (0.0, -3.6 + 1.5 * opening, 10.5), (0.0, -3.6 - 1.5 * opening, 10.5)])


def irises() -> Tensor:
    """Points of both corners and the iris of eyes that look right, ahead and left."""
    sides = [(x, iris) for x in (3.1, -3.1) for iris in (-0.35, 0.0, 0.35)]
    return torch.tensor([(x + dx, 3.5, 9.0) for x, iris in sides for dx in (-1.4, 1.4, iris)])


def measure(field: Tensor, pose: Pose) -> dict[str, float]:
    """All measurements of one warp."""
    mesh = project(torch.from_numpy(canonical_mesh().vertices).float(), pose)
    numbers = {"shape, mm": float(shape_mm(mesh, moved(mesh, field), pose.scale).mean())}
    changes = []
    for opening in (1.0, 0.5, 0.05):
        before = project(gaps(opening), pose)
        first, then = ((p[:, ::2] - p[:, 1::2]).norm(dim=-1) for p in (before, moved(before, field)))
        changes.append((then / first - 1).abs())
    change = torch.stack(changes)
    numbers |= {"lids, %": 100 * float(change[..., :2].mean()), "lips, %": 100 * float(change[..., 2:].mean())}
    before = project(irises(), pose)
    places = []
    for p in (before, moved(before, field)):
        left, right, iris = torch.view_as_complex(p.contiguous()).unflatten(1, (-1, 3)).unbind(2)
        places.append((iris - left) / (right - left))
    return numbers | {"gaze, % of an eye": 100 * float((places[1] - places[0]).abs().mean())}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=64)
    parser.add_argument("--strength", type=float, default=0.05)
    options = parser.parse_args()
    pose, image = random_poses(options.heads), torch.zeros(options.heads, 3, SIZE, SIZE)
    rows = {}
    for holds in (True, False):
        common = {"strength": options.strength, "pose": pose if holds else None}
        name = "eyes and mouth fixed" if holds else "nothing fixed"
        grid = warp_field(image, generator=torch.Generator().manual_seed(1), **common)
        spline = thin_plate_field(
            (SIZE, SIZE), generator=torch.Generator().manual_seed(1), cells=CELLS, batch=len(image), **common
        )
        rows |= {f"grid, {name}": measure(grid, pose), f"thin-plate splines, {name}": measure(spline, pose)}
    table = Table("warp", *next(iter(rows.values())))
    for name, numbers in rows.items():
        table.add_row(name, *(f"{value:.1f}" for value in numbers.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
