"""Visualise the model's feature volumes (appendix C: a video of the animated volume v_s, 96 x 16 x 64 x 64).

Colours are the three principal components of the features. Opacity is the distance of a feature from the features of
empty space. The volume is rotated and composited along the viewer's depth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.config.options import convert_options
from megaportraits.errors import ConfigError
from megaportraits.media.images import UInt8
from megaportraits.models.motion import Motion
from megaportraits.nn.inference import running
from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.ops.pictures import over
from megaportraits.ops.resample import shrink
from megaportraits.ops.warping import Pose, identity_grid, image_to_canonical, sample
from megaportraits.pipeline.avatar import Avatar
from megaportraits.pipeline.driver import FrameSource
from megaportraits.pipeline.options import AnimateOptions
from megaportraits.pipeline.portrait import Portrait, Source
from megaportraits.pipeline.sequence import prepare_driver
from megaportraits.pipeline.tensors import head_crop_tensor

_STEPS = 48
"""Samples along the viewer's depth."""
_DENSITY = 16.0
"""Extinction of solid features, per grid unit; a head is about one unit deep."""
_EMPTY, _SOLID = 0.3, 0.7
"""Distances from the empty feature, relative to the 99 % quantile: voxels below the first are transparent, above the
second opaque."""
_OUTSIDE = 0.02
"""Mean matte below which a cell of v_s counts as outside the person."""
_FEWEST = 16
"""Smallest number of cells outside the person from which the empty feature is computed."""
_SPREAD = 2.0
"""Number of standard deviations of a component that give full colour."""
_DARKEST = 0.55
"""Brightness factor at the back of the volume; it is 1 at the front."""
_WHITE = np.full(3, 255, np.uint8)


@dataclass(frozen=True)
class VolumeOptions:
    """Options of volume videos.

    Attributes:
        size: side of each image, pixels; even, because video encoders require it.
        turn: largest turn to either side, degrees.
        seconds: length of a turntable; with a driver, how much of it is used, seconds.
        fps: frames per second of a turntable.
    """

    size: int = 256
    turn: float = 40.0
    seconds: float = 4.0
    fps: int = 25

    def __post_init__(self) -> None:
        convert_options(self)
        if self.size < 32 or self.size % 2 or not 0 <= self.turn <= 90 or self.seconds <= 0:
            raise ConfigError(
                f"Expected an even size of at least 32, a turn of 0 to 90 degrees and some seconds, got {self}.",
                fix="See `megaportraits volume --help`.",
            )


@dataclass(frozen=True)
class Colouring:
    """The map from features to colour and opacity; the same for all frames of a video.

    Attributes:
        empty: (C, D) or (C, 1), the mean feature of empty space, for each depth or for all.
        full: the 99 % quantile of the features' distances from `empty`.
        mean: (C,), mean of the features of solid voxels.
        basis: (C, 3), their principal components, divided by `_SPREAD` standard deviations each.
    """

    empty: Tensor
    full: float
    mean: Tensor
    basis: Tensor

    @classmethod
    def of(cls, volume: Tensor, outside: Tensor | None = None) -> Colouring:
        """Fit to the first volume of a batch (B, C, D, H, W).

        Args:
            volume: the features.
            outside: (H, W) bool, cells outside the person, for every depth; None takes the outermost rows and columns.
        """
        features = volume[0].float()
        if outside is not None and int(outside.sum()) >= _FEWEST:
            empty = features[:, :, outside].mean(2)
        else:
            border = torch.cat([features[:, :, [0, -1]].flatten(1), features[:, :, :, [0, -1]].flatten(1)], 1)
            empty = border.mean(1, keepdim=True)
        voxels = features.flatten(1).T
        distance = (features - empty[:, :, None, None]).norm(dim=0).flatten()
        full = max(float(distance.quantile(0.99)) if len(distance) < 2**24 else float(distance.max()), 1e-6)
        solid = voxels[distance > 0.5 * (_EMPTY + _SOLID) * full]
        solid = solid if len(solid) > 3 else voxels
        mean = solid.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(solid.T))
        basis = vectors[:, -3:].flip(1)
        spread = values[-3:].flip(0).clamp_min(1e-12).sqrt()
        # An eigenvector's sign is arbitrary: make its largest entry positive, so that colours are reproducible.
        sign = basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        return cls(empty, full, mean, basis * sign / (_SPREAD * spread))

    def __call__(self, volume: Tensor) -> Tensor:
        """Map features (B, C, D, H, W) to colours and density, (B, 4, D, H, W) in [0, 1]."""
        distance = (volume.float() - self.empty[:, :, None, None]).norm(dim=1)[..., None] / self.full
        features = volume.float().movedim(1, -1)
        density = ((distance - _EMPTY) / (_SOLID - _EMPTY)).clamp(0, 1)
        colours = (0.5 + 0.5 * (features - self.mean) @ self.basis).clamp(0, 1)
        return torch.cat([colours, density], -1).movedim(-1, 1)


def render_volume(coloured: Tensor, *, yaw: float, pitch: float, size: int) -> UInt8:
    """Render a coloured volume (1, 4, D, H, W) after a rotation, over white, (size, size, 3) uint8.

    Args:
        coloured: output of `Colouring`; its last depth is nearest to the viewer.
        yaw: degrees by which the volume turns to image right.
        pitch: degrees by which it turns down.
        size: side of the image, pixels.
    """
    turn = torch.tensor(euler_to_matrix(yaw, pitch, 0.0), dtype=torch.float32, device=coloured.device)
    pose = Pose(turn[None], torch.zeros(1, 2, device=coloured.device), torch.ones(1, device=coloured.device))
    grid = identity_grid((_STEPS, size, size), coloured)
    points = image_to_canonical(grid, pose, (_STEPS, size, size))
    inside = (points.abs() <= 1).all(-1)[:, None]
    seen = sample(coloured.float(), points)
    density = seen[:, 3:] * inside
    alpha = (1 - torch.exp(-_DENSITY * (2 / _STEPS) * density)).flip(2)  # front to back
    light = _DARKEST + (1 - _DARKEST) * (grid[None, ..., 2] + 1) / 2
    colours = (seen[:, :3] * light).flip(2)
    behind = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :, :1]), 1 - alpha], 2), 2)
    return _to_bytes((colours * alpha * behind[:, :, :-1]).sum(2) + behind[:, :, -1])


def source_volume(avatar: Avatar, portrait: Portrait) -> Tensor:
    """v_s (1, C, D, H, W): the output of E_app for the source."""
    seen = head_crop_tensor(portrait.seen, avatar.size, avatar.device)
    with running(avatar.device, avatar.precision):
        return avatar.model.appearance.volume(shrink(seen, avatar.model.config.coarse_size))


def driven_volume(avatar: Avatar, portrait: Portrait, motion: Motion) -> Tensor:
    """v_s->d (1, C, D, H, W), eq. 1."""
    with running(avatar.device, avatar.precision):
        return avatar.model.driven_volume(portrait.identity, motion)[0]


def turntable(avatar: Avatar, source: Source, options: VolumeOptions) -> Iterator[UInt8]:
    """Frames (S, 3 S, 3): the source's head crop, its volume v_s and the canonical volume, turning once to both sides.

    Raises:
        MediaError, FaceError: as `Avatar.encode`.
    """
    portrait = avatar.encode(source)
    own, canonical = source_volume(avatar, portrait), portrait.identity.volume
    outside = F.adaptive_avg_pool2d(portrait.fine[:, 3:], (own.shape[-2], own.shape[-1]))[0, 0] < _OUTSIDE
    coloured = [Colouring.of(own, outside)(own), Colouring.of(canonical)(canonical)]
    photo = _fitted(portrait.square, options.size)
    count = max(round(options.seconds * options.fps), 1)
    for number in range(count):
        phase = 2 * math.pi * number / count
        yaw, pitch = options.turn * math.sin(phase), options.turn / 4 * math.sin(2 * phase)
        views = [render_volume(each, yaw=yaw, pitch=pitch, size=options.size) for each in coloured]
        yield np.concatenate([photo, *views], axis=1)


def animated(avatar: Avatar, source: Source, driver: FrameSource, options: VolumeOptions) -> Iterator[UInt8]:
    """Frames (S, 4 S, 3): the driver's head crop, the result, and v_s->d seen from the front and from the side.

    Driver frames without a face are left out.

    Raises:
        MediaError, FaceError: as `Avatar.animate`.
    """
    portrait = avatar.encode(source)
    follower, _ = prepare_driver(avatar, driver, AnimateOptions())
    colouring = Colouring.of(portrait.identity.volume)
    shown = False
    for view in map(follower.look, driver.frames(options.seconds)):
        if view.head is None:
            continue
        shown = True
        (motion,) = avatar.view_motions([view.head])
        picture = over(avatar.render(portrait, motion).premultiplied, _WHITE)
        volume = colouring(driven_volume(avatar, portrait, motion))
        angles = (0.0, options.turn)
        views = [render_volume(volume, yaw=yaw, pitch=0.0, size=options.size) for yaw in angles]
        seen = [_fitted(image, options.size) for image in (view.head.image, picture)]
        yield np.concatenate([*seen, *views], axis=1)
    if not shown:
        raise follower.missing(driver.name)


def _fitted(image: UInt8, size: int) -> UInt8:
    return _to_bytes(head_crop_tensor(image, size, torch.device("cpu")))


def _to_bytes(images: Tensor) -> UInt8:
    """The first image of a batch (B, 3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return np.asarray((images[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy(), np.uint8)
