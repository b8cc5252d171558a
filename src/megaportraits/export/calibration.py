"""Head crops of real faces for an export: for calibrating quantisation, and for measuring parity and quality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from megaportraits.errors import FaceError
from megaportraits.faces.detector import Blendshapes, FaceAnalyzer
from megaportraits.faces.pose import fit_pose
from megaportraits.media.images import UInt8
from megaportraits.models.base import BaseModel
from megaportraits.ops.geometry import HeadPose
from megaportraits.ops.pictures import resize
from megaportraits.pipeline import Avatar
from megaportraits.pipeline.driver import Driver, FrameSource, HeadFollower
from megaportraits.pipeline.portrait import Source, as_trained


@dataclass(frozen=True)
class HeadCrop:
    """A head crop, (S, S, 3) uint8, with the pose fitted to its landmarks, crop coordinates, and its blendshapes."""

    image: UInt8
    pose: HeadPose
    blendshapes: Blendshapes


@dataclass(frozen=True)
class SourceCrop(HeadCrop):
    """A source's head crop over the background that training used, with `fine` (1, 4, n, n) (`Portrait.fine`)."""

    fine: np.ndarray


def driver_crops(driver: Driver, size: int, count: int) -> list[HeadCrop]:
    """Up to `count` head crops, spread evenly over a driver.

    Raises:
        MediaError: the file cannot be read.
        FaceError: it shows no face.
    """
    source = FrameSource(driver)
    step = max(1, (source.count() or count) // count)
    crops = list(islice(_crops(source, size, step), count))
    if not crops:
        raise FaceError(f"Expected a face in {source.name}, found none.", fix="Give a video that shows a face.")
    return crops


def source_crop(model: BaseModel, source: Source) -> SourceCrop:
    """Prepare a photograph as `pipeline.Avatar.encode` does.

    Raises:
        MediaError: the file cannot be read.
        FaceError: it shows no face.
    """
    avatar = Avatar(model)
    portrait = avatar.encode(source)
    fine = portrait.fine.cpu().numpy()
    person = np.rint(fine[0, :3].transpose(1, 2, 0) * 255).astype(np.uint8)
    seen = as_trained(person, portrait.matte, model.config)
    small = resize(seen, avatar.size)
    pose = fit_pose(portrait.head.face.landmarks).to_crop_pose(portrait.head.crop)
    return SourceCrop(small, pose, portrait.head.face.blendshapes, fine)


def _crops(source: FrameSource, size: int, step: int) -> Iterator[HeadCrop]:
    follower = HeadFollower(FaceAnalyzer(), size)
    for frame in islice(source.frames(), 0, None, step):
        head = follower.look(frame).head
        if head is not None:
            yield HeadCrop(head.image, head.pose.to_crop_pose(head.crop), head.face.blendshapes)
