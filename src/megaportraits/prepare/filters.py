"""Filters: pure functions of the index's numbers, so that thresholds can change without decoding again.

Filters run in the order of B.3 of the paper: size ("bitrate filtering"), then quality; a clip's verdict is the first
filter it fails, or "kept".
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from megaportraits.prepare.measures import THUMBNAIL, unit
from megaportraits.prepare.settings import Thresholds

ClipRow = dict[str, Any]
KEPT = "kept"
FILTERS = ("crop", "bitrate", "presence", "people", "inside", "children", "iqa", "duplicate", "split")
LABELS = {
    "crop": "head crop large enough",
    "bitrate": "bitrate high enough",
    "presence": "confidently a face",
    "people": "no other person in the frame",
    "inside": "head inside the picture",
    "children": "grown-up",
    "iqa": "image quality in the upper part",
    "duplicate": "not a duplicate",
    "split": "person in one split only",
}
_SAME_FACE = 0.8
"""Two clips are compared as duplicates only from this cosine on."""
_BLOCK = 1024
Floats = npt.NDArray[np.float32]


def judge(rows: list[ClipRow], limits: Thresholds) -> None:
    """Fill in `video_iqa`, `duplicate`, `leak`, `split`, `person` and `verdict` of all clips, in place.

    Args:
        rows: one clip each; `item` names its video, and `bitrate`, `age`, `identity`, `prescribed` are the video's.
        limits: thresholds of the filters.
    """
    for row in rows:
        row["verdict"] = KEPT
        row |= {"video_iqa": None, "duplicate": None, "leak": None, "split": None, "person": None}
    for name, test in _single_tests(limits).items():
        _drop((row for row in _kept(rows) if not test(row)), name)
    _judge_quality(_kept(rows), limits)
    _judge_copies(_kept(rows), limits)
    _judge_splits(_kept(rows), limits)


def survivors(rows: Sequence[ClipRow]) -> list[tuple[str, int]]:
    """How many clips are left after each filter, beginning with all."""
    dropped = Counter(row["verdict"] for row in rows)
    left, counts = len(rows), [("found", len(rows))]
    for name in FILTERS:
        left -= dropped[name]
        counts.append((name, left))
    return counts


def _single_tests(limits: Thresholds) -> dict[str, Callable[[ClipRow], bool]]:
    return {
        "crop": lambda row: row["crop_px"] >= limits.min_crop,
        "bitrate": lambda row: row["bitrate"] is None or row["bitrate"] >= limits.min_bitrate,
        "presence": lambda row: row["presence"] >= limits.min_presence,
        "people": lambda row: row["people"] <= limits.max_people,
        "inside": lambda row: row["inside"] >= limits.min_inside,
        "children": lambda row: _is_adult(row, limits),
    }


def _is_adult(row: ClipRow, limits: Thresholds) -> bool:
    if row["age"] is not None:
        return bool(row["age"] >= limits.min_age)
    if limits.children == "face":
        return bool(row["iris_ratio"] >= limits.min_iris_ratio)
    return limits.children == "keep"


def _judge_quality(rows: list[ClipRow], limits: Thresholds) -> None:
    """Rank videos by their mean image quality and drop the lower part; stills and videos are ranked separately."""
    for kind in ("video", "still"):
        videos: dict[str, list[ClipRow]] = defaultdict(list)
        for row in rows:
            if row["kind"] == kind:
                videos[row["item"]].append(row)
        means: dict[str, float] = {}
        for item, clips in videos.items():
            weights = [clip["frames"] for clip in clips]
            means[item] = round(float(np.average([clip["iqa"] for clip in clips], weights=weights)), 4)
            for clip in clips:
                clip["video_iqa"] = means[item]
        worst = sorted(means, key=lambda item: (means[item], item))[: int(limits.drop_iqa * len(means) + 1e-9)]
        _drop((clip for item in worst for clip in videos[item]), "iqa")


def _judge_copies(rows: list[ClipRow], limits: Thresholds) -> None:
    """`duplicate`: the largest correlation of pictures with a better clip of another video that shows the same face.

    None where there is no such clip. Better is larger, then of higher bitrate.
    """
    rows.sort(key=lambda row: (-row["crop_px"], -(row["bitrate"] or 0), row["key"]))
    if not rows:
        return
    faces = np.array([row["embedding"] for row in rows], np.float32)
    pictures = np.stack([_pictures(row["thumbnails"]) for row in rows])
    dropped = np.zeros(len(rows), bool)
    for start in range(0, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        # Pictures are compared only if faces match: one pair in thousands.
        ours, theirs = np.nonzero(faces[start:stop] @ faces[:stop].T >= _SAME_FACE)
        likeness = np.einsum("pd,pd->p", pictures[start + ours], pictures[theirs])
        for i in range(start, stop):
            mine = slice(*np.searchsorted(ours, (i - start, i - start + 1)))
            near = [
                float(value)
                for j, value in zip(theirs[mine], likeness[mine], strict=True)
                # Duplicates are transitive.
                if j < i and not dropped[j] and rows[j]["item"] != rows[i]["item"]
            ]
            if near:
                rows[i]["duplicate"] = round(max(near), 4)
                dropped[i] = rows[i]["duplicate"] >= limits.max_duplicate
    _drop((row for row, is_copy in zip(rows, dropped, strict=True) if is_copy), "duplicate")


def _pictures(thumbnails: str) -> Floats:
    """First, middle and last picture of a clip as one vector; the scalar product of two is their mean correlation."""
    parts = np.frombuffer(bytes.fromhex(thumbnails), np.uint8).reshape(3, THUMBNAIL, THUMBNAIL)
    return np.concatenate([unit(part) for part in parts]).astype(np.float32) * np.float32(3**-0.5)


def _judge_splits(rows: list[ClipRow], limits: Thresholds) -> None:
    """Group videos by person and assign one split to every person; if a collection has a person in both, drop the
    validation clips.
    """
    if not rows:
        return
    videos: dict[str, list[ClipRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["key"]):
        videos[row["item"]].append(row)
    people: list[tuple[list[ClipRow], Floats]] = [part for clips in videos.values() for part in _people_of(clips)]
    vectors = np.stack([vector for _, vector in people])
    group = _groups(people, vectors, limits.same_person)
    members: dict[int, list[int]] = defaultdict(list)
    for number, root in enumerate(group):
        members[root].append(number)
    for numbers in members.values():
        clips = [clip for number in numbers for clip in people[number][0]]
        labels = sorted({clip["identity"] for clip in clips if clip["identity"]})
        name = labels[0] if labels else f"person-{min(clip['key'] for clip in clips)}"
        prescribed = {clip["prescribed"] for clip in clips if clip["prescribed"]}
        split = "train" if "train" in prescribed else "val" if prescribed else _split_of(name, limits)
        for clip in clips:
            clip["person"], clip["split"] = clip["identity"] or name, split
            if clip["prescribed"] not in (None, split):
                clip["split"], clip["verdict"] = clip["prescribed"], "split"
    _measure_leaks(rows)


def _people_of(clips: list[ClipRow]) -> Iterator[tuple[list[ClipRow], Floats]]:
    """The people of one video: clips with matching faces, and their mean embedding."""
    found: list[tuple[list[ClipRow], Floats]] = []
    for clip in clips:
        vector = np.array(clip["embedding"], np.float32)
        for index, (group, mean) in enumerate(found):
            if float(mean @ vector) / max(float(np.linalg.norm(mean)), 1e-9) >= 0.5:
                found[index] = ([*group, clip], mean + vector)
                break
        else:
            found.append(([clip], vector))
    for group, mean in found:
        yield group, mean / max(float(np.linalg.norm(mean)), 1e-9)


def _groups(people: Sequence[tuple[list[ClipRow], Floats]], vectors: Floats, same: float) -> list[int]:
    """Union-find of clips with equal identity or close embeddings; returns the root's number for each."""
    parent = list(range(len(people)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(a: int, b: int) -> None:
        a, b = sorted((root(a), root(b)))
        parent[b] = a

    named: dict[str, int] = {}
    for number, (clips, _) in enumerate(people):
        for identity in {clip["identity"] for clip in clips if clip["identity"]}:
            join(number, named.setdefault(identity, number))
    for start in range(0, len(people), _BLOCK):
        close = vectors[start : start + _BLOCK] @ vectors.T >= same
        for i, j in zip(*np.nonzero(close), strict=True):
            if start + int(i) < int(j):
                join(start + int(i), int(j))
    return [root(number) for number in range(len(people))]


def _split_of(name: str, limits: Thresholds) -> str:
    """Split by a hash of the name, so that adding people does not change the split of others."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "val" if share * 100 < limits.validation_percent else "train"


def _measure_leaks(rows: list[ClipRow]) -> None:
    """`leak`: the largest cosine to a clip of the other split."""
    for own, other in (("train", "val"), ("val", "train")):
        mine, theirs = ([row for row in rows if row["split"] == split] for split in (own, other))
        if not mine or not theirs:
            continue
        vectors = np.array([row["embedding"] for row in theirs], np.float32)
        for start in range(0, len(mine), _BLOCK):
            block = mine[start : start + _BLOCK]
            near = (np.array([row["embedding"] for row in block], np.float32) @ vectors.T).max(1)
            for row, value in zip(block, near, strict=True):
                row["leak"] = round(float(value), 4)


def _kept(rows: Iterable[ClipRow]) -> list[ClipRow]:
    return [row for row in rows if row["verdict"] == KEPT]


def _drop(rows: Iterable[ClipRow], name: str) -> None:
    for row in list(rows):
        row["verdict"] = name
