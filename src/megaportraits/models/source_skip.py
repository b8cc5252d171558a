"""The source's pixels in the driver's view: both warps of eq. 1 composed, seen along the visible surface. Ours.

The paper carries every pixel through the volume v_s. A volume small enough for a laptop cannot: it keeps what moves
where, and the photograph itself keeps the skin. The composed warp says for each voxel of the driver's view where in
the source it comes from; a softmax along depth picks the visible voxel, which leaves a 2D flow.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.nn.blocks import make_conv
from megaportraits.ops.warping import identity_grid, warp_image


@dataclass(frozen=True)
class SourceView:
    """What the source shows of the driver's view.

    Attributes:
        image: (B, 3, S, S) in [0, 1], the source moved.
        flow: (B, 2, S, S), grid units, order (x, y): `image = warp_image(source, flow)`.
        depth: (B, H, W), depth of the visible surface at the volume's resolution, grid units.
        copied: (B, 1, S, S) in [0, 1], how much of `image` G_2D took over.
    """

    image: Tensor
    flow: Tensor
    depth: Tensor
    copied: Tensor

    def __getitem__(self, index: slice) -> SourceView:
        return SourceView(self.image[index], self.flow[index], self.depth[index], self.copied[index])


class SourceSkip(nn.Module):
    """Visible surface, 2D flow, and the source moved along it; all coordinates stay float32."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.surface = make_conv(2, channels, depth, 1)

    def forward(self, features: Tensor, source: Tensor, origins: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`SourceView`'s image, flow and depth; arguments as `Generator2D.forward`'s."""
        size, (planes, height, width) = source.shape[-1], origins.shape[1:4]
        weights = self.surface(features).float().softmax(1)  # (B, D, H, W)
        planes_z = torch.linspace(-1, 1, planes, device=source.device)
        depth = (weights * planes_z[:, None, None]).sum(1)
        origin = (weights[..., None] * origins[..., :2]).sum(1).permute(0, 3, 1, 2)  # (B, 2, H, W)
        here = identity_grid((1, height, width), origin)[0, 0, :, :, :2].permute(2, 0, 1)
        # From units of the volume's voxel centres, over borders at +-1, to units of the image's pixel centres.
        unit = (width - 1) / width * size / (size - 1)
        flow = F.interpolate((origin - here) * unit, (size, size), mode="bilinear", align_corners=False)
        return warp_image(source, flow), flow, depth


def transfer_detail(image: Tensor, source: Tensor, view: SourceView) -> Tensor:
    """A driven image at the resolution of a larger source: what the network's size leaves out, moved along.

    Where G_2D copied the source, the part of the source that is finer than the network's pixels is copied too.
    Nothing is learned or invented here: mouths and eyes that G_2D painted itself only grow.

    Args:
        image: (B, C, S, S) in [0, 1], `Output.image` or with alpha as a fourth channel.
        source: (B or 1, C, L, L) in [0, 1], L >= S, the same crop as the model's source.
        view: of the same output.

    Returns:
        (B, C, L, L) in [0, 1].
    """
    size, large = image.shape[-1], source.shape[-1]
    if large == size:
        return image
    # Grid units are those of pixel centres, which lie further out on a finer grid.
    unit = (size - 1) / size * large / (large - 1)
    flow = _grow(view.flow * unit, large, "bilinear")
    moved = warp_image(source.expand(len(image), -1, -1, -1), flow)
    coarse = F.interpolate(moved, (size, size), mode="area")
    detail = moved - _grow(coarse, large, "bicubic")
    copied = _grow(view.copied, large, "bilinear")
    return (_grow(image, large, "bicubic") + copied * detail).clamp(0, 1)


def _grow(x: Tensor, size: int, mode: str) -> Tensor:
    return F.interpolate(x, (size, size), mode=mode, align_corners=False)
