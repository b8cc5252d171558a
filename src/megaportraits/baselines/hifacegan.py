"""HiFaceGAN (Yang et al., "HiFaceGAN: Face Renovation via Collaborative Suppression and Replenishment", ACM MM 2020).

An encoder with content-adaptive pooling suppresses degradations and gives features at every resolution. A generator
starts from the reduced image and doubles it; at every resolution the encoder's features modulate its norms (SPADE).

Here it takes the place of the enhancer (Table 2 of the paper): its input is the base model's image, upsampled to twice
its size. Differences to the published code: the norms that SPADE modulates are GroupNorms without parameters instead of
batch norms; spectral norm is `optim.spectral_norm`; the three output layers of unused training phases are left out.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.config import HiFaceGanConfig
from megaportraits.models.enhancer import PictureEnhancer, grow
from megaportraits.nn.blocks import make_conv
from megaportraits.ops.shapes import check_shape

_GATE = 12.0
"""Largest logit of the pooling weights."""


class LocalImportancePooling(nn.Module):
    """Weighted 3x3 pooling by 2, with weights exp(g) (Gao et al., 2019): g in (0, 12) depends on the features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H / 2, W / 2)."""
        weight = (self.norm(self.conv(x)).float().sigmoid() * _GATE).exp()
        pooled = _pool(x.float() * weight) / _pool(weight)
        return pooled.to(x.dtype)


def _pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=2, padding=1)


class Suppression(nn.Module):
    """The content-adaptive encoder: image (B, C, S, S) to features, coarse to fine; the last ones have the size S."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.pools = nn.ModuleList(LocalImportancePooling(width) for width in widths[:-1])
        self.convs = nn.ModuleList(make_conv(2, a, b, 3) for a, b in itertools.pairwise(widths))

    def forward(self, image: Tensor) -> list[Tensor]:
        features = [F.relu(F.instance_norm(self.head(image)))]
        for pool, conv in zip(self.pools, self.convs, strict=True):
            x = F.instance_norm(conv(pool(features[0])))
            features.insert(0, x if conv is self.convs[-1] else F.relu(x))
        return features


class GuidedNorm(nn.Module):
    """SPADE (Park et al., 2019): a norm without parameters, modulated by two convolutions of the guidance."""

    def __init__(self, channels: int, guidance: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        while channels % self.groups:
            self.groups -= 1
        self.shared = make_conv(2, guidance, hidden, 3)
        self.modulation = make_conv(2, hidden, 2 * channels, 3)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        gamma, beta = self.modulation(F.relu(self.shared(guidance))).chunk(2, 1)
        normal = F.group_norm(x, self.groups)
        return torch.addcmul(beta.to(normal.dtype), normal, (1 + gamma).to(normal.dtype))


class Replenishment(nn.Module):
    """A residual block whose norms are guided: (B, inputs, H, W) to (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, guidance: int, hidden: int, groups: int) -> None:
        super().__init__()
        middle = min(inputs, outputs)
        self.norm1, self.norm2 = (GuidedNorm(width, guidance, hidden, groups) for width in (inputs, middle))
        self.conv1, self.conv2 = make_conv(2, inputs, middle, 3), make_conv(2, middle, outputs, 3)
        changes = inputs != outputs
        self.norm_skip = GuidedNorm(inputs, guidance, hidden, groups) if changes else None
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if changes else nn.Identity()

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        h = self.conv1(F.leaky_relu(self.norm1(x, guidance), 0.2))
        h = self.conv2(F.leaky_relu(self.norm2(h, guidance), 0.2))
        skip: Tensor = self.skip(x if self.norm_skip is None else self.norm_skip(x, guidance))
        return skip + h


class HiFaceGan(PictureEnhancer):
    """The model, with the interface of the enhancer; see the module's description."""

    def __init__(self, config: HiFaceGanConfig) -> None:
        super().__init__()
        self.config: HiFaceGanConfig = config
        self.channels = 4 if config.matte else 3
        fine_to_coarse = tuple(config.width * min(16, 2**level) for level in range(config.halvings + 1))
        coarse = fine_to_coarse[::-1]
        self.suppression = Suppression(self.channels, fine_to_coarse)
        self.start = make_conv(2, self.channels, coarse[0], 3)

        def block(inputs: int, outputs: int, guidance: int) -> Replenishment:
            return Replenishment(inputs, outputs, guidance, config.hidden, config.groups)

        self.first = block(coarse[0], coarse[0], coarse[0])
        self.middle = nn.ModuleList(block(inputs, coarse[1], coarse[1]) for inputs in coarse[:2])
        self.up = nn.ModuleList(block(a, b, b) for a, b in itertools.pairwise(coarse[1:]))
        self.output = make_conv(2, coarse[-1], self.channels, 3)

    def forward(self, picture: Tensor, fine: Tensor | None = None) -> Tensor:
        """The picture at twice its size; arguments and result as for `Enhancer.forward`, `fine` is not used."""
        check_shape(picture, "picture", "B", self.channels, "S", "S")
        large = grow(picture, 2 * picture.shape[-1]) * 2 - 1
        guidance = self.suppression(large)
        small = F.interpolate(large, guidance[0].shape[-2:], mode="nearest")
        x = self.first(self.start(small), guidance[0])
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        for block in self.middle:
            x = block(x, guidance[1])
        for block, features in zip(self.up, guidance[2:], strict=True):
            x = block(F.interpolate(x, scale_factor=2, mode="nearest"), features)
        return (self.output(F.leaky_relu(x, 0.2)).float().tanh() + 1) / 2
