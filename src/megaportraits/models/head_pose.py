"""The pre-trained half of E_mtn (A.1): head rotation, translation and scale from one image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from megaportraits.nn.backbones import ResNet
from megaportraits.nn.blocks import BlockStyle
from megaportraits.ops.geometry import rotation_from_6d
from megaportraits.ops.resample import fit_input
from megaportraits.ops.warping import Pose


class HeadPoseNet(nn.Module):
    """ResNet-18 and a linear layer: 6D rotation, translation, log scale.

    The paper does not give the parametrisation of the rotation; ours is the continuous 6D form, orthonormalised.
    """

    def __init__(self, width: int, size: int, style: BlockStyle) -> None:
        super().__init__()
        self.size = size
        self.trunk = ResNet(18, width, style)
        self.head = nn.Linear(self.trunk.channels, 9)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0, 0, 0, 0]))

    @property
    def is_trained(self) -> bool:
        """Whether the pose depends on the image. A newly initialised network gives the identity for every image."""
        return bool(self.head.weight.any())

    def forward(self, image: Tensor) -> Pose:
        """Image (B, 3, S, S) in [0, 1], a head crop, to its pose in crop units."""
        features = self.trunk(fit_input(image, self.size)).mean((2, 3))
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 resolves angles to half a degree only
            out = self.head(features.float())
        return Pose(rotation_from_6d(out[:, :6]), out[:, 6:8], out[:, 8].clamp(-2, 2).exp())
