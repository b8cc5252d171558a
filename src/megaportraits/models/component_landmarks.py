"""Landmarks of lids, irises and lips from crops of eyes and mouth: what the loss `component_landmarks` compares.

Ours; the paper has none. Lids and lips that open too little cost an L1 loss next to nothing, as they are few pixels.
Their distance in centimetres says directly how far they still have to move.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from megaportraits.config.model import ComponentLandmarkConfig
from megaportraits.ops.geometry import HEAD_HALF_CM
from megaportraits.ops.warping import Pose, crop_around, project

LEFT_CM, RIGHT_CM, MOUTH_CM = (3.1, 3.5, 9.0), (-3.1, 3.5, 9.0), (0.0, -3.6, 10.5)
"""Centres of the crops on the neutral head: the subject's left eye, the right one, the mouth."""
EYE_POINTS, MOUTH_POINTS = 17, 40
"""Sixteen points of the lids and the middle of the iris; twenty of the outer edge of the lips, twenty of the inner."""


class _Reader(nn.Module):
    """Crops (N, 3, size, size) in [0, 1] to points (N, points, 2) in units of half a crop."""

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
    """One network for both eyes, whose right one it sees mirrored, and one for the mouth."""

    def __init__(self, config: ComponentLandmarkConfig) -> None:
        super().__init__()
        self.config = config
        self.eye = _Reader(config.eye_size, EYE_POINTS, config)
        self.mouth = _Reader(config.mouth_size, MOUTH_POINTS, config)

    def crops(self, image: Tensor, pose: Pose) -> tuple[Tensor, Tensor]:
        """Eyes and mouths of head crops.

        Args:
            image: (B, 3, S, S).
            pose: of the heads in them.

        Returns:
            (2 B, 3, e, e), the left eyes, then the right ones mirrored; (B, 3, m, m).
        """
        centers, halves = self._windows(pose)
        sizes = (self.config.eye_size, self.config.eye_size, self.config.mouth_size)
        left, right, mouth = (crop_around(image, *window) for window in zip(centers, halves, sizes, strict=True))
        return torch.cat([left, right.flip(-1)]), mouth

    def relative(self, left: Tensor, right: Tensor, mouth: Tensor, pose: Pose) -> tuple[Tensor, Tensor]:
        """Landmarks in crop units of the picture as points of the crops of `crops`.

        Args:
            left: (B, 17, 2).
            right: (B, 17, 2).
            mouth: (B, 40, 2).
            pose: as given to `crops`.

        Returns:
            (2 B, 17, 2) and (B, 40, 2), half crops, as `forward`.
        """
        local = [
            (points.float() - center[:, None]) / half[:, None, None]
            for points, center, half in zip((left, right, mouth), *self._windows(pose), strict=True)
        ]
        return torch.cat([local[0], local[1] * left.new_tensor([-1.0, 1.0])]), local[2]

    def forward(self, eyes: Tensor, mouth: Tensor) -> tuple[Tensor, Tensor]:
        """Points of the crops of `crops`: (2 B, 17, 2) and (B, 40, 2), half crops."""
        return self.eye(eyes), self.mouth(mouth)

    def centimetres(self) -> tuple[float, float]:
        """Half a crop's side on the head, of eyes and of the mouth."""
        return self.config.eye_cm / 2, self.config.mouth_cm / 2

    def _windows(self, pose: Pose) -> tuple[list[Tensor], list[Tensor]]:
        points = torch.tensor([LEFT_CM, RIGHT_CM, MOUTH_CM], device=pose.scale.device)
        centers = project(points, pose)  # (B, 3, 2)
        sides = (self.config.eye_cm, self.config.eye_cm, self.config.mouth_cm)
        return list(centers.unbind(1)), [pose.scale * (side / 2 / HEAD_HALF_CM) for side in sides]
