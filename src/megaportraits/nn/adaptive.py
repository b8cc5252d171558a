"""Adaptive GroupNorm of the warping generators (Appendix A.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.nn.blocks import BlockStyle, add_branch


class AdaptiveGroupNorm(nn.Module):
    """GroupNorm with gamma = w + dgamma(e), beta = b + dbeta(e).

    "To generate adaptive parameters, we multiply the foregoing sums and additionally learned matrices for each pair of
    parameters" (A.1). The embedding is a matrix E (K, P), K channels at P positions. `U E V`, with U (C, K) and
    V (P, 2), gives dgamma and dbeta. The low-rank form is from the first author's code. V is initialised small, so that
    gamma is near w at first.
    """

    def __init__(self, channels: int, embedding_channels: int, positions: int, style: BlockStyle) -> None:
        super().__init__()
        norm = style.norm(channels)
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.u = nn.Parameter(torch.randn(channels, embedding_channels) / embedding_channels**0.5)
        self.v = nn.Parameter(0.2 * torch.randn(positions, 2) / positions**0.5)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Normalise x (B, C, ...) and modulate it with an embedding (B, K, P)."""
        delta = self.u @ embedding @ self.v  # (B, C, 2)
        shape = (*delta.shape[:2], *[1] * (x.ndim - 2))
        gamma = (self.weight[:, None] + delta[..., :1]).reshape(shape)
        beta = (self.bias[:, None] + delta[..., 1:]).reshape(shape)
        normal = F.group_norm(x, self.groups, eps=self.eps)
        return torch.addcmul(beta.to(normal.dtype), normal, gamma.to(normal.dtype))


class AdaptiveResBlock3D(nn.Module):
    """ResBlock3D*: a ResBlock3D whose GroupNorms are adaptive."""

    def __init__(self, inputs: int, outputs: int, embedding_channels: int, positions: int, style: BlockStyle) -> None:
        super().__init__()
        self.norm1 = AdaptiveGroupNorm(inputs, embedding_channels, positions, style)
        self.conv1 = style.conv(3, inputs, outputs, 3, first=True)
        self.norm2 = AdaptiveGroupNorm(outputs, embedding_channels, positions, style)
        self.conv2 = style.conv(3, outputs, outputs, 3, first=False)
        self.skip = style.skip(3, inputs, outputs)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x, embedding), inplace=True))
        h = self.conv2(F.relu(self.norm2(h, embedding), inplace=True))
        return add_branch(self.skip(x), h)


class SpatiallyAdaptiveNorm(nn.Module):
    """SPADE (Park et al., 2019) over InstanceNorm: gamma and beta vary over the image (A.3).

    A 1x1 convolution computes gamma and beta from a tensor with as many channels as the features. A tensor smaller than
    the features is allowed: gamma and beta are upsampled bilinearly. `modulation` is separate from `forward`, so that
    it can be computed once for a constant tensor.

    Args:
        channels: channels of the features and of the tensor.
        size: height and width of the features.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        self.to_modulation = nn.Conv2d(channels, 2 * channels, 1, bias=False)

    def modulation(self, tensor: Tensor) -> Tensor:
        """Tensor (B, C, h, w) to 1 + gamma and beta, (B, 2 C, size, size)."""
        gamma, beta = self.to_modulation(tensor).chunk(2, 1)
        both = torch.cat([1 + gamma, beta], 1)
        if both.shape[-1] != self.size:
            both = F.interpolate(both, (self.size, self.size), mode="bilinear", align_corners=False)
        return both

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Normalise x (B, C, size, size) and modulate it; the batch of `modulation` may be 1."""
        gamma, beta = modulation.chunk(2, 1)
        normal = F.instance_norm(x)
        return torch.addcmul(beta.to(normal.dtype), normal, gamma.to(normal.dtype))
