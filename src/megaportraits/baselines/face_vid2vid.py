"""face-vid2vid (Wang et al., "One-Shot Free-View Neural Talking-Head Synthesis for Video Conferencing", CVPR 2021).

The source becomes an appearance volume and canonical 3D keypoints. A second network gives each image's head rotation,
translation and expression deltas, which move the keypoints. Source and driver keypoints define a 3D flow and an
occlusion map, with which the generator warps the volume. This is the original generator, without SPADE.

The authors published no code. Sizes are those of the paper's appendix; hourglass, heat maps and occlusion map are
those of FOMM, on which the paper builds, with FOMM's differences (`baselines.fomm`). Not in the paper: rotations are in
the axes of `docs/conventions.md`, and the trunk of the pose network is this package's pre-activation ResNet-50.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from megaportraits.baselines.base import Baseline, BaselineOutput, WarpedGenerator, autocast_off
from megaportraits.baselines.keypoints import DenseMotion, SparseMotion, expected_positions, heat_maps, transformed
from megaportraits.config import FaceVid2VidConfig
from megaportraits.nn.backbones import ResNet
from megaportraits.nn.blocks import BlockStyle, ResBlock, make_conv
from megaportraits.nn.hourglass import ConvBlock, DownBlocks, UpBlocks, encoder_widths
from megaportraits.ops.geometry import rotation_from_euler
from megaportraits.ops.resample import shrink
from megaportraits.ops.shapes import check_shape
from megaportraits.ops.warping import rotation_y_down, sample_at


@dataclass(frozen=True)
class FaceMotion:
    """Head pose and expression of a batch of images.

    Attributes:
        rotation: (B, 3, 3), head axes to camera axes, y up.
        translation: (B, 3), crop units, y down.
        deltas: (B, K, 3), displacements of the keypoints by the expression, crop units, y down.
    """

    rotation: Tensor
    translation: Tensor
    deltas: Tensor

    def keypoints(self, canonical: Tensor) -> Tensor:
        """x_k = R x_c,k + t + delta_k: canonical keypoints (B, K, 3) in the image, crop units, y down."""
        turned = transformed(rotation_y_down(self.rotation)[:, None], canonical)
        return turned + self.translation[:, None] + self.deltas

    def relative(self, first: FaceMotion, source: FaceMotion) -> FaceMotion:
        """The source's motion, changed as this motion differs from `first`."""
        with autocast_off(self.rotation):
            rotation = self.rotation @ first.rotation.transpose(1, 2) @ source.rotation
        return FaceMotion(
            rotation,
            source.translation + self.translation - first.translation,
            source.deltas + self.deltas - first.deltas,
        )


@dataclass(frozen=True)
class FaceSource:
    """An encoded source: appearance volume (B, C, D, h, w), canonical keypoints (B, K, 3), and its own motion."""

    volume: Tensor
    canonical: Tensor
    motion: FaceMotion


class AppearanceVolume(nn.Module):
    """F of the paper: image (B, 3, S, S) to the appearance volume (B, C, D, S / 2^n, S / 2^n)."""

    def __init__(self, config: FaceVid2VidConfig, style: BlockStyle) -> None:
        super().__init__()
        first, widths = min(config.most, config.width), encoder_widths(config.width, config.most, config.halvings)
        self.depth = config.volume_depth
        self.stem = ConvBlock(2, 3, first, style, kernel=7)
        self.encoder = DownBlocks(2, first, widths, style)
        self.to_volume = make_conv(2, widths[-1], config.volume_channels * config.volume_depth, 1)
        channels = config.volume_channels
        self.blocks = nn.Sequential(*(ResBlock(3, channels, channels, style) for _ in range(config.blocks_3d)))

    def forward(self, image: Tensor) -> Tensor:
        volume: Tensor = self.blocks(self.to_volume(self.encoder(self.stem(image))).unflatten(1, (-1, self.depth)))
        return volume


class CanonicalKeypoints(nn.Module):
    """L of the paper: image (B, 3, S, S) to canonical keypoints (B, K, 3), crop units, y down."""

    def __init__(self, config: FaceVid2VidConfig, style: BlockStyle) -> None:
        super().__init__()
        d = config.detector
        self.size = config.image_size // config.detector_shrink
        self.temperature, self.depth = config.temperature, config.detector_depth
        widths = encoder_widths(d.width, d.most, d.levels)
        self.encoder = DownBlocks(2, 3, widths, style)
        self.to_volume = make_conv(2, widths[-1], widths[-1] * self.depth, 1)
        up = (*reversed(widths), min(d.most, d.width))
        self.decoder = UpBlocks(3, up, style)
        self.heat = make_conv(3, up[-1], config.keypoints, config.kernel)

    def forward(self, image: Tensor) -> Tensor:
        volume = self.to_volume(self.encoder(shrink(image, self.size))).unflatten(1, (-1, self.depth))
        return expected_positions(heat_maps(self.heat(self.decoder(volume)), self.temperature))


class PoseAndExpression(nn.Module):
    """H and Delta of the paper: image (B, 3, S, S) to `FaceMotion`.

    Each Euler angle is the mean of the bins' centres under a softmax.
    """

    def __init__(self, config: FaceVid2VidConfig, style: BlockStyle) -> None:
        super().__init__()
        self.trunk = ResNet(50, config.pose_width, style)
        self.angles = nn.Linear(self.trunk.channels, 3 * config.bins)
        self.translation = nn.Linear(self.trunk.channels, 3)
        self.deltas = nn.Linear(self.trunk.channels, 3 * config.keypoints)
        self.bins, self.bin_degrees = config.bins, config.bin_degrees

    def forward(self, image: Tensor) -> FaceMotion:
        check_shape(image, "image", "B", 3, "S", "S")
        features = self.trunk(image).mean((2, 3))
        with autocast_off(features):  # bfloat16 resolves angles to half a degree only
            features = features.float()
            probabilities = self.angles(features).unflatten(1, (3, -1)).softmax(-1)
            centers = (torch.arange(self.bins, device=features.device) - (self.bins - 1) / 2) * self.bin_degrees
            yaw, pitch, roll = (probabilities * centers).sum(-1).unbind(1)
            deltas = self.deltas(features).unflatten(1, (-1, 3))
            return FaceMotion(rotation_from_euler(yaw, pitch, roll), self.translation(features), deltas)


class FaceVid2Vid(Baseline[FaceSource, FaceMotion]):
    """The model; see the module's description."""

    def __init__(self, config: FaceVid2VidConfig) -> None:
        super().__init__()
        self.config: FaceVid2VidConfig = config
        style, depth = BlockStyle(config.groups, "none"), config.volume_depth
        self.appearance = AppearanceVolume(config, style)
        self.canonical = CanonicalKeypoints(config, style)
        self.pose = PoseAndExpression(config, style)
        self.compress = ConvBlock(3, config.volume_channels, config.compressed, style, kernel=1)
        self.dense_motion = DenseMotion(
            3, config.compressed, config.keypoints, depth, config.motion, kernel=config.kernel, style=style
        )
        features = encoder_widths(config.width, config.most, config.halvings)[-1]
        self.merge = ConvBlock(2, config.volume_channels * depth, features, style)
        self.project = make_conv(2, features, features, 1)
        self.generator = WarpedGenerator(config, style)

    def encode(self, source: Tensor) -> FaceSource:
        """See `Baseline`."""
        check_shape(source, "source", "B", 3, "S", "S")
        return FaceSource(self.appearance(source), self.canonical(source), self.motion(source))

    def motion(self, driver: Tensor) -> FaceMotion:
        """Head pose and expression of the driver."""
        motion: FaceMotion = self.pose(driver)
        return motion

    def own_motion(self, encoded: FaceSource) -> FaceMotion:
        """Head pose and expression of the source."""
        return encoded.motion

    def render(self, encoded: FaceSource, motion: FaceMotion) -> BaselineOutput:
        """See `Baseline`."""
        dense = self.dense_motion(self.compress(encoded.volume), sparse_motion(encoded, motion))
        features = self.project(self.merge(sample_at(encoded.volume, dense.flow).flatten(1, 2)))
        image, alpha = self.generator(features, dense.occlusion)
        return BaselineOutput(image, alpha, dense.flow, dense.occlusion)


def sparse_motion(source: FaceSource, driver: FaceMotion) -> SparseMotion:
    """The motions near the keypoints, whose linear part R_s R_d^-1 is the same for all."""
    with autocast_off(driver.rotation):
        linear = rotation_y_down(source.motion.rotation @ driver.rotation.transpose(1, 2))
    count = source.canonical.shape[1]
    return SparseMotion(
        source.motion.keypoints(source.canonical),
        driver.keypoints(source.canonical),
        linear[:, None].expand(-1, count, -1, -1),
    )
