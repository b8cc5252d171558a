"""HyperIQA (Su et al., CVPR 2020), the image quality metric that the paper uses.

A ResNet-50 extracts features of an image. From its last features a hypernetwork predicts the weights of a small target
network *for this image*: fully connected layers. The target network maps a vector of local features from all four
stages of the ResNet to a quality score. Module names are those of the authors' checkpoint `koniq_pretrained.pkl`.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from megaportraits.errors import ShapeError
from megaportraits.nn.checkpoints import load_published
from megaportraits.ops.resample import fit_input

SIDE = 224
_JUDGED = (512, 384)
"""Rows and columns to which images are resized before they are cropped."""
_CROPS = 10
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WIDTHS = (224, 112, 56, 28, 14, 1)
"""Widths of the target network: input, four hidden layers, score."""
_HYPER = 112
_CELLS = 7
_SHALLOW = 16
"""Features that each of the first three stages gives to the target network's input; the last stage gives the rest."""


class Backbone(ResNet):  # type: ignore[misc]  # torchvision is not typed
    """ResNet-50 with a feature vector from each of its four stages."""

    def __init__(self) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3])
        del self.fc
        self.lda1_pool = nn.Sequential(nn.Conv2d(256, 16, 1, bias=False), nn.AvgPool2d(7, stride=7))
        self.lda1_fc = nn.Linear(16 * 64, _SHALLOW)
        self.lda2_pool = nn.Sequential(nn.Conv2d(512, 32, 1, bias=False), nn.AvgPool2d(7, stride=7))
        self.lda2_fc = nn.Linear(32 * 16, _SHALLOW)
        self.lda3_pool = nn.Sequential(nn.Conv2d(1024, 64, 1, bias=False), nn.AvgPool2d(7, stride=7))
        self.lda3_fc = nn.Linear(64 * 4, _SHALLOW)
        self.lda4_pool = nn.AvgPool2d(7, stride=7)
        self.lda4_fc = nn.Linear(2048, _WIDTHS[0] - 3 * _SHALLOW)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 224, 224) to the target network's input (B, 224) and the last features (B, 2048, 7, 7)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        vectors = []
        for depth in range(1, 5):
            x = getattr(self, f"layer{depth}")(x)
            local = getattr(self, f"lda{depth}_pool")(x).flatten(1)
            vectors.append(getattr(self, f"lda{depth}_fc")(local))
        return torch.cat(vectors, 1), x


class HyperIQA(nn.Module):
    """Image quality in [0, 100] (KonIQ-10k's scale)."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.res = Backbone()
        self.conv1 = nn.Sequential(
            nn.Conv2d(2048, 1024, 1),
            nn.ReLU(),
            nn.Conv2d(1024, 512, 1),
            nn.ReLU(),
            nn.Conv2d(512, _HYPER, 1),
            nn.ReLU(),
        )
        for layer, (inputs, outputs) in enumerate(pairwise(_WIDTHS), 1):
            if layer < 5:
                area = _CELLS**2
                self.add_module(f"fc{layer}w_conv", nn.Conv2d(_HYPER, inputs * outputs // area, 3, padding=1))
                self.add_module(f"fc{layer}b_fc", nn.Linear(_HYPER, outputs))
            else:
                self.fc5w_fc = nn.Linear(_HYPER, inputs)
                self.fc5b_fc = nn.Linear(_HYPER, 1)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def from_file(cls, path: Path) -> HyperIQA:
        """Load the authors' checkpoint, in evaluation mode.

        Raises:
            WeightsError: see `load_published`.
        """
        network = cls()
        fix = "Get koniq_pretrained.pkl from https://github.com/SSL92/hyperIQA."
        load_published(network, path, "HyperIQA", fix=fix)
        return network.eval()

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, 224, 224) in [0, 1] to scores (B,)."""
        if image.shape[1:] != (3, SIDE, SIDE):
            raise ShapeError(f"HyperIQA takes (B, 3, {SIDE}, {SIDE}), got {tuple(image.shape)}.")
        x, deep = self.res.features((image - self.mean) / self.std)
        hyper = self.conv1(deep)  # (B, 112, 7, 7)
        pooled = hyper.mean((2, 3))
        for layer, (inputs, outputs) in enumerate(pairwise(_WIDTHS), 1):
            source = self.fc5w_fc(pooled) if layer == 5 else getattr(self, f"fc{layer}w_conv")(hyper)
            weight = source.reshape(len(x), outputs, inputs)
            bias = getattr(self, f"fc{layer}b_fc")(pooled)
            x = torch.baddbmm(bias[..., None], weight, x[..., None])[..., 0]
            if layer < 5:
                x = F.sigmoid(x)
        return x[:, 0]

    @torch.inference_mode()
    def score(self, image: npt.NDArray[np.uint8]) -> float:
        """The score of an image (H, W, 3) uint8 RGB as in the authors' code: the mean over ten random crops.

        The whole image is first resized to 512 rows and 384 columns, whatever its aspect ratio. The random crops are
        the same for every image, so that scores are reproducible.
        """
        resized = (
            torch.from_numpy(np.ascontiguousarray(image)).to(self.mean.device).permute(2, 0, 1)[None].float() / 255
        )
        resized = fit_input(resized, _JUDGED)
        corners = np.random.default_rng(0).integers(0, [n - SIDE + 1 for n in _JUDGED], (_CROPS, 2))
        views = torch.cat([resized[..., y : y + SIDE, x : x + SIDE] for y, x in corners.tolist()])
        return float(self(views).mean())
