"""EfficientNet-Lite0 (Tan and Le, 2019; the Lite variant of Google, 2020): ReLU6, no squeeze-and-excite.

The layer names are those of the published ImageNet file (`weights.fetch("efficientnet_lite0")`), so that it loads with
strict keys. Padding follows TensorFlow's SAME rule and batch norms use eps 1e-3, as in the training of that file.
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from megaportraits.nn.checkpoints import GET_AGAIN, load_published

_EPS = 1e-3
# (expansion, outputs, repeats, kernel, stride) of each stage.
_STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
_STEM, _HEAD, CLASSES = 32, 1280, 1000
TAPS = (0, 2, 4, 10)
"""Indices of the blocks whose outputs `forward` returns: the last block at each resolution down to 1/16."""


class _SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: an odd pixel of padding is added at the right and the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        vertical, horizontal = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:])
        if stride == 1:  # the same number on both sides, which the convolution adds without a copy
            return F.conv2d(x, self.weight, self.bias, 1, (vertical // 2, horizontal // 2), 1, self.groups)
        pad = (horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2)
        return super().forward(F.pad(x, pad))


class _MBConv(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise convolution, linear 1x1 projection."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self._expands = expansion > 1
        self._residual = stride == 1 and inputs == outputs
        if self._expands:
            self._expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(width, eps=_EPS)
        self._depthwise_conv = _SameConv(width, width, kernel, stride, groups=width, bias=False)
        self._bn1 = nn.BatchNorm2d(width, eps=_EPS)
        self._project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self._expands else x
        h = F.relu6(self._bn1(self._depthwise_conv(h)), inplace=True)
        h = self._bn2(self._project_conv(h))
        return x + h if self._residual else h

    def fold(self) -> None:
        """See `EfficientNetLite0.fold`."""
        if self._expands:
            _fold(self, "_expand_conv", "_bn0")
        _fold(self, "_depthwise_conv", "_bn1")
        _fold(self, "_project_conv", "_bn2")


def _fold(module: nn.Module, conv: str, norm: str) -> None:
    """Put a batch norm's scale and shift into the weights of the convolution before it."""
    setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
    setattr(module, norm, nn.Identity())


class EfficientNetLite0(nn.Module):
    """ImageNet features and class logits of images (B, 3, H, W) in [0, 1], RGB."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, _STEM, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(_STEM, eps=_EPS)
        blocks, inputs = [], _STEM
        for expansion, outputs, repeats, kernel, stride in _STAGES:
            for index in range(repeats):
                blocks.append(_MBConv(inputs, outputs, kernel, stride if index == 0 else 1, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(inputs, _HEAD, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(_HEAD, eps=_EPS)
        self._fc = nn.Linear(_HEAD, CLASSES)

    @classmethod
    def from_file(cls, path: Path) -> EfficientNetLite0:
        """Load `efficientnet-lite0-57934424.pth`; frozen, in evaluation mode, with folded batch norms.

        Raises:
            WeightsError: see `load_published`.
        """
        net = cls()
        load_published(net, path, "EfficientNet-Lite0", fix=GET_AGAIN)
        net.eval().fold()
        return net.requires_grad_(False)

    def fold(self) -> None:
        """Fold the batch norms into the convolutions, in place, for inference; outputs change by rounding only."""
        _fold(self, "_conv_stem", "_bn0")
        for block in self._blocks:
            block.fold()  # type: ignore[operator]
        _fold(self, "_conv_head", "_bn1")

    def forward(self, image: Tensor) -> list[Tensor]:
        """Four feature maps, fine to coarse: 16, 24, 40, 112 channels at 1/2, 1/4, 1/8, 1/16 of the size."""
        x, taps = self._stem(image), []
        for index, block in enumerate(self._blocks[: TAPS[-1] + 1]):
            x = block(x)
            if index in TAPS:
                taps.append(x)
        return taps

    def pooled(self, image: Tensor) -> Tensor:
        """The classifier's input (B, 1280): features averaged over the image. The network was trained at 224 px."""
        x = self._stem(image)
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))

    def classify(self, image: Tensor) -> Tensor:
        """ImageNet logits (B, 1000)."""
        return self._fc(self.pooled(image))

    def _stem(self, image: Tensor) -> Tensor:
        # The file was trained on (byte - 127) / 128.
        return F.relu6(self._bn0(self._conv_stem((image * 255 - 127) / 128)), inplace=True)
