"""VGG19 feature taps of the paper's perceptual loss (3.1; Johnson et al., 2016)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import vgg19

from megaportraits.errors import WeightsError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RELU_LAYERS = (1, 6, 11, 20, 29)
"""Indices of relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 in torchvision's `features`."""


class VGG19Features(nn.Module):
    """Frozen relu1_1 .. relu5_1 of images (B, 3, H, W) in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = vgg19(weights=None).features[: RELU_LAYERS[-1] + 1]
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # an in-place ReLU would overwrite the tapped activation
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).reshape(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    @classmethod
    def from_file(cls, path: Path) -> VGG19Features:
        """Load torchvision's published VGG19 file; its classifier and deeper layers are not used."""
        net = cls()
        state = torch.load(path, map_location="cpu", weights_only=True)
        wanted = net.state_dict()
        missing = sorted(set(wanted) - set(state))
        if missing:
            raise WeightsError(f"{path} does not hold torchvision's VGG19: {missing[0]} is missing")
        net.load_state_dict({key: state[key] for key in wanted})
        return net

    def forward(self, image: Tensor) -> list[Tensor]:
        """Five feature maps, fine to coarse."""
        x, taps = (image - self.mean) / self.std, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in RELU_LAYERS:
                taps.append(x)
        return taps
