"""First Order Motion Model (Siarohin et al., "First Order Motion Model for Image Animation", NeurIPS 2019).

A detector finds keypoints and their local affine frames (Jacobians) in each image, without labels. Source and driver
keypoints define a flow and an occlusion map, with which the generator warps the source's features.

Differences to the published code: GroupNorm instead of BatchNorm; area averaging instead of a Gaussian filter before
the detector; heat maps as large as the detector's input, in crop coordinates (the published detector for faces crops
three cells at each border and stretches the coordinates); border instead of zero padding in warps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from megaportraits.baselines.base import Baseline, BaselineOutput, WarpedGenerator, autocast_off, warped
from megaportraits.baselines.keypoints import (
    DenseMotion,
    SparseMotion,
    expected_positions,
    heat_maps,
    make_hourglass,
)
from megaportraits.config import FommConfig
from megaportraits.nn.blocks import BlockStyle, make_conv
from megaportraits.nn.hourglass import ConvBlock, DownBlocks, encoder_widths
from megaportraits.ops.resample import shrink
from megaportraits.ops.shapes import check_shape


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of a batch of images.

    Attributes:
        position: (B, K, 2), crop coordinates.
        jacobian: (B, K, 2, 2), the derivative of the map from the abstract reference frame to the image.
    """

    position: Tensor
    jacobian: Tensor

    def relative(self, first: Keypoints, source: Keypoints) -> Keypoints:
        """The source's keypoints, moved as these differ from `first` (3.4): for drivers of another shape."""
        with autocast_off(self.position):
            change = self.jacobian @ torch.linalg.inv(first.jacobian)
            return Keypoints(source.position + self.position - first.position, change @ source.jacobian)


@dataclass(frozen=True)
class FommSource:
    """An encoded source: the image at the dense motion's size, its features and its keypoints."""

    small: Tensor
    features: Tensor
    keypoints: Keypoints


class KeypointDetector(nn.Module):
    """Image (B, 3, S, S) in [0, 1] to `Keypoints`. At initialisation all Jacobians are the identity."""

    def __init__(self, config: FommConfig, style: BlockStyle) -> None:
        super().__init__()
        self.size = config.image_size // config.detector_shrink
        self.temperature = config.temperature
        self.hourglass = make_hourglass(2, 3, config.detector, style)
        self.heat = make_conv(2, self.hourglass.channels, config.keypoints, config.kernel)
        self.jacobian = make_conv(2, self.hourglass.channels, 4 * config.keypoints, config.kernel)
        identity = torch.eye(2).flatten().repeat(config.keypoints)
        self.jacobian.load_state_dict(
            {"weight": torch.zeros_like(self.jacobian.state_dict()["weight"]), "bias": identity}
        )

    def forward(self, image: Tensor) -> Keypoints:
        check_shape(image, "image", "B", 3, "S", "S")
        features = self.hourglass(shrink(image, self.size))
        heat = heat_maps(self.heat(features), self.temperature)  # (B, K, h, w)
        jacobian = self.jacobian(features).float().unflatten(1, (-1, 4))  # (B, K, 4, h, w)
        mean = (heat[:, :, None] * jacobian).sum((-2, -1))
        return Keypoints(expected_positions(heat), mean.unflatten(-1, (2, 2)))


class FirstOrderMotionModel(Baseline[FommSource, Keypoints]):
    """The model; see the module's description."""

    def __init__(self, config: FommConfig) -> None:
        super().__init__()
        self.config: FommConfig = config
        style = BlockStyle(config.groups, "none")
        self.detector = KeypointDetector(config, style)
        self.dense_motion = DenseMotion(2, 3, config.keypoints, 1, config.motion, kernel=config.kernel, style=style)
        first = min(config.most, config.width)
        self.stem = ConvBlock(2, 3, first, style, kernel=7)
        self.encoder = DownBlocks(2, first, encoder_widths(config.width, config.most, config.halvings), style)
        self.generator = WarpedGenerator(config, style)

    def encode(self, source: Tensor) -> FommSource:
        """See `Baseline`."""
        keypoints = self.detector(source)
        small = shrink(source, source.shape[-1] // self.config.motion_shrink)
        return FommSource(small, self.encoder(self.stem(source)), keypoints)

    def motion(self, driver: Tensor) -> Keypoints:
        """The driver's keypoints."""
        keypoints: Keypoints = self.detector(driver)
        return keypoints

    def own_motion(self, encoded: FommSource) -> Keypoints:
        """The source's keypoints."""
        return encoded.keypoints

    def render(self, encoded: FommSource, motion: Keypoints) -> BaselineOutput:
        """See `Baseline`."""
        dense = self.dense_motion(encoded.small, sparse_motion(encoded.keypoints, motion))
        features = warped(encoded.features, dense.flow)
        image, alpha = self.generator(features, dense.occlusion)
        return BaselineOutput(image, alpha, dense.flow, dense.occlusion)


def sparse_motion(source: Keypoints, driver: Keypoints) -> SparseMotion:
    """The motions near the keypoints, whose linear parts are J_s J_d^-1 (eq. 5)."""
    with autocast_off(driver.jacobian):
        linear = source.jacobian.float() @ torch.linalg.inv(driver.jacobian.float())
    return SparseMotion(source.position, driver.position, linear)
