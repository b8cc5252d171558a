"""Landmarks of lids, irises and lips from crops of eyes and mouth, for the loss `component_landmarks`.

Ours, not in the paper. Lids and lips that open too little hardly change an L1 loss, because they are few pixels. The
distance in centimetres measures directly how far they still have to move.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from megaportraits.config.model import ComponentLandmarkConfig
from megaportraits.models.component_crops import component_windows, crop_components
from megaportraits.ops.warping import Pose

EYE_POINTS, MOUTH_POINTS = 17, 40
"""An eye: sixteen points of the lids and the centre of the iris. The mouth: twenty points of the outer outline of the
lips and twenty of the inner one."""


class _Reader(nn.Module):
    """Crops (N, 3, size, size) in [0, 1] to points (N, points, 2) in units of half the crop's side."""

    def __init__(self, size: int, points: int, config: ComponentLandmarkConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width in config.widths:
            layers += [nn.Conv2d(inputs, width, 3, stride=2, padding=1), nn.GroupNorm(config.groups, width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(config.groups, width), nn.ReLU()]
            inputs, size = width, size // 2
        self.features = nn.Sequential(*layers)
        self.points = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs * size**2, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 2 * points)
        )

    def forward(self, crops: Tensor) -> Tensor:
        points: Tensor = self.points(self.features(crops * 2 - 1)).float()
        return points.reshape(len(crops), -1, 2)


class ComponentLandmarkNet(nn.Module):
    """One network for both eyes (the right eye is mirrored), and one for the mouth."""

    def __init__(self, config: ComponentLandmarkConfig) -> None:
        super().__init__()
        self.config = config
        self.eye = _Reader(config.eye_size, EYE_POINTS, config)
        self.mouth = _Reader(config.mouth_size, MOUTH_POINTS, config)

    def crops(self, image: Tensor, pose: Pose) -> tuple[Tensor, Tensor]:
        """Cut eyes and mouth out of head crops.

        Args:
            image: (B, 3, S, S), head crops.
            pose: the heads' poses.

        Returns:
            Eyes (2 B, 3, e, e), the left ones, then the right ones mirrored; and mouths (B, 3, m, m).
        """
        c = self.config
        return crop_components(
            image, pose, eye_cm=c.eye_cm, mouth_cm=c.mouth_cm, eye_size=c.eye_size, mouth_size=c.mouth_size
        )

    def relative(self, left: Tensor, right: Tensor, mouth: Tensor, pose: Pose) -> tuple[Tensor, Tensor]:
        """Convert landmarks from the head crop's coordinates to those of the crops of `crops`.

        Args:
            left: left eyes, (B, 17, 2), crop units.
            right: right eyes, (B, 17, 2), crop units.
            mouth: (B, 40, 2), crop units.
            pose: as given to `crops`.

        Returns:
            (2 B, 17, 2) and (B, 40, 2), in units of half the crop's side, as `forward`.
        """
        windows = component_windows(pose, eye_cm=self.config.eye_cm, mouth_cm=self.config.mouth_cm)
        local = [
            (points.float() - center[:, None]) / half[:, None, None]
            for points, (center, half) in zip((left, right, mouth), windows, strict=True)
        ]
        return torch.cat([local[0], local[1] * left.new_tensor([-1.0, 1.0])]), local[2]

    def forward(self, eyes: Tensor, mouth: Tensor) -> tuple[Tensor, Tensor]:
        """Landmarks in the crops of `crops`: (2 B, 17, 2) and (B, 40, 2), in units of half the crop's side."""
        return self.eye(eyes), self.mouth(mouth)

    def centimetres(self) -> tuple[float, float]:
        """Half the side of an eye's crop and of the mouth's on the head, centimetres."""
        return self.config.eye_cm / 2, self.config.mouth_cm / 2
