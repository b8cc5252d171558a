"""Find videos and stills, with their labels: folders, globs, manifests, fsspec addresses.

Every input becomes a list of `Item`s. Local paths and fsspec addresses (`s3://`, `gs://`, `https://`, `memory://`) are
listed by the same code; a remote file is fetched when it is processed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import fsspec
from fsspec.core import url_to_fs

from megaportraits.errors import DataError, MediaError
from megaportraits.media import FOOTAGE_SUFFIXES, PICTURE_SUFFIXES
from megaportraits.reading import (
    FAULTS,
    MOST_BYTES,
    decode,
    is_folder,
    list_files,
    parse_json,
    parse_records,
    read_json,
    read_text,
    shown,
)

Dataset = Literal["plain", "voxceleb2", "celebvhq", "ffhq", "grid"]
_COLUMNS = "Columns: path; identity, split, start, end, age, left to bottom."
SPLIT_NAMES = {
    "train": "train",
    "dev": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "val",
}


@dataclass(frozen=True)
class Item:
    """One video or still with its labels.

    Attributes:
        address: absolute path or fsspec address.
        identity: the person's name in the collection, if it has names.
        split: "train" or "val", when the collection prescribes it.
        start: seconds, where to begin.
        end: seconds, where to stop.
        box: left, top, right, bottom relative to the frame's width and height: only heads in it are used.
        age: years.
    """

    address: str
    identity: str | None = None
    split: str | None = None
    start: float | None = None
    end: float | None = None
    box: tuple[float, float, float, float] | None = None
    age: float | None = None

    def __post_init__(self) -> None:
        """Check the values; raises ValueError or TypeError."""
        numbers = [number for number in (self.start, self.end, self.age, *(self.box or ())) if number is not None]
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"start, end, age and the box must be finite numbers, got {numbers}")
        if self.box is not None and len(self.box) != 4:
            raise ValueError(f"a box has four sides, got {self.box}")
        if self.end is not None and self.end <= (self.start or 0):
            raise ValueError(f"the end, {self.end} s, must come after the start, {self.start or 0} s")
        if not isinstance(self.address, str) or not self.address or self.split not in (None, "train", "val"):
            raise TypeError(f"expected an address, and train or val, got {shown((self.address, self.split))}")

    @property
    def key(self) -> str:
        """The item's key in the output: part of its file name, and a hash of everything that determines its clips."""
        what = json.dumps([self.address, self.start, self.end, self.box])
        digest = hashlib.sha256(what.encode()).hexdigest()[:10]
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(self.address).stem)[:24].strip("_")
        return f"{stem or 'item'}-{digest}"

    @property
    def name(self) -> str:
        """A short name: the last parts of the address."""
        return "/".join(PurePosixPath(self.address).parts[-3:])


def find_items(inputs: Sequence[str], *, dataset: Dataset = "plain", ages: Path | None = None) -> list[Item]:
    """All items of the inputs, without duplicates, sorted by key.

    Args:
        inputs: folders (searched at any depth), files, globs, manifests (.csv, .parquet), or fsspec addresses of these.
        dataset: layout of a known collection.
        ages: a CSV with the columns name and age, or the `json` folder of the FFHQ-features collection.

    Raises:
        DataError: an input does not exist, is empty, or is not a valid manifest.
    """
    years = _read_ages(ages) if ages is not None else {}
    items: dict[str, Item] = {}
    for given in inputs:
        try:
            expanded = _expand(given, dataset)
        except OSError as error:
            raise DataError(f"{given} cannot be listed: {error}.", fix="Check the address and the network.") from error
        for item in expanded:
            stem = PurePosixPath(item.address).stem
            items.setdefault(item.key, item if item.age is not None else replace(item, age=years.get(stem)))
    return [items[key] for key in sorted(items)]


@contextmanager
def local_copy(address: str) -> Iterator[Path]:
    """The local file of an address; a remote one is fetched into a temporary file during the block."""
    if "://" not in address:
        yield Path(address)
        return
    suffix = PurePosixPath(address).suffix
    with tempfile.TemporaryDirectory(prefix="megaportraits-") as folder:
        copy = Path(folder) / f"megaportraits-copy{suffix}"
        try:
            with fsspec.open(address, "rb") as remote, copy.open("wb") as file:
                shutil.copyfileobj(remote, file)
        except FileNotFoundError as error:
            raise MediaError(f"{address}: no such file", fix="Check the address.") from error
        yield copy


def _expand(given: str, dataset: Dataset) -> list[Item]:
    try:
        fs, root = url_to_fs(given)
    except (ImportError, ValueError) as error:
        raise DataError(f"{given} cannot be opened: {error}.", fix="Install the fsspec driver it names.") from error
    if any(mark in given for mark in "*?["):
        found, explicit = sorted(fs.glob(root)), True
    elif fs.isdir(root):
        found, explicit = sorted(fs.find(root)), False
    elif fs.exists(root):
        if PurePosixPath(root).suffix.lower() in (".csv", ".parquet"):
            return _manifest(fs, root)
        found, explicit = [root], True
    else:
        raise DataError(f"Input {given} does not exist.", fix="Check the path, the glob or the address.")
    wanted = {*FOOTAGE_SUFFIXES, *PICTURE_SUFFIXES}
    media = [
        path
        for path in found
        if not PurePosixPath(path).name.startswith(".")
        and (PurePosixPath(path).suffix.lower() in wanted or (explicit and fs.isfile(path)))
    ]
    if not media:
        raise DataError(f"Input {given} holds no videos and no stills.", fix="Name a folder, a glob or a manifest.")
    plain = [Item(_address(fs, path)) for path in media]
    if dataset == "celebvhq":
        labels = next((path for path in found if path.endswith(".json")), None)
        return _celebvhq(plain, _read_json(fs, labels, given))
    if dataset == "ffhq":
        labels = next((path for path in found if PurePosixPath(path).name.startswith("ffhq-dataset")), None)
        return _ffhq(plain, {} if labels is None else _read_json(fs, labels, given))
    return [_labelled(item, dataset) for item in plain]


def _address(fs: Any, path: str) -> str:
    local = "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
    # Not `Path.resolve`, which raises for circular symbolic links: they are listed in the report.
    return os.path.realpath(path) if local else str(fs.unstrip_protocol(path))


def _labelled(item: Item, dataset: Dataset) -> Item:
    """Identity and split from the path: VoxCeleb2 is dev|test/.../id00012/VIDEO/CLIP, GRID is s7/.../CLIP."""
    parts = PurePosixPath(item.address).parts[:-1]
    pattern = {"voxceleb2": r"id\d{5}", "grid": r"s\d{1,2}(_processed)?"}.get(dataset)
    if pattern is None:
        return item
    person = next((part for part in reversed(parts) if re.fullmatch(pattern, part)), None)
    split = next((SPLIT_NAMES[part] for part in parts if part in ("dev", "test")), None) if person else None
    return replace(item, identity=person, split=split if dataset == "voxceleb2" else None)


def _celebvhq(media: list[Item], labels: Any) -> list[Item]:
    """Cut clips as they are; whole videos by the start, end and box that the JSON gives for each of their clips."""
    by_stem = {PurePosixPath(item.address).stem: item for item in media}
    items = []
    try:
        for name, entry in labels["clips"].items():
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


def _ffhq(media: list[Item], labels: Any) -> list[Item]:
    """Aligned pictures 00000.png; the split is that of ffhq-dataset-v2.json where it is there."""
    items = []
    for item in media:
        stem = PurePosixPath(item.address).stem
        try:
            category = labels.get(str(int(stem)), {}).get("category") if stem.isdigit() else None
        except FAULTS as error:
            raise DataError(
                f"The FFHQ labels are not as expected: {error!r}.", fix="Use ffhq-dataset-v2.json."
            ) from error
        items.append(replace(item, identity=f"ffhq-{stem}", split=SPLIT_NAMES.get(str(category))))
    return items


def _manifest(fs: Any, path: str) -> list[Item]:
    """Columns: path; optional identity, split, start, end, age and left, top, right, bottom."""
    if path.endswith(".csv"):
        rows: list[dict[str, Any]] = list(parse_records(_read(fs, path), path, DataError, fix=_COLUMNS))
    else:
        from megaportraits.prepare.index import read_parquet

        with fs.open(path, "rb") as file:
            rows = read_parquet(file, path)
    base = PurePosixPath(path).parent
    items = []
    for number, row in enumerate(rows, 1):
        try:
            items.append(_row(fs, base, {k: v for k, v in row.items() if v not in (None, "")}))
        except FAULTS as error:
            raise DataError(f"{path}, row {number}: {error!r:.200}.", fix=_COLUMNS) from error
    if not items:
        raise DataError(f"{path} names no files.", fix=_COLUMNS)
    return items


def _row(fs: Any, base: PurePosixPath, row: dict[str, Any]) -> Item:
    where = str(row["path"])
    if "://" not in where:
        where = _address(fs, str(base / where))
    box = tuple(float(row[side]) for side in ("left", "top", "right", "bottom")) if "left" in row else None
    split = SPLIT_NAMES[str(row["split"])] if "split" in row else None
    start, end, age = (float(row[name]) if name in row else None for name in ("start", "end", "age"))
    return Item(where, str(row["identity"]) if "identity" in row else None, split, start, end, box, age)  # type: ignore[arg-type]


def _read_json(fs: Any, path: str | None, given: str) -> Any:
    if path is None:
        raise DataError(f"{given} holds no JSON with the collection's labels.", fix="Put it beside the videos.")
    return parse_json(_read(fs, path), path, DataError, fix="Download it again.")


def _read(fs: Any, path: str) -> str:
    """The text of a file of any file system, at most `MOST_BYTES`."""
    with fs.open(path, "rb") as file:
        return decode(file.read(MOST_BYTES + 1), path, DataError, fix=_COLUMNS)


def _age(value: Any) -> float:
    years = float(value)
    if not 0 <= years <= 200:
        raise ValueError(f"expected an age of 0 to 200 years, got {years}")
    return years


def _read_ages(path: Path) -> dict[str, float]:
    """Ages by file stem."""
    fix = "Give a CSV with name,age or FFHQ-features' json folder."
    try:
        if is_folder(path, DataError):
            found = {}
            for file in list_files(path, "*.json", DataError):
                entries = read_json(file, DataError, fix=fix)
                if entries:
                    found[file.stem] = _age(entries[0]["faceAttributes"]["age"])
            return found
        rows = parse_records(read_text(path, DataError, fix=fix), str(path), DataError, fix=fix)
        return {PurePosixPath(row["name"]).stem: _age(row["age"]) for row in rows}
    except FAULTS as error:
        raise DataError(f"Ages cannot be read from {path}: {error!r:.200}.", fix=fix) from error
