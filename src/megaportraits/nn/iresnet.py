"""The ResNet of published ArcFace checkpoints (Deng et al., 2019; InsightFace's `arcface_torch`, `backbone.pth`).

Module names are those of the checkpoints, which are loaded with strict keys. The depth is read from the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from megaportraits.errors import ShapeError, WeightsError
from megaportraits.nn.checkpoints import read_checkpoint

SIDE = 112
FEATURES = 512
_WIDTHS = (64, 128, 256, 512)
_CELLS = 7
_GET = "Give a `backbone.pth` of InsightFace's arcface_torch (R18 to R200), or an ArcFace network as .onnx."


class _IRBlock(nn.Module):
    """BN, 3x3, BN, PReLU, 3x3 with the stride, BN, plus skip."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Identity()
            if stride == 1
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.downsample(x) + self.bn3(self.conv2(h))


class IResNet(nn.Module):
    """Aligned faces to embeddings. The embeddings are not normalised to unit length.

    Args:
        depths: number of blocks in each of the four stages; (3, 4, 14, 3) is R50, (3, 13, 30, 3) is R100.
    """

    def __init__(self, depths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.prelu = nn.PReLU(_WIDTHS[0])
        inputs = _WIDTHS[0]
        for number, (depth, width) in enumerate(zip(depths, _WIDTHS, strict=True), 1):
            blocks = [_IRBlock(inputs if i == 0 else width, width, 2 if i == 0 else 1) for i in range(depth)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            inputs = width
        self.bn2 = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs * _CELLS**2, FEATURES)
        self.features = nn.BatchNorm1d(FEATURES)

    @classmethod
    def from_file(cls, path: Path) -> IResNet:
        """Load a published checkpoint, in evaluation mode.

        Raises:
            WeightsError: the file cannot be read without running code, or is not such a checkpoint.
        """
        state = read_checkpoint(path, fix=_GET)
        with torch.device("meta"):
            network = cls(_depths(path, state))
        wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        got = {name: tuple(value.shape) for name, value in state.items()}
        if wanted != got:
            wrong = sorted(set(wanted.items()) ^ set(got.items()))[0][0]
            raise WeightsError(
                f"{path} is not an ArcFace checkpoint: {wrong} is {got.get(wrong, 'missing')}, expected "
                f"{wanted.get(wrong, 'no such tensor')}",
                fix=_GET,
            )
        network.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in state.items()}, assign=True
        )
        return network.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """RGB faces aligned to ArcFace's template (B, 3, 112, 112), in [-1, 1], to embeddings (B, 512)."""
        if image.shape[1:] != (3, SIDE, SIDE):
            raise ShapeError(f"ArcFace takes (B, 3, {SIDE}, {SIDE}), got {tuple(image.shape)}.")
        x = self.prelu(self.bn1(self.conv1(image)))
        for number in range(1, len(_WIDTHS) + 1):
            x = getattr(self, f"layer{number}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


def _depths(path: Path, state: Mapping[str, object]) -> tuple[int, int, int, int]:
    """The number of blocks in each stage of a checkpoint."""
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} is not an ArcFace checkpoint: expected tensors by name", fix=_GET)
    one, two, three, four = (
        len({name.split(".")[1] for name in state if name.startswith(f"layer{number}.") and name.count(".") > 1})
        for number in range(1, 5)
    )
    return one, two, three, four
