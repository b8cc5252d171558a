"""VGG features for the paper's perceptual losses (3.1; Johnson et al., 2016; Parkhi et al., 2015)."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import vgg19

from megaportraits.nn.checkpoints import GET_AGAIN, load_published

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RELU_LAYERS = (1, 6, 11, 20, 29)
"""Indices of relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 in torchvision's `features`."""
FACE_MEAN = (129.186279296875, 104.76238250732422, 93.59396362304688)
"""Mean colour (0 to 255, RGB) that VGGFace was trained with."""
FACE_SIZE = 224
_FACE_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class _Frozen(nn.Module):
    """A frozen feature extractor: no gradient to its weights, always in evaluation mode."""

    network = ""

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Load the published file; unused layers are skipped.

        Raises:
            WeightsError: see `load_published`.
        """
        net = cls()
        load_published(net, path, cls.network, fix=GET_AGAIN)
        return net.eval().requires_grad_(False)


class VGG19Features(_Frozen):
    """Frozen relu1_1 .. relu5_1 of images (B, 3, H, W) in [0, 1]."""

    network = "torchvision's VGG19"
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = vgg19(weights=None).features[: RELU_LAYERS[-1] + 1]
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # an in-place ReLU would overwrite an activation that `forward` returns
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).reshape(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Five feature maps, fine to coarse."""
        x, taps = (image - self.mean) / self.std, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in RELU_LAYERS:
                taps.append(x)
        return taps


class VGGFaceFeatures(_Frozen):
    """Frozen conv1_1 .. conv5_1 of VGGFace's VGG-16, of face crops (B, 3, H, W) in [0, 1].

    Layer names are those of the published `vgg_face_dag.pth`.
    """

    network = "VGGFace (vgg_face_dag.pth)"
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        for stage, (width, count) in enumerate(_FACE_STAGES, 1):
            for index in range(1, count + 1):
                if stage == len(_FACE_STAGES) and index > 1:
                    break
                self.add_module(f"conv{stage}_{index}", nn.Conv2d(inputs, width, 3, padding=1))
                inputs = width
        self.register_buffer("mean", torch.tensor(FACE_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Five feature maps before their ReLU, fine to coarse; the network was trained at 224 px."""
        x, taps = image * 255 - self.mean, []
        for name, conv in self.named_children():
            if name.endswith("_1") and name != "conv1_1":
                x = F.max_pool2d(x, 2)
            x = conv(x)
            if name.endswith("_1"):
                taps.append(x)
            x = F.relu(x)
        return taps
