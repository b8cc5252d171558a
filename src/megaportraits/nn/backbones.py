"""ResNets with GroupNorm and weight standardisation, for descriptors and motion (Appendix A.1).

"We replace all BatchNorms with GroupNorms" (A.1). The layers are those of ResNet-18 or ResNet-50 (He et al., 2016). The
blocks are pre-activation, as everywhere in the paper. Parameter counts at width 64: 11.2 M and 23.5 M, without a
classifier.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.nn.blocks import BlockStyle, add_branch, make_conv

Depth = Literal[18, 50]
LAYERS: dict[int, tuple[int, int, int, int]] = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class _BasicBlock(nn.Module):
    """GN, ReLU, 3x3, GN, ReLU, 3x3 with a strided 1x1 skip."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, style: BlockStyle) -> None:
        super().__init__()
        self.norm1 = style.norm(inputs)
        self.conv1 = style.conv(2, inputs, width, 3, first=True, stride=stride)
        self.norm2 = style.norm(width)
        self.conv2 = style.conv(2, width, width, 3, first=False)
        self.skip = style.skip(2, inputs, width, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x), inplace=True))
        return add_branch(self.skip(x), self.conv2(F.relu(self.norm2(h), inplace=True)))


class _Bottleneck(nn.Module):
    """1x1 to width, 3x3, 1x1 to four times the width, each after GN and ReLU."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, style: BlockStyle) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.norm1 = style.norm(inputs)
        self.conv1 = style.conv(2, inputs, width, 1, first=True)
        self.norm2 = style.norm(width)
        self.conv2 = style.conv(2, width, width, 3, first=False, stride=stride)
        self.norm3 = style.norm(width)
        self.conv3 = style.conv(2, width, outputs, 1, first=False)
        self.skip = style.skip(2, inputs, outputs, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x), inplace=True))
        h = self.conv2(F.relu(self.norm2(h), inplace=True))
        return add_branch(self.skip(x), self.conv3(F.relu(self.norm3(h), inplace=True)))


class ResNet(nn.Module):
    """A ResNet trunk: image (B, 3, H, W) in [0, 1] to features (B, channels, H / 32, W / 32)."""

    def __init__(self, depth: Depth, width: int, style: BlockStyle) -> None:
        super().__init__()
        block = _BasicBlock if depth == 18 else _Bottleneck
        self.stem = make_conv(2, 3, width, 7, stride=2)
        stages: list[nn.Module] = []
        inputs, self._ends, self.stage_channels = width, list[int](), list[int]()
        for stage, count in enumerate(LAYERS[depth]):
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                stages.append(block(inputs, width * 2**stage, stride, style))
                inputs = width * 2**stage * block.expansion
            self._ends.append(len(stages))
            self.stage_channels.append(inputs)
        self.blocks = nn.Sequential(*stages)
        self.norm = style.norm(inputs)
        self.channels = inputs

    def forward(self, x: Tensor, finer: list[Tensor] | None = None) -> Tensor:
        """The features of the last stage.

        Args:
            x: image (B, 3, H, W) in [0, 1].
            finer: a list to which the outputs of the earlier stages are appended, at H / 4, H / 8 and H / 16, before
                any norm.
        """
        x = self.stem(x * 2 - 1)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        for count, block in enumerate(self.blocks, start=1):
            x = block(x)
            if finer is not None and count in self._ends[:-1]:
                finer.append(x)
        return F.relu(self.norm(x), inplace=True)
