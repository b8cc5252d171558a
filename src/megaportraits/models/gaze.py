"""The gaze and blink network of B.5. The paper's gaze loss compares its features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from megaportraits.config import GazeConfig
from megaportraits.nn.vgg import MEAN, STD
from megaportraits.ops.geometry import HEAD_HALF_CM
from megaportraits.ops.shapes import check_shape
from megaportraits.ops.warping import Pose, crop_around, project

EYES_CM = ((3.116, 3.602, 7.982), (-3.116, 3.602, 7.982))
"""The eyeballs' centres, the subject's left and right (`docs/conventions.md`)."""
KEYPOINTS_CM = (
    (-4.5, 3.4, 8.6),  # corners of the eyes
    (-1.8, 3.3, 9.2),
    (1.8, 3.3, 9.2),
    (4.5, 3.4, 8.6),
    (-3.8, 6.3, 9.8),  # brows
    (3.8, 6.3, 9.8),
    (0.0, 0.4, 13.1),  # tip and wings of the nose
    (-1.3, -1.1, 10.9),
    (1.3, -1.1, 10.9),
    (-2.5, -3.5, 10.2),  # corners of the mouth
    (2.5, -3.5, 10.2),
    (0.0, -7.6, 10.4),  # chin
)
"""Points of the neutral head. They follow from the pose, so that they are also known for clips without landmarks."""
LANDMARK_COUNT = 143
"""Number of input landmarks with `keypoint_input` "landmarks": those of `faces.outlines.FEATURES`."""


@dataclass(frozen=True)
class GazeOutput:
    """Gaze and blink.

    Attributes:
        gaze: (B, 2), yaw and pitch relative to the head, radians.
        blink: (B,), 0 open to 1 closed, the mean of both eyes.
    """

    gaze: Tensor
    blink: Tensor


def eye_crops(image: Tensor, pose: Pose, *, centimetres: float, size: int) -> Tensor:
    """Upright crops of both eyes, the subject's left first: (B, 3, S, S) to (B, 2, 3, size, size)."""
    centers = project(torch.tensor(EYES_CM), pose)  # (B, 2, 2)
    half_side = pose.scale * (centimetres / 2 / HEAD_HALF_CM)
    return torch.stack([crop_around(image, centers[:, eye], half_side, size) for eye in range(2)], 1)


def head_keypoints(pose: Pose) -> Tensor:
    """`relative_keypoints` of the neutral head with these poses, (B, 12, 2)."""
    return relative_keypoints(project(torch.tensor(KEYPOINTS_CM), pose), pose)


def relative_keypoints(points: Tensor, pose: Pose) -> Tensor:
    """Points (B, N, 2) in crop units, relative to their mean and divided by the pose's scale."""
    points = points.float()
    return (points - points.mean(1, keepdim=True)) / pose.scale.float()[:, None, None]


def _normalized(eye: Tensor) -> Tensor:
    """Normalise colours as for ImageNet's VGG-16."""
    return (eye - eye.new_tensor(MEAN).reshape(3, 1, 1)) / eye.new_tensor(STD).reshape(3, 1, 1)


class EyeEncoder(nn.Module):
    """VGG-16 (Simonyan and Zisserman, 2015) up to its last pooling, and a linear layer.

    As in VGG the linear layer sees all positions: the gaze depends on the position of the iris between the lids.
    """

    def __init__(self, config: GazeConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, self.taps = 3, []
        for stage in config.widths:
            for width in stage:
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
                inputs = width
            self.taps.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)  # the layer names of torchvision's VGG-16
        side = config.eye_size // 2 ** len(config.widths)
        self.to_latent = nn.Linear(inputs * side**2, config.eyes)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def maps(self, eye: Tensor) -> list[Tensor]:
        """The last activations of all stages, fine to coarse, for eyes (N, 3, s, s) in [0, 1]."""
        x, taps = _normalized(eye), []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                taps.append(x)
        return taps

    def forward(self, eye: Tensor) -> Tensor:
        """Eyes (N, 3, s, s) in [0, 1] to latents (N, 256)."""
        return self.to_latent(self.features(_normalized(eye)).flatten(1))


class GazeNet(nn.Module):
    """Sums the latents of both eyes. Gaze follows from the sum and the keypoints, blink from the sum alone."""

    def __init__(self, config: GazeConfig) -> None:
        super().__init__()
        self.config = config
        self.eye = EyeEncoder(config)
        k = config.keypoints
        self.points = LANDMARK_COUNT if config.keypoint_input == "landmarks" else len(KEYPOINTS_CM)
        self.keypoints = nn.Sequential(
            nn.Linear(2 * self.points, k), nn.ReLU(), nn.Linear(k, k), nn.ReLU(), nn.Linear(k, k), nn.ReLU()
        )
        self.gaze = nn.Sequential(nn.Linear(config.eyes + k, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 2))
        self.blink = nn.Sequential(nn.Linear(config.eyes, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1))

    def crops(self, image: Tensor, pose: Pose) -> Tensor:
        """Cut the network's input (B, 2, 3, s, s), both eyes, out of head crops (B, 3, S, S)."""
        return eye_crops(image, pose, centimetres=self.config.eye_cm, size=self.config.eye_size)

    def features(self, eyes: Tensor) -> list[Tensor]:
        """Feature maps of the eye encoder, fine to coarse, for eyes (B, 2, 3, s, s); the gaze loss compares them."""
        return self.eye.maps(eyes.flatten(0, 1))

    def forward(self, eyes: Tensor, keypoints: Tensor) -> GazeOutput:
        """Eyes and keypoints to gaze and blink.

        Args:
            eyes: (B, 2, 3, s, s) in [0, 1], from `crops`.
            keypoints: depending on `keypoint_input`, `relative_keypoints` of landmarks (B, 143, 2) or `head_keypoints`
                (B, 12, 2).
        """
        check_shape(eyes, "eyes", "B", 2, 3, self.config.eye_size, self.config.eye_size)
        check_shape(keypoints, "keypoints", len(eyes), self.points, 2)
        both = self.eye(eyes.flatten(0, 1)).unflatten(0, (-1, 2)).sum(1)
        gaze = self.gaze(torch.cat([both, self.keypoints(keypoints.flatten(1))], 1))
        return GazeOutput(gaze.float(), self.blink(both).float()[:, 0])
