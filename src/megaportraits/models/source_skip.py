"""The source's pixels in the driver's view: both warps of eq. 1 composed, seen along the visible surface. Ours.

The paper carries every pixel through the volume v_s. A volume small enough for a laptop cannot: it keeps what moves
where, and the photograph itself keeps the skin. The composed warp says for each voxel of the driver's view where in
the source it comes from; a softmax along depth picks the visible voxel, which leaves a 2D flow. What happens within
one cell of the volume, lids and the corners of lips, a finer network adds to it. What a turned source hides is often
seen on the other side of the same head: heads are nearly symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.config import ModelConfig
from megaportraits.nn.blocks import BlockStyle, OutputHead, ResBlock, make_conv
from megaportraits.ops.resample import shrink
from megaportraits.ops.warping import (
    Pose,
    canonical_to_image,
    identity_grid,
    sample_field,
    sample_points,
    warp_image,
)

_BEHIND = 0.06, 0.16
"""How far behind the source's visible surface a point is surely seen and surely hidden, grid units: 0.9 and 2.5 cm."""


@dataclass(frozen=True)
class Origins:
    """Where in the source's view the voxels of the driver's view come from.

    Attributes:
        direct: (B, D, H, W, 3), grid units.
        mirrored: the same of their mirror images on the head; None without `mirror_hidden`.
        surface: (B, H, W), depth of the source's own visible surface, grid units; None likewise.
    """

    direct: Tensor
    mirrored: Tensor | None = None
    surface: Tensor | None = None


def trace_origins(warp: Tensor, displacement: Tensor, pose: Pose, surface: Tensor | None) -> Origins:
    """w_s-> o w_->d: where in the source the voxels of the driver's view come from.

    Args:
        warp: w_->d, (B, D, H, W, 3).
        displacement: W_s->'s field, (B, 3, D, H, W).
        pose: the source's.
        surface: see `Origins`; None leaves mirror images out.
    """
    size = (warp.shape[1], warp.shape[2], warp.shape[3])

    def origin(canonical: Tensor) -> Tensor:
        return canonical_to_image(canonical + sample_field(displacement, canonical), pose, size)

    if surface is None:
        return Origins(origin(warp))
    return Origins(origin(warp), origin(warp * warp.new_tensor([-1.0, 1.0, 1.0])), surface)


@dataclass(frozen=True)
class Flow:
    """Where in the source the pixels of the driver's view are found.

    Attributes:
        direct: (B, 2, S, S), grid units, order (x, y), for `warp_image`.
        mirrored: the same of the mirror images of what is seen there; None without `mirror_hidden`.
        hidden: (B, 1, S, S) in [0, 1], where mirror images count: the source hides the point and shows them. None
            likewise.
    """

    direct: Tensor
    mirrored: Tensor | None = None
    hidden: Tensor | None = None

    def __getitem__(self, index: slice) -> Flow:
        mirrored, hidden = (None if x is None else x[index] for x in (self.mirrored, self.hidden))
        return Flow(self.direct[index], mirrored, hidden)

    def move(self, image: Tensor) -> Tensor:
        """The source, or what belongs to it, (B, C, S, S), in the driver's view."""
        moved = warp_image(image, self.direct)
        if self.mirrored is None or self.hidden is None:
            return moved
        return torch.lerp(moved, warp_image(image, self.mirrored), self.hidden)

    def grown(self, size: int) -> Flow:
        """The same for images of another size."""
        small = self.direct.shape[-1]
        # Grid units are those of pixel centres, which lie further out on a finer grid.
        unit = (small - 1) / small * size / (size - 1)
        return Flow(
            grow(self.direct * unit, size, "bilinear"),
            None if self.mirrored is None else grow(self.mirrored * unit, size, "bilinear"),
            None if self.hidden is None else grow(self.hidden, size, "bilinear"),
        )

    def refined(self, residual: Tensor) -> Flow:
        """With a residual (B, 2, S, S), whose mirror image the mirrored flow gets."""
        across = residual.new_tensor([-1.0, 1.0])[:, None, None]
        mirrored = None if self.mirrored is None else self.mirrored + residual * across
        return replace(self, direct=self.direct + residual, mirrored=mirrored)


@dataclass(frozen=True)
class SourceView:
    """What the source shows of the driver's view.

    Attributes:
        image: (B, 3, S, S) in [0, 1], the source moved, `flow.move(source)`.
        flow: along which.
        depth: (B, H, W), depth of the visible surface at the volume's resolution, grid units.
        copied: (B, 1, S, S) in [0, 1], how much of `image` G_2D took over.
        painted: (B, 3, S, S) in [0, 1], what it painted itself, for the rest.
    """

    image: Tensor
    flow: Flow
    depth: Tensor
    copied: Tensor
    painted: Tensor

    def __getitem__(self, index: slice) -> SourceView:
        return SourceView(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True)
class SourceCopy:
    """The source in the driver's view, on its way through G_2D.

    Attributes:
        source: (B, 3, S, S) in [0, 1].
        flow: along which it is moved, for images of S pixels.
        depth: see `SourceView`.
        moved: (B, 3, S, S), the source moved along the flow.
    """

    source: Tensor
    flow: Flow
    depth: Tensor
    moved: Tensor

    @staticmethod
    def along(source: Tensor, flow: Flow, depth: Tensor) -> SourceCopy:
        """The copy that a flow makes."""
        return SourceCopy(source, flow, depth, flow.move(source))

    def refined(self, refinement: nn.Module, features: Tensor) -> SourceCopy:
        """The copy along a refined flow."""
        flow = refinement(features, self.flow)
        return self if flow is self.flow else self.along(self.source, flow, self.depth)

    def beside(self, x: Tensor) -> Tensor:
        """Features (B, C, n, n) and the moved source at their resolution, (B, C + 3, n, n)."""
        same = x.shape[-1] == self.moved.shape[-1]
        moved = self.moved if same else F.interpolate(self.moved, x.shape[-2:], mode="area")
        return torch.cat([x, moved.to(x.dtype)], 1)

    def compose(self, logits: Tensor, outputs: int) -> tuple[Tensor, SourceView]:
        """Logits (B, outputs + 1, S, S), the last of how much is copied, to the image (B, outputs, S, S)."""
        x = logits.sigmoid()
        painted, alpha, copied = x[:, :3], x[:, 3:outputs], x[:, outputs:]
        image = torch.cat([copied * self.moved + (1 - copied) * painted, alpha], 1)
        return image, SourceView(self.moved, self.flow, self.depth, copied, painted)


class NoCopy:
    """What a model without a source skip copies: nothing."""

    def refined(self, refinement: nn.Module, features: Tensor) -> NoCopy:
        """As `SourceCopy.refined`: there is no flow."""
        return self

    def beside(self, x: Tensor) -> Tensor:
        """As `SourceCopy.beside`: the features alone."""
        return x

    def compose(self, logits: Tensor, outputs: int) -> tuple[Tensor, None]:
        """As `SourceCopy.compose`: everything is painted."""
        return logits.sigmoid(), None


class NoSkip(nn.Module):
    """A G_2D without a source skip, as in the paper."""

    channels = logits = 0

    def forward(self, features: Tensor, source: Tensor | None, origins: Origins | None) -> NoCopy:
        """As `SourceSkip`."""
        return NoCopy()

    def remembered(self, source: Tensor) -> None:
        """An identity keeps no source."""
        return

    def depth(self, features: Tensor) -> Tensor:
        """Nothing knows a surface."""
        raise AssertionError("only a source skip knows a surface")


class SourceSkip(nn.Module):
    """Visible surface and 2D flow; all coordinates stay float32.

    Attributes:
        channels: of the moved source, which follow G_2D's features.
        logits: of how much is copied.
    """

    channels, logits = 3, 1

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.surface = make_conv(2, config.generator_2d.channels, config.volume_depth, 1)

    def forward(self, features: Tensor, source: Tensor | None, origins: Origins | None) -> SourceCopy:
        """Features (B, C, H, W), the source (B, 3, S, S) and its `Origins` to the copy at the coarse resolution."""
        assert source is not None and origins is not None, "a source skip needs the source and its origins"
        coarse = shrink(source, self.config.coarse_side(source.shape[-1]))
        return SourceCopy.along(coarse, *self.flow(features, origins, coarse.shape[-1]))

    def flow(self, features: Tensor, origins: Origins, size: int) -> tuple[Flow, Tensor]:
        """Features (B, C, H, W) to the flow of images of a size, and `SourceView`'s depth."""
        weights = self._weights(features)
        direct = self._seen(weights, origins.direct)
        mirrored = hidden = None
        if origins.mirrored is not None and origins.surface is not None:
            other = self._seen(weights, origins.mirrored)
            with torch.no_grad():
                hidden = _behind(direct, origins.surface) * (1 - _behind(other, origins.surface))
            mirrored, hidden = self._flow(other, size), grow(hidden, size, "bilinear")
        return Flow(self._flow(direct, size), mirrored, hidden), self._depth(weights)

    def remembered(self, source: Tensor) -> Tensor:
        """What an identity keeps of the source: all of it, (B, 3, S, S)."""
        return source

    def depth(self, features: Tensor) -> Tensor:
        """Depth of the visible surface alone, (B, H, W), grid units."""
        return self._depth(self._weights(features))

    def _weights(self, features: Tensor) -> Tensor:
        return self.surface(features).float().softmax(1)  # (B, D, H, W)

    @staticmethod
    def _depth(weights: Tensor) -> Tensor:
        planes = torch.linspace(-1, 1, weights.shape[1], device=weights.device)
        return (weights * planes[:, None, None]).sum(1)

    @staticmethod
    def _seen(weights: Tensor, origins: Tensor) -> Tensor:
        return (weights[..., None] * origins).sum(1).permute(0, 3, 1, 2)  # (B, 3, H, W)

    @staticmethod
    def _flow(origin: Tensor, size: int) -> Tensor:
        height, width = origin.shape[2:]
        here = identity_grid((1, height, width), origin)[0, 0, :, :, :2].permute(2, 0, 1)
        # From units of the volume's voxel centres, over borders at +-1, to units of the image's pixel centres.
        unit = (width - 1) / width * size / (size - 1)
        return F.interpolate((origin[:, :2] - here) * unit, (size, size), mode="bilinear", align_corners=False)


def _behind(origin: Tensor, surface: Tensor) -> Tensor:
    """Whether points (B, 3, H, W) lie behind a surface's depth (B, H, W), grid units: (B, 1, H, W) in [0, 1]."""
    points = origin.flatten(2).transpose(1, 2)  # (B, H W, 3)
    distance = sample_points(surface[:, None], points[..., :2])[..., 0] - points[..., 2]
    near, far = _BEHIND
    return ((distance - near) / (far - near)).clamp(0, 1).reshape(-1, 1, *origin.shape[2:])


class FlowRefinement(nn.Module):
    """A residual 2D flow from G_2D's finest features before its last block; none at the start of training."""

    reach = 0.25
    """The most it adds, grid units: 4 cm."""

    def __init__(self, channels: int, style: BlockStyle) -> None:
        super().__init__()
        self.block = ResBlock(2, channels, channels // 2, style)
        self.output = OutputHead(2, channels // 2, 2, style)
        self.output.zero()

    def forward(self, features: Tensor, flow: Flow) -> Flow:
        """Features (B, C, h, w) and the composed warp's flow to the flow with what it lacks."""
        residual = self.reach * torch.tanh(self.output(self.block(features)).float())
        size = flow.direct.shape[-1]
        return flow.refined(F.interpolate(residual, (size, size), mode="bilinear", align_corners=False))


class Unrefined(nn.Module):
    """The flow as it is, without `refine_flow`."""

    def forward(self, features: Tensor, flow: Flow) -> Flow:
        """As `FlowRefinement`."""
        return flow


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
    large = source.shape[-1]
    painted = torch.cat([image[:, :3] - view.copied * view.image, image[:, 3:] * (1 - view.copied)], 1)
    moved = _moved(source, view, large, len(image))
    return (grow(painted, large, "bicubic") + grow(view.copied, large, "bilinear") * moved).clamp(0, 1)


def transfer_detail(image: Tensor, source: Tensor, view: SourceView) -> Tensor:
    """What is finer in a large source than a driven image's pixels, added where G_2D copied.

    Arguments as `copy_large`, but for images that another network has changed since: no part is a plain copy.
    """
    size, large = image.shape[-1], source.shape[-1]
    if large == size:
        return image
    moved = _moved(source, view, large, len(image))
    coarse = F.interpolate(moved, (size, size), mode="area")
    detail = moved - grow(coarse, large, "bicubic")
    return (grow(image, large, "bicubic") + grow(view.copied, large, "bilinear") * detail).clamp(0, 1)


def _moved(source: Tensor, view: SourceView, large: int, count: int) -> Tensor:
    return view.flow.grown(large).move(source.expand(count, -1, -1, -1))


def grow(x: Tensor, size: int, mode: str) -> Tensor:
    """Images (B, C, S, S) at another size by interpolation."""
    return x if x.shape[-1] == size else F.interpolate(x, (size, size), mode=mode, align_corners=False)
