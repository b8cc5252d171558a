"""The source's pixels in the driver's view: both warps of eq. 1 composed, seen along the visible surface. Ours.

The paper carries every pixel through the volume v_s. A volume small enough for a laptop cannot: it keeps what moves
where, and the photograph itself keeps the skin. The composed warp says for each voxel of the driver's view where in
the source it comes from; a softmax along depth picks the visible voxel, which leaves a 2D flow. What happens within
one cell of the volume, lids and the corners of lips, a finer network adds to it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.nn.blocks import BlockStyle, OutputHead, ResBlock, make_conv
from megaportraits.ops.warping import identity_grid, warp_image


@dataclass(frozen=True)
class SourceView:
    """What the source shows of the driver's view.

    Attributes:
        image: (B, 3, S, S) in [0, 1], the source moved.
        flow: (B, 2, S, S), grid units, order (x, y): `image = warp_image(source, flow)`.
        depth: (B, H, W), depth of the visible surface at the volume's resolution, grid units.
        copied: (B, 1, S, S) in [0, 1], how much of `image` G_2D took over.
        painted: (B, 3, S, S) in [0, 1], what it painted itself, for the rest.
    """

    image: Tensor
    flow: Tensor
    depth: Tensor
    copied: Tensor
    painted: Tensor

    def __getitem__(self, index: slice) -> SourceView:
        return SourceView(*(getattr(self, field.name)[index] for field in fields(self)))


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


class FlowRefinement(nn.Module):
    """A residual 2D flow from G_2D's finest features before its last block; none at the start of training."""

    reach = 0.25
    """The most it adds, grid units: 4 cm."""

    def __init__(self, channels: int, style: BlockStyle) -> None:
        super().__init__()
        self.block = ResBlock(2, channels, channels // 2, style)
        self.output = OutputHead(2, channels // 2, 2, style)
        self.output.zero()

    def forward(self, features: Tensor, flow: Tensor) -> Tensor:
        """Features (B, C, h, w) and the composed warp's flow (B, 2, S, S) to the flow with what it lacks."""
        residual = self.reach * torch.tanh(self.output(self.block(features)).float())
        return flow + F.interpolate(residual, flow.shape[-2:], mode="bilinear", align_corners=False)


def copy_large(image: Tensor, source: Tensor, view: SourceView) -> Tensor:
    """A driven image at the resolution of a larger source: what G_2D copied is copied again, from the large one.

    What G_2D painted itself (mouths, eyes, what had been hidden) only grows: nothing is invented here. The large
    source may be straight colours and a matte where the model saw a flat background: none of it then shows at edges.

    Args:
        image: (B, 3 or 4, S, S) in [0, 1], `Output.image`, with alpha as a fourth channel if there is one.
        source: (B or 1, as many, L, L) in [0, 1], L >= S, the same crop as the model's source.
        view: of the same output.

    Returns:
        (B, 3 or 4, L, L) in [0, 1].
    """
    size, large = image.shape[-1], source.shape[-1]
    painted = torch.cat([image[:, :3] - view.copied * view.image, image[:, 3:] * (1 - view.copied)], 1)
    moved = _moved(source, view, size, large, len(image))
    return (_grow(painted, large, "bicubic") + _grow(view.copied, large, "bilinear") * moved).clamp(0, 1)


def transfer_detail(image: Tensor, source: Tensor, view: SourceView) -> Tensor:
    """What is finer in a large source than a driven image's pixels, added where G_2D copied.

    Arguments as `copy_large`, but for images that another network has changed since: no part is a plain copy.
    """
    size, large = image.shape[-1], source.shape[-1]
    if large == size:
        return image
    moved = _moved(source, view, size, large, len(image))
    coarse = F.interpolate(moved, (size, size), mode="area")
    detail = moved - _grow(coarse, large, "bicubic")
    return (_grow(image, large, "bicubic") + _grow(view.copied, large, "bilinear") * detail).clamp(0, 1)


def _moved(source: Tensor, view: SourceView, size: int, large: int, count: int) -> Tensor:
    # Grid units are those of pixel centres, which lie further out on a finer grid.
    flow = _grow(view.flow * ((size - 1) / size * large / (large - 1)), large, "bilinear")
    return warp_image(source.expand(count, -1, -1, -1), flow)


def _grow(x: Tensor, size: int, mode: str) -> Tensor:
    return x if x.shape[-1] == size else F.interpolate(x, (size, size), mode=mode, align_corners=False)
