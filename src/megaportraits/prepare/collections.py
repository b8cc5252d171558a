"""Read the label files of known collections."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from megaportraits.choices import Dataset
from megaportraits.errors import DataError
from megaportraits.prepare.items import SPLIT_NAMES, SourceItem
from megaportraits.reading import FAULTS, MOST_BYTES, decode, parse_json

Tell = Callable[[str], None]
"""Called with messages for the user."""

TRACK_FPS = 25.0
"""Frames a second in VoxCeleb2's tracks, whatever the frame rate of the video."""
_PERSON = r"id\d{5}"
_SPLIT = re.compile(r"(?:^|_)(dev|test)(?:_|$)")
_WILD, _THUMBNAILS = "in-the-wild-images", "thumbnails128x128"
_AGAIN = "Download it again."


@dataclass(frozen=True)
class LabelFiles:
    """Files among which the label files of a collection are.

    Attributes:
        fs: a file system of fsspec.
        paths: files in it.
        where: their folder, as the user gave it.
    """

    fs: Any
    paths: Sequence[str]
    where: str

    def read(self, path: str) -> str:
        """The text of a file."""
        with self.fs.open(path, "rb") as file:
            return decode(file.read(MOST_BYTES + 1), path, DataError, fix=_AGAIN)

    def json(self, wanted: Callable[[str], bool]) -> Any:
        """The value of the first JSON file whose name is `wanted`; None if there is none."""
        path = next((path for path in self.paths if wanted(PurePosixPath(path).name)), None)
        return None if path is None else parse_json(self.read(path), path, DataError, fix=_AGAIN)


def labelled(dataset: Dataset, media: list[SourceItem], labels: LabelFiles, tell: Tell) -> list[SourceItem]:
    """Add the labels of a collection to videos and stills; files that do not belong to it are left out.

    Args:
        dataset: the collection.
        media: all videos and stills that were found.
        labels: files among which the label files are.
        tell: see `Tell`.

    Raises:
        DataError: required label files are missing or invalid.
    """
    if dataset == "celebvhq":
        return _celebvhq(media, labels)
    if dataset == "ffhq":
        return _ffhq(media, labels, tell)
    if dataset == "voxceleb2":
        return _voxceleb2(media, labels, tell)
    if dataset == "grid":
        return [replace(item, identity=_part(item.address, r"s\d{1,2}(_processed)?")) for item in media]
    return media


def _part(address: str, pattern: str) -> str | None:
    """The last folder of an address that matches."""
    return next((part for part in PurePosixPath(address).parts[-2::-1] if re.fullmatch(pattern, part)), None)


def _split(address: str) -> str | None:
    """The split that a folder of VoxCeleb2 names: `dev`, `test`, or parts like `vox2_dev_txt`."""
    found = [match[1] for part in PurePosixPath(address).parts[:-1] if (match := _SPLIT.search(part))]
    return SPLIT_NAMES[found[-1]] if found else None


@dataclass(frozen=True)
class Track:
    """A face track of VoxCeleb2.

    Attributes:
        identity: the person, `id00012`.
        video: YouTube's name of the video.
        start, end: seconds.
        box: left, top, right, bottom of a box around all boxes of the track, relative to the frame's size.
    """

    identity: str
    video: str
    start: float
    end: float
    box: tuple[float, float, float, float]


def parse_track(text: str) -> Track:
    """A track file: lines `NAME : VALUE` (Identity, Reference, Offset, FV Conf, ASD Conf), then a table of frames.

        Identity  : 	id00012
        Reference : 	21Uxsk56VDQ
        ...
        FRAME 	X 	Y 	W 	H
        000245 	0.392 	0.223 	0.253 	0.451

    Frame numbers count at 25 frames a second. X and Y are the upper left corner of the face. All sides are relative to
    the frame's size.

    Raises:
        ValueError: the text is not a track. Tracks of VoxCeleb1, with boxes in pixels, are refused.
    """
    header: dict[str, str] = {}
    rows: list[list[float]] = []
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator and not rows:
            header[name.strip().lower()] = value.strip()
        elif line.strip() and not line.lstrip().upper().startswith("FRAME"):
            row = [float(cell) for cell in line.split()]
            if len(row) != 5:
                raise ValueError(f"expected frame, x, y, w, h, got {line!r:.80}")
            rows.append(row)
    missing = [name for name in ("identity", "reference") if not header.get(name)]
    if missing or not rows:
        raise ValueError(f"expected a header with {' and '.join(missing)}" if missing else "no frames")
    frames = [row[0] for row in rows]
    left, top = min(row[1] for row in rows), min(row[2] for row in rows)
    right, bottom = max(row[1] + row[3] for row in rows), max(row[2] + row[4] for row in rows)
    if not -0.5 <= left < right <= 1.5 or not -0.5 <= top < bottom <= 1.5:
        raise ValueError(f"expected boxes in parts of the frame, got {left:g}, {top:g} to {right:g}, {bottom:g}")
    times = min(frames) / TRACK_FPS, (max(frames) + 1) / TRACK_FPS
    return Track(header["identity"], header["reference"], *times, (left, top, right, bottom))


def _voxceleb2(media: list[SourceItem], labels: LabelFiles, tell: Tell) -> list[SourceItem]:
    """One item for each clip `id00012/VIDEO/00001.mp4`, and for each track of a whole video `VIDEO.mp4`."""
    tracks: dict[str, list[str]] = defaultdict(list)
    for path in labels.paths:
        parts = PurePosixPath(path).parts
        if path.endswith(".txt") and len(parts) > 2 and re.fullmatch(_PERSON, parts[-3]):
            tracks[parts[-2]].append(path)
    items: list[SourceItem] = []
    bad: list[str] = []
    whole, unknown = set(), 0
    for item in media:
        video, person = PurePosixPath(item.address).stem, _part(item.address, _PERSON)
        if video in tracks:
            whole.add(video)
            for path in tracks[video]:
                try:
                    items.append(_cut(item, path, parse_track(labels.read(path))))
                except (ValueError, TypeError, DataError) as error:
                    bad.append(f"{path}: {getattr(error, 'message', error)}")
        elif tracks and (person is None or PurePosixPath(item.address).parts[-3] != person):
            unknown += 1
        else:
            items.append(replace(item, identity=person, split=_split(item.address) if person else None))
    if tracks:
        count = sum(map(len, tracks.values()))
        here = sum(len(tracks[video]) for video in whole)
        tell(f"VoxCeleb2: {here:,} of {count:,} tracks have their video; whole videos: {len(whole):,}.")
    if unknown:
        tell(f"Videos left out: {unknown:,}. No track names them, and they are not in a folder idNNNNN/VIDEO/.")
    if bad:
        tell(f"Tracks left out: {len(bad):,}. They cannot be read; the first is {bad[0]}")
    if not items:
        raise DataError(
            f"No video is a clip of VoxCeleb2 or named by a track in {labels.where} (videos found: {len(media):,}).",
            fix="Name whole videos by their YouTube id (21Uxsk56VDQ.mp4), and give the folder txt with --annotations.",
        )
    return items


def _cut(item: SourceItem, path: str, track: Track) -> SourceItem:
    if track.video != PurePosixPath(item.address).stem:
        raise ValueError(f"expected a track of {PurePosixPath(item.address).stem}, got one of {track.video}")
    split = _split(path) or _split(item.address)
    return replace(item, identity=track.identity, split=split, start=track.start, end=track.end, box=track.box)


def _celebvhq(media: list[SourceItem], labels: LabelFiles) -> list[SourceItem]:
    """One item for each clip in the JSON: its own file, or its start, end and box in the whole video."""
    by_stem = {PurePosixPath(item.address).stem: item for item in media}
    known = labels.json(lambda name: name.endswith(".json"))
    if known is None:
        raise DataError(
            f"{labels.where} holds no JSON with the collection's labels.",
            fix="Put it beside the videos, or name it with --annotations.",
        )
    items = []
    try:
        for name, entry in known["clips"].items():
            if name in by_stem:
                items.append(by_stem[name])
            elif entry["ytb_id"] in by_stem:
                times, box = entry["duration"], entry["bbox"]
                items.append(
                    replace(
                        by_stem[entry["ytb_id"]],
                        start=float(times["start_sec"]),
                        end=float(times["end_sec"]),
                        box=(float(box["left"]), float(box["top"]), float(box["right"]), float(box["bottom"])),
                    )
                )
    except FAULTS as error:
        raise DataError(
            f"The CelebV-HQ labels are not as expected: {error!r}.", fix="Use celebvhq_info.json."
        ) from error
    if not items:
        raise DataError("No video is named in the CelebV-HQ labels.", fix="Name files CLIP.mp4 or YOUTUBE_ID.mp4.")
    return items


def _ffhq(media: list[SourceItem], labels: LabelFiles, tell: Tell) -> list[SourceItem]:
    """Pictures NNNNN.png, each of one person; splits and faces are those of ffhq-dataset-v2.json.

    Aligned pictures show less around the head than a head crop, so the crop is moved and shrunk into the picture. An
    original picture (`in-the-wild-images`) can show several people; only the face in the JSON's rectangle is used.
    """
    known = labels.json(lambda name: name.startswith("ffhq-dataset") and name.endswith(".json")) or {}
    chosen: dict[str, SourceItem] = {}
    both = 0
    for item in media:
        path = PurePosixPath(item.address)
        if _THUMBNAILS in path.parts:
            continue
        try:
            entry = known.get(str(int(path.stem)), {}) if path.stem.isdigit() else {}
            about = replace(item, identity=f"ffhq-{path.stem}", split=SPLIT_NAMES.get(str(entry.get("category"))))
            wild = _WILD in path.parts
            about = replace(about, box=_face_box(entry["in_the_wild"])) if wild else replace(about, inside=True)
        except FAULTS as error:
            raise DataError(
                f"The FFHQ labels have no valid entry for {path.name}: {error!r:.200}.",
                fix="Use ffhq-dataset-v2.json: beside the pictures, or named with --annotations.",
            ) from error
        both += path.stem in chosen
        if wild or path.stem not in chosen:
            chosen[path.stem] = about
    if both:
        tell(f"FFHQ: pictures found both aligned and as originals: {both:,}. The originals are used.")
    return list(chosen.values())


def _face_box(entry: dict[str, Any]) -> tuple[float, float, float, float]:
    """The face rectangle of an original picture, relative to its width and height."""
    width, height = (float(side) for side in entry["pixel_size"])
    left, top, right, bottom = (float(side) for side in entry["face_rect"])
    return left / width, top / height, right / width, bottom / height
