"""The multi-resolution patch discriminator (B.1; Isola et al., 2017; Wang et al., 2018)."""

from __future__ import annotations

import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.config import DiscriminatorConfig
from megaportraits.errors import ShapeError

Judgement = tuple[Tensor, list[Tensor]]
"""A map of patch scores (B, 1, h, w), and the features of all layers before it, fine to coarse."""


class PatchDiscriminator(nn.Module):
    """Discriminator of one resolution: 3x3 convolutions with InstanceNorm and LeakyReLU, then a 1x1 score per patch.

    The first convolution has no norm, so that the features keep the colours of the whole image. No convolution has a
    spectral norm, which the paper applies to the generators only.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        widths = (3, *config.widths)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=stride, padding=1)
            for (a, b), stride in zip(itertools.pairwise(widths), config.strides, strict=True)
        )
        self.score = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, image: Tensor) -> Judgement:
        """Scores and features of images (B, 3, H, W) in [0, 1]."""
        x, features = image * 2 - 1, []
        for index, conv in enumerate(self.convs):
            x = conv(x)
            x = F.leaky_relu(x if index == 0 else F.instance_norm(x), 0.2)
            features.append(x)
        return self.score(x), features


class Discriminator(nn.Module):
    """A `PatchDiscriminator` for every level of an image pyramid; their weights are not shared."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(config) for _ in range(config.scales))
        # At least 2 x 2 patches: an instance norm over one patch would set it to zero.
        self.smallest = 2 * math.prod(config.strides) * 2 ** (config.scales - 1)

    def forward(self, image: Tensor) -> list[Judgement]:
        """Scores and features of images (B, 3, H, W) in [0, 1] at every scale, the finest first.

        Raises:
            ShapeError: the images are so small that the coarsest scale would see a single patch.
        """
        if min(image.shape[-2:]) < self.smallest:
            raise ShapeError(
                f"a discriminator of {len(self.scales)} scales needs images of at least {self.smallest} px, "
                f"got {tuple(image.shape)}",
                fix="Lower discriminator.scales.",
            )
        judgements = []
        for index, judge in enumerate(self.scales):
            if index > 0:
                image = F.avg_pool2d(image, 2)
            judgements.append(judge(image))
        return judgements
