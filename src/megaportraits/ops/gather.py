"""`grid_sample` by plain gathers, for runtimes without a fast 5-D `grid_sample`.

ONNX has a 5-D GridSample from opset 20 on. onnxruntime 1.32 runs it; OpenVINO 2026.4 rejects the graph.
Eager torch uses its own kernel. `ops.warping.volumes_by_gathers` selects this function instead.
"""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

from megaportraits.errors import ShapeError


def grid_sample_by_gathers(inputs: Tensor, grid: Tensor) -> Tensor:
    """`grid_sample` with linear interpolation, border padding and `align_corners=True`; same result as torch's.

    Args:
        inputs: (B, C, H, W) or (B, C, D, H, W).
        grid: (B, h, w, 2) or (B, d, h, w, 3), last axis (x, y) or (x, y, z) in [-1, 1].

    Returns:
        (B, C, h, w) or (B, C, d, h, w).

    Raises:
        ShapeError: the shapes of inputs and grid do not match.
    """
    sizes = inputs.shape[2:]
    if grid.shape[-1] != len(sizes) or grid.ndim != inputs.ndim or grid.shape[0] != inputs.shape[0]:
        raise ShapeError(f"grid: expected one for inputs {tuple(inputs.shape)}, got {tuple(grid.shape)}")
    batch, channels = inputs.shape[:2]
    # One row of channels per voxel. Each corner is then one row lookup, with batch and position in a single index.
    rows = inputs.movedim(1, -1).reshape(-1, channels)
    points = grid.reshape(batch, -1, len(sizes))
    voxels = rows.shape[0] // batch
    index = torch.arange(batch, device=inputs.device)[:, None] * voxels
    fractions, strides, stride = [], [], 1
    for axis, size in enumerate(reversed(sizes)):  # in the order x, y, z, from the last axis of the inputs to the first
        place = ((points[..., axis] + 1) * ((size - 1) / 2)).clamp(0, size - 1)
        low = place.floor().clamp(max=max(size - 2, 0))
        fractions.append(place - low)
        index = index + low.to(torch.int64) * stride
        strides.append(stride if size > 1 else 0)
        stride *= size
    result = rows.new_zeros(())
    for corner in itertools.product((0, 1), repeat=len(sizes)):
        sides = (part if up else 1 - part for up, part in zip(corner, fractions, strict=True))
        weight = functools.reduce(torch.mul, sides)
        offset = sum(up * step for up, step in zip(corner, strides, strict=True))
        result = result + rows.index_select(0, (index + offset).reshape(-1)) * weight.reshape(-1, 1)
    return result.reshape(batch, *grid.shape[1:-1], channels).movedim(-1, 1)
