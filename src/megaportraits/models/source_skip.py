"""The source skip: copies the source's pixels along the flow that both warps of eq. 1 give. Ours.

In the paper all appearance passes through the volume v_s. A volume small enough for a laptop cannot store fine
detail. Here the volume represents motion, and skin detail is copied from the source. The composition of both warps
gives for each voxel of the driver's view its position in the source. A softmax along depth selects the visible voxels,
which gives a 2D flow. A finer network adds motion within one cell of the volume: lids, corners of the mouth. For a
disocclusion the source often shows the mirror image on the other side of the head, because heads are nearly symmetric.
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
"""Distances behind the source's visible surface, grid units: a point is visible up to the first (0.9 cm) and hidden
from the second on (2.5 cm)."""


@dataclass(frozen=True)
class Origins:
    """Where in the source's view the voxels of the driver's view come from.

    Attributes:
        direct: (B, D, H, W, 3), grid units.
        mirrored: the same for the mirror images of the voxels on the head; None without `mirror_hidden`.
        surface: (B, H, W), depth of the source's own visible surface, grid units; None without `mirror_hidden`.
    """

    direct: Tensor
    mirrored: Tensor | None = None
    surface: Tensor | None = None


def trace_origins(warp: Tensor, displacement: Tensor, pose: Pose, surface: Tensor | None) -> Origins:
    """w_s-> o w_->d: the positions in the source from which the voxels of the driver's view come.

    Args:
        warp: w_->d, (B, D, H, W, 3).
        displacement: the field of W_s->, (B, 3, D, H, W).
        pose: the source's pose.
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
    """Where in the source the pixels of the driver's view come from.

    Attributes:
        direct: (B, 2, S, S), grid units, order (x, y), for `warp_image`.
        mirrored: the same for the mirror images of these points on the head; None without `mirror_hidden`.
        hidden: (B, 1, S, S) in [0, 1], weight of the mirrored flow: 1 where the source hides the point and shows its
            mirror image. None without `mirror_hidden`.
    """

    direct: Tensor
    mirrored: Tensor | None = None
    hidden: Tensor | None = None

    def __getitem__(self, index: slice) -> Flow:
        mirrored, hidden = (None if x is None else x[index] for x in (self.mirrored, self.hidden))
        return Flow(self.direct[index], mirrored, hidden)

    def move(self, image: Tensor) -> Tensor:
        """Move the source, or a map of it, (B, C, S, S), to the driver's view."""
        moved = warp_image(image, self.direct)
        if self.mirrored is None or self.hidden is None:
            return moved
        return torch.lerp(moved, warp_image(image, self.mirrored), self.hidden)

    def grown(self, size: int) -> Flow:
        """The same flow for images of another size."""
        small = self.direct.shape[-1]
        # In grid units +-1 are the outermost pixel centres, which are nearer to the borders on a finer grid.
        unit = (small - 1) / small * size / (size - 1)
        return Flow(
            grow(self.direct * unit, size, "bilinear"),
            None if self.mirrored is None else grow(self.mirrored * unit, size, "bilinear"),
            None if self.hidden is None else grow(self.hidden, size, "bilinear"),
        )

    def refined(self, residual: Tensor) -> Flow:
        """The flow plus a residual (B, 2, S, S); the residual's mirror image is added to the mirrored flow."""
        across = residual.new_tensor([-1.0, 1.0])[:, None, None]
        mirrored = None if self.mirrored is None else self.mirrored + residual * across
        return replace(self, direct=self.direct + residual, mirrored=mirrored)


@dataclass(frozen=True)
class SourceView:
    """The source moved to the driver's view, and how G_2D used it.

    Attributes:
        image: (B, 3, S, S) in [0, 1], the moved source, `flow.move(source)`.
        flow: the flow along which the source was moved.
        depth: (B, H, W), depth of the visible surface at the volume's resolution, grid units.
        copied: (B, 1, S, S) in [0, 1], weight of `image` in the output.
        painted: (B, 3, S, S) in [0, 1], what G_2D generated itself; its weight is 1 - `copied`.
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
    """The moved source between the blocks of G_2D.

    Attributes:
        source: (B, 3, S, S) in [0, 1].
        flow: the flow along which the source is moved, for S x S pixels.
        depth: see `SourceView`.
        moved: (B, 3, S, S), the source moved along the flow.
    """

    source: Tensor
    flow: Flow
    depth: Tensor
    moved: Tensor

    @staticmethod
    def along(source: Tensor, flow: Flow, depth: Tensor) -> SourceCopy:
        """The copy of a source along a flow."""
        return SourceCopy(source, flow, depth, flow.move(source))

    def refined(self, refinement: nn.Module, features: Tensor) -> SourceCopy:
        """The copy along a refined flow."""
        flow = refinement(features, self.flow)
        return self if flow is self.flow else self.along(self.source, flow, self.depth)

    def beside(self, x: Tensor) -> Tensor:
        """Features (B, C, n, n) concatenated with the moved source at their resolution, (B, C + 3, n, n)."""
        same = x.shape[-1] == self.moved.shape[-1]
        moved = self.moved if same else F.interpolate(self.moved, x.shape[-2:], mode="area")
        moved = moved.to(x.dtype)
        if x.is_contiguous(memory_format=torch.channels_last):
            # Concatenation of two layouts gives the default one, and every layer after it would convert its input.
            moved = moved.contiguous(memory_format=torch.channels_last)
        return torch.cat([x, moved], 1)

    def compose(self, logits: Tensor, outputs: int) -> tuple[Tensor, SourceView]:
        """Logits (B, outputs + 1, S, S), the last for the weight of the copy, to the image (B, outputs, S, S)."""
        x = logits.sigmoid()
        painted, alpha, copied = x[:, :3], x[:, 3:outputs], x[:, outputs:]
        image = torch.cat([copied * self.moved + (1 - copied) * painted, alpha], 1)
        return image, SourceView(self.moved, self.flow, self.depth, copied, painted)


class NoCopy:
    """Replaces `SourceCopy` in models without a source skip."""

    def refined(self, refinement: nn.Module, features: Tensor) -> NoCopy:
        """As `SourceCopy.refined`: there is no flow."""
        return self

    def beside(self, x: Tensor) -> Tensor:
        """As `SourceCopy.beside`: the features alone."""
        return x

    def compose(self, logits: Tensor, outputs: int) -> tuple[Tensor, None]:
        """As `SourceCopy.compose`: G_2D generates all pixels."""
        return logits.sigmoid(), None


class NoSkip(nn.Module):
    """Replaces `SourceSkip` in models without one, as in the paper."""

    channels = logits = 0

    def forward(self, features: Tensor, source: Tensor | None, origins: Origins | None) -> NoCopy:
        """As `SourceSkip`."""
        return NoCopy()

    def remembered(self, source: Tensor) -> None:
        """Identities do not store the source."""
        return

    def depth(self, features: Tensor) -> Tensor:
        """Not available without a source skip."""
        raise AssertionError("only a source skip knows a surface")


class SourceSkip(nn.Module):
    """Computes the visible surface and the 2D flow. All coordinates stay in float32.

    Attributes:
        channels: number of channels of the moved source, which is concatenated to G_2D's features.
        logits: number of additional logits of G_2D, for the weight of the copy.
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
        """Features (B, C, H, W) to the flow for images of `size` pixels, and the depth of `SourceView`."""
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
        """What an identity stores of the source: the whole image, (B, 3, S, S)."""
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
        # From units with the volume's outer voxel centres at +-1 to units with the image's outer pixel centres at +-1.
        unit = (width - 1) / width * size / (size - 1)
        return F.interpolate((origin[:, :2] - here) * unit, (size, size), mode="bilinear", align_corners=False)


def _behind(origin: Tensor, surface: Tensor) -> Tensor:
    """Whether points (B, 3, H, W) lie behind a surface of depth (B, H, W), grid units: (B, 1, H, W) in [0, 1]."""
    points = origin.flatten(2).transpose(1, 2)  # (B, H W, 3)
    distance = sample_points(surface[:, None], points[..., :2])[..., 0] - points[..., 2]
    near, far = _BEHIND
    return ((distance - near) / (far - near)).clamp(0, 1).reshape(-1, 1, *origin.shape[2:])


class FlowRefinement(nn.Module):
    """Adds a residual flow, from the features before G_2D's last block; zero at the start of training."""

    reach = 0.25
    """Largest residual, grid units; corresponds to 4 cm."""

    def __init__(self, channels: int, style: BlockStyle) -> None:
        super().__init__()
        self.block = ResBlock(2, channels, channels // 2, style)
        self.output = OutputHead(2, channels // 2, 2, style)
        self.output.zero()

    def forward(self, features: Tensor, flow: Flow) -> Flow:
        """Features (B, C, h, w) and the flow of the composed warps to the refined flow."""
        residual = self.reach * torch.tanh(self.output(self.block(features)).float())
        size = flow.direct.shape[-1]
        return flow.refined(F.interpolate(residual, (size, size), mode="bilinear", align_corners=False))


class Unrefined(nn.Module):
    """Returns the flow unchanged, for models without `refine_flow`."""

    def forward(self, features: Tensor, flow: Flow) -> Flow:
        """As `FlowRefinement`."""
        return flow


def copy_large(image: Tensor, source: Tensor, view: SourceView) -> Tensor:
    """A driven image at the resolution of a larger source. Pixels that G_2D copied are copied again from that source.

    Pixels that G_2D generated itself (mouth, eyes, disocclusions) are only upsampled. The larger source can have
    straight colours and a matte although the model's source had a flat background; then edges get no background colour.

    Args:
        image: (B, 3 or 4, S, S) in [0, 1], `Output.image`, with alpha as a fourth channel if there is one.
        source: (B or 1, 3 or 4, L, L) in [0, 1], as many channels as `image`, L >= S, the crop of the model's source.
        view: the view of the same output.

    Returns:
        (B, 3 or 4, L, L) in [0, 1].
    """
    large = source.shape[-1]
    painted = torch.cat([image[:, :3] - view.copied * view.image, image[:, 3:] * (1 - view.copied)], 1)
    moved = _moved(source, view, large, len(image))
    return (grow(painted, large, "bicubic") + grow(view.copied, large, "bilinear") * moved).clamp(0, 1)


def transfer_detail(image: Tensor, source: Tensor, view: SourceView) -> Tensor:
    """Upsample a driven image, and add the finer detail of a larger source where G_2D copied.

    Arguments as for `copy_large`. Use this for images that another network has changed after G_2D, so that they contain
    no exact copies.
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
    """Images (B, C, S, S) interpolated to another size."""
    return x if x.shape[-1] == size else F.interpolate(x, (size, size), mode=mode, align_corners=False)
