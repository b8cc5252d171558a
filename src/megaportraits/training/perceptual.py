"""The base model's perceptual losses (eq. 4): frozen networks compare the image, the face and the eyes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from megaportraits import weights
from megaportraits.config import PictureLossConfig
from megaportraits.losses.perceptual import perceptual_loss
from megaportraits.models.motion import crop_face
from megaportraits.models.storage import load_gaze
from megaportraits.nn.efficientnet import EfficientNetLite0
from megaportraits.nn.vgg import FACE_SIZE, VGG19Features, VGGFaceFeatures
from megaportraits.ops.resample import shrink
from megaportraits.ops.warping import Pose
from megaportraits.training.components import ComponentCrops

FACE_CM = 24.0
"""Side of the face crop for VGGFace, in centimetres."""
VGG19_WEIGHTS = (0.2,) * 5
FACE_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
"""Weights of the networks' layers, fine to coarse. Both tuples come from the paper's first author."""


class PerceptualTerms:
    """The perceptual losses that a config switches on, and their weights.

    The networks are frozen. They are not part of the stage's state dict, and move to the images' device.

    Args:
        config: the weights of the losses.
        components: whether `components` will be called, which needs the general network.
        channels_last: store the general network's weights in this memory format (`run.channels_last`).

    Raises:
        WeightsError: the weights of a required network cannot be loaded.
    """

    def __init__(self, config: PictureLossConfig, *, components: bool = False, channels_last: bool = False) -> None:
        self.config = config
        self.general = f"perceptual_{config.perceptual_network.replace('-', '_')}"
        every = {self.general: config.perceptual, "face": config.face, "gaze": config.gaze}
        self.weights = {name: weight for name, weight in every.items() if weight}
        lite = config.perceptual_network == "effnet-lite0"
        if config.perceptual or components:
            self._features = (
                EfficientNetLite0.from_file(weights.fetch("efficientnet_lite0"))
                if lite
                else VGG19Features.from_file(weights.fetch("vgg19"))
            )
            if channels_last:  # feature maps then have it too
                self._features.to(memory_format=torch.channels_last)
        if config.face:
            self._face = VGGFaceFeatures.from_file(weights.fetch("vggface"))
        if config.gaze:
            self._gaze = load_gaze(config.gaze_network)

    def __call__(self, prediction: Tensor, target: Tensor, pose: Pose) -> dict[str, Tensor]:
        """The losses, unweighted.

        Args:
            prediction: (B, 3, S, S) in [0, 1]; receives gradients.
            target: (B, 3, S, S) in [0, 1]; receives no gradients.
            pose: the target's head pose, which locates face and eyes.
        """
        losses: dict[str, Tensor] = {}
        terms: dict[str, Callable[[Tensor, Tensor, Pose], Tensor]] = {
            self.general: self._general_loss,
            "face": self._face_loss,
            "gaze": self._gaze_loss,
        }
        for name in self.weights:
            losses[name] = terms[name](prediction, target, pose.detach())
        return losses

    def components(self, crops: ComponentCrops) -> Tensor:
        """The general network's loss on crops of eyes and mouth, as mean over components."""
        losses = [self._compare(made, crops.wanted[name], scales=1) for name, made in crops.made.items()]
        return torch.stack(losses).mean()

    def _general_loss(self, prediction: Tensor, target: Tensor, pose: Pose) -> Tensor:
        if 0 < self.config.perceptual_size < target.shape[-1]:
            prediction, target = (shrink(image, self.config.perceptual_size) for image in (prediction, target))
        return self._compare(prediction, target, scales=self.config.perceptual_scales)

    def _compare(self, prediction: Tensor, target: Tensor, *, scales: int) -> Tensor:
        lite = self.config.perceptual_network == "effnet-lite0"
        return perceptual_loss(
            prediction,
            target,
            self._features.to(target.device),
            weights=(0.25,) * 4 if lite else VGG19_WEIGHTS,
            scales=scales,
            relative=lite,
        )

    def _face_loss(self, prediction: Tensor, target: Tensor, pose: Pose) -> Tensor:
        got, wanted = (crop_face(image, pose, centimetres=FACE_CM, size=FACE_SIZE) for image in (prediction, target))
        return perceptual_loss(got, wanted, self._face.to(target.device), weights=FACE_WEIGHTS, scales=1)

    def _gaze_loss(self, prediction: Tensor, target: Tensor, pose: Pose) -> Tensor:
        net = self._gaze.to(target.device)
        got, wanted = net.crops(prediction, pose), net.crops(target, pose)
        count = len(net.config.widths)
        return perceptual_loss(got, wanted, net.features, weights=(1 / count,) * count, scales=1)
