"""Reading a source: find its face and prepare, once, everything that rendering a frame needs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL.Image import Image
from torch import Tensor

from megaportraits.config import ModelConfig
from megaportraits.errors import FaceError
from megaportraits.faces.crop import extract, head_crop
from megaportraits.faces.detector import Face, FaceAnalyzer, from_left, pick_face
from megaportraits.faces.inpainting import Fill, background_plate, smooth_fill
from megaportraits.faces.matting import Matte, Matting, foreground
from megaportraits.faces.orientation import find_upright, turned
from megaportraits.faces.pose import fit_pose
from megaportraits.media import DEFAULT_LIMITS, Limits, VideoReader, is_video, read_picture
from megaportraits.media.images import UInt8, as_picture, flattened
from megaportraits.models.identity import Identity
from megaportraits.models.motion import Motion
from megaportraits.ops.color import KEY_COLORS
from megaportraits.ops.geometry import Crop, HeadPose
from megaportraits.ops.pictures import composite, resize
from megaportraits.pipeline.tensors import head_pose, pixels

_LARGEST_PHOTO = 4096
"""Largest longer side of a photograph, pixels; larger ones are shrunk when they are read."""
_LARGEST_WORK_SIZE = 512
"""Largest side of the source's head crop, pixels, for matting, inpainting and the source skip."""
_VIDEO_LOOKS = 100
"""Number of frames of a source video that are searched for a face."""

_CUT_OUT = (0.05, 0.8)
"""An image's own alpha is used as the person's matte if more than the first fraction of the window is transparent, and
the matting network's mean matte over the rest exceeds the second."""

_KEYS = np.array(KEY_COLORS) * 255
"""Key colours, 0-255 RGB: background colours that are unlike skin and hair."""

Source = str | Path | UInt8 | Image
"""An image or video file, or a picture: (H, W, 3) uint8 or a PIL image."""


@dataclass(frozen=True)
class SourceHead:
    """The face chosen in a source image.

    Attributes:
        photo: (H, W, 3), the whole image at its own size.
        face: the chosen face.
        crop: its head crop, in pixels of `photo`.
        others: the image's other faces.
        turns: quarter turns counter-clockwise that were applied to the file's image to make the face upright.
        alpha: (H, W) uint8, the image's own alpha, with which `photo` was composited over white; None if opaque.
    """

    photo: UInt8
    face: Face
    crop: Crop
    others: tuple[Face, ...] = ()
    turns: int = 0
    alpha: UInt8 | None = None

    @property
    def faces(self) -> int:
        """Number of faces in the image."""
        return 1 + len(self.others)


@dataclass(frozen=True)
class Sight:
    """A source image with the faces found in it.

    Attributes:
        photo: (H, W, 3), the image, upright.
        faces: all of its faces, largest first; at least one.
        turns: see `SourceHead`.
        alpha: see `SourceHead`.
    """

    photo: UInt8
    faces: list[Face]
    turns: int
    alpha: UInt8 | None = None

    def head(self, face: Face) -> SourceHead:
        """A `SourceHead` for one of `faces`."""
        others = tuple(other for other in self.faces if other is not face)
        return SourceHead(self.photo, face, head_crop(face), others, self.turns, self.alpha)


@dataclass(frozen=True, kw_only=True)
class PreparedSource:
    """A source that is prepared for encoding; see `prepare_source`.

    Attributes:
        head: the chosen face in the image at its own size.
        square: (n, n, 3) uint8, the head crop.
        matte: (n, n) float32 in [0, 1], its alpha.
        plate: (n, n, 3) uint8, the background plate of the head crop.
        seen: (n, n, 3) uint8, the model's input: the head crop with the background that training used.
        fine: (1, 4, n, n) in [0, 1], the person's straight colours (with the background, if the model predicts it) and
            alpha. A model with a source skip copies pixels from it.
        kept: (1, 1, n, n) in [0, 1], a mask for renderings: 0 below the lower edge of a cut-out person, where models
            would render a trunk. None for opaque images; see `cut_at_border`.
    """

    head: SourceHead
    square: UInt8
    matte: npt.NDArray[np.float32]
    plate: UInt8
    seen: UInt8
    fine: Tensor
    kept: Tensor | None = None

    @property
    def pose(self) -> HeadPose:
        """The head pose fitted to the landmarks, crop coordinates."""
        return fit_pose(self.head.face.landmarks).to_crop_pose(self.head.crop)


@dataclass(frozen=True, kw_only=True)
class Portrait(PreparedSource):
    """An encoded source; see `Avatar.encode`.

    Attributes:
        identity: the output of the base model's `encode`, batch 1.
    """

    identity: Identity

    @property
    def motion(self) -> Motion:
        """The source's own motion, batch 1."""
        return self.identity.motion

    @property
    def rest(self) -> HeadPose:
        """The head pose of that motion."""
        return head_pose(self.motion.pose)


def find_source_head(
    source: Source, analyzer: FaceAnalyzer, number: int | None = None, limits: Limits = DEFAULT_LIMITS
) -> SourceHead:
    """Read a source and choose the face to animate.

    Args:
        source: an image or a video; of a video, the first frame with a face is used.
        analyzer: finds the faces.
        number: which face, counted from 1 from left to right; None takes the largest.
        limits: limits on the size of files that are read.

    Raises:
        MediaError: the file cannot be read, or exceeds a limit.
        FaceError: no human face, or fewer faces than `number`.
        ShapeError: the source is none of the types that `Source` lists.
    """
    seen = look(source, analyzer, limits)
    face = pick_face(seen.faces, number)
    if face is None:
        raise FaceError(
            f"Expected at least {number} faces in {_name(source)}, found {len(seen.faces)}.",
            fix="Faces are counted from 1, from left to right.",
        )
    return seen.head(face)


def find_source_heads(source: Source, analyzer: FaceAnalyzer, limits: Limits = DEFAULT_LIMITS) -> list[SourceHead]:
    """Read a source and return all of its faces, from left to right.

    Raises:
        MediaError: the file cannot be read, or exceeds a limit.
        FaceError: no human face.
        ShapeError: the source is none of the types that `Source` lists.
    """
    seen = look(source, analyzer, limits)
    return [seen.head(face) for face in from_left(seen.faces)]


def prepare_source(
    head: SourceHead, config: ModelConfig, matting: Matting, device: torch.device, *, fill: Fill = smooth_fill
) -> PreparedSource:
    """Compute everything that is needed once per source, before a model encodes it.

    Args:
        head: the chosen face.
        config: configuration of the base model that will encode it.
        matting: estimates the person's alpha.
        device: device of the tensors in the result.
        fill: inpainting method for the background behind the person.
    """
    work = int(np.clip(round(head.crop.side), config.image_size, _LARGEST_WORK_SIZE))
    square = source_view(head, head.crop, work)
    matte = person_matte(head, head.crop, work, matting)
    # Straight colours at the edge, so that the old background leaves no fringe on the new one.
    person = square if config.predict_background else foreground(square, matte)
    kept = None if head.alpha is None else torch.from_numpy(1 - below_edge(matte))[None, None].to(device)
    return PreparedSource(
        head=head,
        square=square,
        matte=matte,
        plate=background_plate(square, matte, fill=fill),
        seen=as_trained(person, matte, config),
        fine=torch.cat([pixels(person), torch.from_numpy(matte)[None, None]], 1).to(device),
        kept=kept,
    )


def shrink(photo: UInt8, crop: Crop, max_side: int) -> tuple[UInt8, Crop]:
    """Shrink an image, and the crop in it, so that the longer side is at most `max_side` pixels."""
    height, width = photo.shape[:2]
    factor = max_side / max(height, width)
    if factor >= 1:
        return photo, crop
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    smaller = resize(photo, size)
    across, down = size[0] / width, size[1] / height
    return smaller, Crop(crop.center_x * across, crop.center_y * down, crop.side * (across + down) / 2)


def as_trained(person: UInt8, matte: npt.NDArray[np.float32], config: ModelConfig) -> UInt8:
    """A head crop with the background that the model was trained on: a key colour, black, or the original background.

    Args:
        person: (n, n, 3), the crop's straight colours; the crop itself for models that predict backgrounds.
        matte: (n, n) in [0, 1].
        config: configuration of the model.
    """
    if config.predict_background:
        return person
    return flatten(person, matte, key_color(person, matte) if config.predict_matte else np.zeros(3))


def flatten(head: UInt8, matte: npt.NDArray[np.float32], color: npt.NDArray[np.floating]) -> UInt8:
    """Composite a head crop over a flat colour (3,), 0-255, as in training."""
    return composite(head, matte, color)


def key_color(head: UInt8, matte: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The key colour that differs more from the person, green or blue, 0-255 RGB (3,).

    Models that predict alpha separate the person from the source's flat background by its colour. They were trained
    on random colours, half of them near these two. A background colour that also occurs in skin, hair or clothes
    (above all grey, black and white) causes holes in the predicted matte. Over 23 portraits the mean error of an early
    model's matte was 0.33 with grey and 0.04 with these two colours.

    Args:
        head: (n, n, 3) uint8.
        matte: (n, n) in [0, 1].
    """
    colors = head[matte > 0.5].astype(np.float64)
    if not len(colors):
        return _KEYS[0]
    distances = np.linalg.norm(colors[:, None] - _KEYS, axis=2)
    return np.asarray(_KEYS[np.quantile(distances, 0.02, axis=0).argmax()])


def look(source: Source, analyzer: FaceAnalyzer, limits: Limits = DEFAULT_LIMITS) -> Sight:
    """Read a source and find every face in it. An image that lies on its side or upside down is turned upright.

    Raises:
        MediaError: the file cannot be read, or exceeds a limit.
        FaceError: no human face.
        ShapeError: the source is none of the types that `Source` lists.
    """
    name = _name(source)
    if isinstance(source, (str, Path)) and is_video(source, limits):
        for frame in itertools.islice(VideoReader(source, limits=limits), _VIDEO_LOOKS):
            faces = analyzer.detect(frame.image)
            if faces:
                return _upright(frame.image, faces, analyzer)
        raise FaceError(
            f"Expected a human face in the first {_VIDEO_LOOKS} frames of {name}, found none.",
            fix="Take a picture or a video that begins with a well visible face.",
        )
    picture = read_picture(source, limits) if isinstance(source, (str, Path)) else as_picture(source, name)
    photo, _ = shrink(flattened(picture), Crop(0, 0, 1), _LARGEST_PHOTO)
    seen = _upright(photo, analyzer.detect(photo), analyzer)
    if not seen.faces:
        analyzer.require(photo, name)  # raises FaceError with the reason
    if picture.alpha is None:
        return seen
    size = (photo.shape[1], photo.shape[0])
    alpha = resize(picture.alpha, size)
    return replace(seen, alpha=turned(alpha, seen.turns))


def _upright(photo: UInt8, faces: list[Face], analyzer: FaceAnalyzer) -> Sight:
    turns, faces = find_upright(photo, faces, analyzer)
    return Sight(turned(photo, turns), faces, turns)


def person_matte(head: SourceHead, crop: Crop, size: int, matting: Matting) -> Matte:
    """The matte of the person in a square of the source image, (size, size) float32 in [0, 1].

    If the image is a cut-out person, its own alpha is the matte, with 0 beyond the image's border. Other transparency
    (round corners, a frame) is only an upper bound on the matting network's result.
    """
    matte = matting.matte(head.photo, head.face, crop, size, head.others)
    if head.alpha is None:
        return matte
    shown = _extract_ringed(np.dstack([head.alpha] * 3), crop, size, 0)
    alpha = np.asarray(shown[..., 0] / 255, np.float32)
    solid = alpha > 0.5
    cut_out = (~solid).mean() > _CUT_OUT[0] and solid.any() and matte[solid].mean() > _CUT_OUT[1]
    return alpha if cut_out else np.asarray(np.minimum(matte, alpha), np.float32)


def source_view(head: SourceHead, crop: Crop, size: int) -> UInt8:
    """A square of the source image, (size, size, 3). Beyond the border, a transparent image continues in white."""
    if head.alpha is None:
        return extract(head.photo, crop, size)
    return _extract_ringed(head.photo, crop, size, 255)


def _extract_ringed(picture: UInt8, crop: Crop, size: int, beyond: int) -> UInt8:
    """`extract`, with the constant `beyond` outside the image instead of repeated border pixels."""
    ringed = np.pad(picture, ((1, 1), (1, 1), (0, 0)), constant_values=beyond)
    return extract(ringed, Crop(crop.center_x + 1, crop.center_y + 1, crop.side), size)


def below_edge(matte: Matte) -> Matte:
    """A mask in [0, 1] that is 1 below the lower edge of a cut-out person's matte (n, n).

    Left and right of the person, the edge continues at the height of the outermost column.
    """
    columns = np.flatnonzero((matte > 0.5).any(0))
    if not len(columns):
        return np.zeros_like(matte)
    inside = matte[:, np.clip(np.arange(matte.shape[1]), columns[0], columns[-1])]
    above = np.maximum.accumulate(inside, axis=0)
    below = np.maximum.accumulate(inside[::-1], axis=0)[::-1]
    return np.asarray(above * (1 - below), np.float32)


def cut_at_border(portrait: Portrait) -> Portrait:
    """Limit a portrait's renderings to the photograph's lower border, for backgrounds other than the photograph.

    Below the border the last row of the photograph is repeated, so that models see a trunk; without this limit a
    rendering would show it as vertical streaks. Cut-out sources, and photographs that reach below the head crop, are
    returned unchanged.
    """
    size, crop = portrait.square.shape[0], portrait.head.crop
    border = (portrait.head.photo.shape[0] - crop.corners[1]) * size / crop.side
    if portrait.kept is not None or border >= size:
        return portrait
    rows = np.clip(border - np.arange(size, dtype=np.float32), 0, 1).astype(np.float32)
    kept = torch.from_numpy(rows)[None, None, :, None].expand(-1, -1, -1, size)
    return replace(portrait, kept=kept.contiguous().to(portrait.fine.device))


def _name(source: Source) -> str:
    """The source's name in messages."""
    return f"the source {source}" if isinstance(source, (str, Path)) else "the source"
