"""Extract the clips of one video or still into the store; every engine runs this function."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from megaportraits.data.tar_writer import write_tar
from megaportraits.engines import MAX_ATTEMPTS
from megaportraits.errors import MediaError, MegaPortraitsError, WeightsError
from megaportraits.faces.crop import head_crop
from megaportraits.media import VideoReader, is_video, read_image
from megaportraits.media.folders import write_json
from megaportraits.media.staging import is_full_disk
from megaportraits.prepare import measures
from megaportraits.prepare.cutting import Clip, Cutter, Instruments
from megaportraits.prepare.items import SourceItem
from megaportraits.prepare.people import BYSTANDER, Analyzer, HeadTracker, lies_in
from megaportraits.prepare.settings import ExtractSettings
from megaportraits.prepare.sources import local_copy
from megaportraits.prepare.store import Store

_BOX_MARGIN = 0.1


class _NoClipsError(Exception):
    """Aborts the writing of an empty shard."""


class Extractor:
    """Extracts items into a store. It is cheap to create and can be pickled; networks are loaded with the first item.

    Args:
        out: the output folder.
        settings: of the extraction.
    """

    def __init__(self, out: Path, settings: ExtractSettings) -> None:
        self.out, self.settings = out, settings

    def __getstate__(self) -> dict[str, Any]:
        return {"out": self.out, "settings": self.settings}

    @cached_property
    def _networks(self) -> tuple[Analyzer, Instruments]:
        from megaportraits.faces.detector import FaceAnalyzer
        from megaportraits.faces.matting import Matting
        from megaportraits.faces.recognition import FaceEmbedder
        from megaportraits.prepare.quality import quality_of

        cv2.setNumThreads(1)
        return FaceAnalyzer(), Instruments(Matting(), FaceEmbedder(), quality_of(self.settings.iqa))

    def __call__(self, item: SourceItem) -> dict[str, Any]:
        """Extract one item unless it is done.

        Returns:
            key, clips, frames, bytes and error (None on success); the same is written to the store.

        Raises:
            WeightsError: the networks are not available. OSError: the disk is full. Other errors are listed in the
                report.
        """
        store = Store(self.out)
        if not store.has(item.key):
            if store.attempts.begin(item.key) >= MAX_ATTEMPTS:
                self._note(store, item, [], {"error": f"its worker died {MAX_ATTEMPTS} times"})
            else:
                self._extract(store, item)
            store.attempts.end(item.key)
        note = store.read(item.key)
        frames = sum(clip["frames"] for clip in note["clips"])
        return {"key": item.key, "clips": len(note["clips"]), "frames": frames, "error": note["error"]}

    def _extract(self, store: Store, item: SourceItem) -> None:
        analyzer, instruments = self._networks
        rows: list[dict[str, Any]] = []
        about: dict[str, Any] = {"error": None}
        try:
            with write_tar(store.clips(item.key)) as add:
                for clip in self._clips(item, analyzer, instruments, about):
                    key = f"{item.key}-{len(rows):03d}"
                    for name, content in clip.members:
                        add(f"{key}.{name}", content)
                    rows.append({"key": key, **clip.row})
                if not rows:
                    raise _NoClipsError
        except _NoClipsError:
            pass  # an item without clips has a note and no shard
        except WeightsError:
            raise
        except MegaPortraitsError as error:
            about["error"] = _neutral(error.message, item)
        except Exception as error:
            # Isolate videos from each other: no exception of one may end the others.
            if is_full_disk(error):
                raise
            about["error"] = _neutral(f"{type(error).__name__}: {error}", item)
        self._note(store, item, rows if about["error"] is None else [], about)

    def _note(self, store: Store, item: SourceItem, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
        write_json(store.note(item.key), {"key": item.key, "name": item.name, **about, "clips": rows})

    def _clips(
        self, item: SourceItem, analyzer: Analyzer, instruments: Instruments, about: dict[str, Any]
    ) -> Iterator[Clip]:
        with local_copy(item.address) as path:
            if is_video(path):
                yield from self._video(item, path, analyzer, instruments, about)
            else:
                yield from self._still(item, path, analyzer, instruments, about)

    def _still(
        self, item: SourceItem, path: Path, analyzer: Analyzer, instruments: Instruments, about: dict[str, Any]
    ) -> Iterator[Clip]:
        image = read_image(path)
        faces = analyzer.detect(image)
        height, width = image.shape[:2]
        about |= {"kind": "still", "width": width, "height": height, "faces": len(faces)}
        if not faces:
            raise MediaError("no human face in the picture")
        meant = [face for face in faces if lies_in(face, _pixels(item.box, width, height))]
        if not meant:
            raise MediaError("no human face where the collection says that one is")
        near = faces
        if item.box is not None:  # others in the same picture count as far as they are in the crop
            window = np.array(head_crop(meant[0]).corners)
            near = [face for face in faces if lies_in(face, window)]
        people = sum(face.area >= BYSTANDER * meant[0].area for face in near)
        cutter = Cutter(self.settings, instruments, still=True, inside=item.inside)
        cutter.add(image, meant[0], 0.0, people)
        clip = cutter.finish()
        if clip is not None:
            yield clip

    def _video(
        self, item: SourceItem, path: Path, analyzer: Analyzer, instruments: Instruments, about: dict[str, Any]
    ) -> Iterator[Clip]:
        reader = VideoReader(path, start=item.start or 0.0, threads=1)
        tracker = HeadTracker(analyzer, self.settings.people)
        cuts, cutters = measures.SceneCuts(), dict[int, Cutter]()
        allowed = _pixels(item.box, reader.info.width, reader.info.height)
        counts = {"decoded": 0, "sampled": 0, "with_face": 0, "shots": 1, "short": 0}
        due, end = None, 0.0

        def ended(numbers: list[int]) -> Iterator[Clip]:
            for number in numbers:
                clip = cutters.pop(number).finish()
                if clip is None:
                    counts["short"] += 1
                else:
                    yield clip

        for frame in reader:
            if item.end is not None and frame.time > item.end:
                break
            if item.start is not None and frame.time < item.start:
                continue
            counts["decoded"] += 1
            end = frame.time
            if cuts.is_cut(frame.image):
                counts["shots"] += 1
                yield from ended(sorted(cutters))
                tracker.cut()
                due = None
            if due is not None and frame.time < due - 1e-6:
                continue
            due = _next_due(due, frame.time, self.settings.fps)
            counts["sampled"] += 1
            heads, people = tracker.update(frame.image, allowed)
            counts["with_face"] += bool(heads)
            yield from ended(sorted(set(cutters) - {head.number for head in heads}))
            for head in heads:
                cutter = cutters.setdefault(head.number, Cutter(self.settings, instruments))
                if not cutter.add(frame.image, head.face, frame.time, people):
                    yield from ended([head.number])
                    cutters[head.number] = Cutter(self.settings, instruments)
                    cutters[head.number].add(frame.image, head.face, frame.time, people)
        yield from ended(sorted(cutters))
        about |= _about(reader, path, end) | counts
        if not counts["decoded"]:
            raise MediaError("no frame between the requested start and end")


def _next_due(due: float | None, time: float, fps: float) -> float | None:
    """Time of the next sample, on a grid from the first one, so that the rate does not drift."""
    if fps <= 0:
        return None
    step = 1 / fps
    due = time if due is None else due
    return due + step * (np.floor((time - due) / step + 1e-6) + 1)


def _about(reader: VideoReader, path: Path, end: float) -> dict[str, Any]:
    info = reader.info
    seconds = info.duration or end or 1 / float(info.fps)
    return {
        "kind": "video",
        "width": info.width,
        "height": info.height,
        "fps": round(float(info.fps), 3),
        "duration": round(float(seconds), 3),
        # Of the whole file, including sound, which is a few per cent.
        "bitrate": round(path.stat().st_size * 8 / max(seconds, 1e-3) / 1000, 1),
        "damage": reader.damage,
    }


def _pixels(box: tuple[float, float, float, float] | None, width: int, height: int) -> np.ndarray | None:
    """A relative box in pixels, slightly enlarged because annotations are imprecise."""
    if box is None:
        return None
    left, top, right, bottom = box
    dx, dy = _BOX_MARGIN * (right - left), _BOX_MARGIN * (bottom - top)
    return np.array([(left - dx) * width, (top - dy) * height, (right + dx) * width, (bottom + dy) * height])


def _neutral(message: str, item: SourceItem) -> str:
    """An error's first line without the path, so that the report can count equal errors."""
    first = message.strip().splitlines()[0] if message.strip() else "unknown error"
    name = Path(item.address).name
    words = [word for word in first.split(" ") if name not in word and "megaportraits-" not in word]
    return " ".join(words)[:300]
