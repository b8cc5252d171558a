"""The work of `megaportraits gaze-teacher`: label random frames with RT-GENE and RT-BENE (B.5).

The output is a label file (`data.gaze_labels`) and, beside it, `NAME.teacher.json` with the hashes of the networks and
the settings. An interrupted run leaves `NAME.part`, from which the same command resumes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megaportraits.data.clips import ClipIndex
from megaportraits.errors import DataError
from megaportraits.faces.rt_gene import BlinkTeacher, GazeTeacher
from megaportraits.media.files import check_output
from megaportraits.media.folders import RESUMES
from megaportraits.media.staging import full_disk_errors, staged_output
from megaportraits.reading import FAULTS, is_file, read_text

_BATCH = 64

OnProgress = Callable[[int, int | None], None]
"""Called with the number of labelled frames and the number of frames to label."""


@dataclass(frozen=True)
class Teachers:
    """The networks; None where one is left out.

    Attributes:
        gaze, blink: see `faces.rt_gene`.
        hashes: SHA-256 of each file by "rt_gene" and "rt_bene".
    """

    gaze: GazeTeacher | None
    blink: BlinkTeacher | None
    hashes: dict[str, list[str]]


@dataclass(frozen=True)
class Labelled:
    """Result of a run: the numbers of labelled and of unreadable frames."""

    frames: int
    unreadable: int


def sample_frames(index: ClipIndex, count: int, seed: int) -> list[tuple[int, int]]:
    """Random frames with landmarks, without repetition, in the order in which they are stored.

    Args:
        index: the clips.
        count: number of frames; all frames with landmarks, if there are fewer.
        seed: random seed of the choice.

    Raises:
        DataError: no frame has landmarks.
    """
    clips, frames = [], []
    for clip, summary in index.summaries():
        found = np.flatnonzero(summary.landmarks)
        clips.append(np.full(len(found), clip, np.int64))
        frames.append(found)
    if not sum(map(len, frames)):
        raise DataError(
            "No frame of these clips has landmarks, which locate the eyes.",
            fix="Give shards of `prepare`; synthetic clips already have exact gaze labels.",
        )
    every = np.stack([np.concatenate(clips), np.concatenate(frames)], 1)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(every))[:count])
    return [(int(clip), int(frame)) for clip, frame in every[chosen]]


def write_labels(
    index: ClipIndex,
    chosen: Sequence[tuple[int, int]],
    teachers: Teachers,
    output: Path,
    *,
    settings: dict[str, Any],
    overwrite: bool = False,
    progress: OnProgress = lambda done, total: None,
) -> Labelled:
    """Label frames and write the file, which appears when it is complete.

    Args:
        index: the clips.
        chosen: clip and frame of each label.
        teachers: the networks.
        output: a `.jsonl` file.
        settings: further settings that determine the result; a `.part` file with other settings is replaced.
        overwrite: whether an existing file may be replaced.
        progress: see `OnProgress`.

    Raises:
        MediaError: the file exists, or cannot be written.
        DataError: the disk is full, or no frame can be read.
    """
    note = output.with_name(output.name.removesuffix(".jsonl") + ".teacher.json")
    for path in (output, note):
        check_output(path, overwrite=overwrite)
    about = {"networks": teachers.hashes, "offset": teachers.gaze.offset if teachers.gaze else None, **settings}
    part = output.with_name(output.name + ".part")
    output.parent.mkdir(parents=True, exist_ok=True)
    done = _begun(part, about)
    with full_disk_errors(output.parent, DataError, fix=RESUMES):
        with part.open("a" if done is not None else "w", encoding="utf-8") as file:
            if done is None:
                file.write(json.dumps(about) + "\n")
                done = {}
            todo = [place for place in chosen if place not in done]
            for count, lines in enumerate(_label(index, todo, teachers), 1):
                for line in lines:
                    file.write(json.dumps(line) + "\n")
                file.flush()
                progress(len(chosen) - len(todo) + min(count * _BATCH, len(todo)), len(chosen))
        labels = [line for line in (_begun(part, about) or {}).values() if "unreadable" not in line]
        if not labels:
            raise DataError("None of the chosen frames can be read.", fix="Make the shards again.")
        kept = ({name: line[name] for name in ("key", "frame", "gaze", "blink")} for line in labels)
        with staged_output(output, overwrite=overwrite) as stage:
            stage.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        with staged_output(note, overwrite=overwrite) as stage:
            stage.write_text(json.dumps({**about, "frames": len(labels)}, indent=1) + "\n", encoding="utf-8")
    part.unlink()
    return Labelled(len(labels), len(chosen) - len(labels))


def _begun(part: Path, about: dict[str, Any]) -> dict[tuple[int, int], dict[str, Any]] | None:
    """The complete lines of a run of the same settings, by clip and frame; None without such a file."""
    if not is_file(part, DataError):
        return None
    found: dict[tuple[int, int], dict[str, Any]] = {}
    first, *lines = read_text(part, DataError).split("\n")
    try:
        if json.loads(first) != about:
            return None
        for line in lines:
            entry = json.loads(line)
            found[int(entry["clip"]), int(entry["frame"])] = entry
    except FAULTS:  # the last line of a process that was killed
        whole = "\n".join([first, *(json.dumps(entry) for entry in found.values()), ""])
        part.write_text(whole, encoding="utf-8")
        return found if found or first == json.dumps(about) else None
    return found


def _label(index: ClipIndex, places: Sequence[tuple[int, int]], teachers: Teachers) -> Iterator[list[dict[str, Any]]]:
    """Lines of the part file, a batch at a time."""
    for start in range(0, len(places), _BATCH):
        lines: list[dict[str, Any]] = []
        images: list[npt.NDArray[np.uint8]] = []
        marks: list[npt.NDArray[np.floating]] = []
        rotations: list[npt.NDArray[np.floating]] = []
        for clip, number in places[start : start + _BATCH]:
            line: dict[str, Any] = {"clip": clip, "frame": number}
            lines.append(line)
            try:
                frame = index.read_frame(clip, number, coords=False)
                line["key"] = index.record(clip).key
            except DataError as error:
                line["unreadable"] = error.message
                continue
            if frame.labels.landmarks is None:
                line["unreadable"] = "no landmarks"
                continue
            images.append(frame.image)
            marks.append(frame.labels.landmarks)
            rotations.append(frame.labels.rotation)
        if images:
            gaze = teachers.gaze(images, marks, rotations) if teachers.gaze else None
            blink = teachers.blink(images, marks) if teachers.blink else None
            for number, line in enumerate(line for line in lines if "unreadable" not in line):
                line["gaze"] = None if gaze is None else [round(float(angle), 3) for angle in gaze[number]]
                line["blink"] = None if blink is None else round(float(blink[number]), 4)
        yield lines
