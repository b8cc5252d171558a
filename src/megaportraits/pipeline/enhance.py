"""Apply the enhancer (G_enh): output images at twice the base model's resolution."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from megaportraits.models.enhancer import PictureEnhancer, fine_picture, picture_of, premultiplied
from megaportraits.models.identity import Output
from megaportraits.models.source_skip import grow, transfer_detail
from megaportraits.ops.resample import resize_images

_PIXELS = 4 * 256 * 256
"""Output pixels that the enhancer computes in one step on a CPU, so that memory does not grow with the batch."""
_GPU_PIXELS = 8 * 1024 * 1024
"""Output pixels that the enhancer computes in one step on a GPU."""

_WORTH = 1.5
"""Detail of the photograph is added only where its resolution is at least this many times the enhancer's. Below that
factor the enhancer has already restored the detail, and adding it again would sharpen twice."""


def enhance(enhancer: PictureEnhancer, output: Output, source: Tensor) -> Tensor:
    """Enhance a base model's output.

    Source detail finer than the enhancer's resolution is copied along the flow, as without an enhancer.

    Args:
        enhancer: made for the base model.
        output: B images of S x S pixels.
        source: (1, 4, L, L) in [0, 1], the person's straight colours and alpha; L of any size.

    Returns:
        (B, 4 or 3, N, N) in [0, 1], premultiplied where the output has an alpha. N is 2 S; it is L where the base model
        has a source skip and L is at least `_WORTH` * 2 S.
    """
    picture = picture_of(output)
    size = 2 * picture.shape[-1]
    source = source[:, : picture.shape[1]]
    fine = fine_picture(output, resize_images(source, size)) if enhancer.config.source_skip else None
    step = max(1, (_PIXELS if picture.device.type == "cpu" else _GPU_PIXELS) // size**2)
    parts = [slice(start, start + step) for start in range(0, len(picture), step)]
    enhanced = torch.cat([enhancer(picture[part], None if fine is None else fine[part]) for part in parts])
    enhanced = _valid(enhanced)
    if output.view is None or source.shape[-1] < _WORTH * size:
        return enhanced
    copied = grow(output.view.copied, size, "bilinear")
    view = replace(output.view, flow=output.view.flow.grown(size), copied=copied)
    if enhanced.shape[1] == 3:
        return transfer_detail(enhanced, source, view)
    return premultiplied(transfer_detail(_straight(enhanced), source, view))


def _valid(picture: Tensor) -> Tensor:
    """Clamp the enhancer's residual output to valid values: alpha in [0, 1], colours in [0, alpha]."""
    if picture.shape[1] == 3:
        return picture.clamp(0, 1)
    alpha = picture[:, 3:].clamp(0, 1)
    return torch.cat([torch.minimum(picture[:, :3].clamp_min(0), alpha), alpha], 1)


def _straight(picture: Tensor) -> Tensor:
    alpha = picture[:, 3:]
    return torch.cat([(picture[:, :3] / alpha.clamp_min(1 / 512)).clamp(0, 1), alpha], 1)
