"""Find videos and stills, with their labels: folders, globs, manifests, fsspec addresses.

Every input becomes a list of `SourceItem`. Local paths and fsspec addresses (`s3://`, `gs://`, `https://`, `memory://`)
are listed by the same code; a remote file is fetched when it is processed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from megaportraits.choices import Dataset, StillCrop
from megaportraits.errors import DataError, MediaError
from megaportraits.media import FOOTAGE_SUFFIXES, PICTURE_SUFFIXES
from megaportraits.prepare.collections import LabelFiles, Tell, labelled
from megaportraits.prepare.items import SPLIT_NAMES, SourceItem
from megaportraits.reading import (
    FAULTS,
    MOST_BYTES,
    decode,
    is_folder,
    list_files,
    parse_records,
    read_json,
    read_text,
)

_COLUMNS = "Columns: path; identity, split, start, end, age, left to bottom."


def find_items(
    inputs: Sequence[str],
    *,
    dataset: Dataset = "plain",
    annotations: str | None = None,
    ages: Path | None = None,
    still_crop: StillCrop | None = None,
    tell: Tell = lambda text: None,
) -> list[SourceItem]:
    """All items of the inputs, without duplicates, sorted by key.

    Args:
        inputs: folders (searched at any depth), files, globs, manifests (.csv, .parquet), or fsspec addresses of these.
        dataset: layout of a known collection.
        annotations: the collection's label files, a folder, file or address; None looks for them in each input.
        ages: a CSV with the columns name and age, or the `json` folder of the FFHQ-features collection.
        still_crop: "head" takes the whole head crop of stills and repeats the border beyond the picture, "inside" the
            part of it that is in the picture (`SourceItem.inside`). None: "inside" for the aligned pictures of FFHQ.
        tell: called with messages for the user, such as the number of tracks whose video was found.

    Raises:
        DataError: an input does not exist, is empty, or is not a valid manifest.
    """
    years = _read_ages(ages) if ages is not None else {}
    items: dict[str, SourceItem] = {}
    for given in inputs:
        try:
            expanded = _expand(given, dataset, annotations, tell)
        except OSError as error:
            raise DataError(f"{given} cannot be listed: {error}.", fix="Check the address and the network.") from error
        for item in expanded:
            item = item if still_crop is None else replace(item, inside=still_crop == "inside")
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


def _expand(given: str, dataset: Dataset, annotations: str | None, tell: Tell) -> list[SourceItem]:
    fs, root, found, explicit = _listed(given)
    if PurePosixPath(root).suffix.lower() in (".csv", ".parquet") and found == [root]:
        return _manifest(fs, root)
    wanted = {*FOOTAGE_SUFFIXES, *PICTURE_SUFFIXES}
    media = [
        path
        for path in found
        if not PurePosixPath(path).name.startswith(".")
        and (PurePosixPath(path).suffix.lower() in wanted or (explicit and fs.isfile(path)))
    ]
    if not media:
        raise DataError(f"Input {given} holds no videos and no stills.", fix="Name a folder, a glob or a manifest.")
    labels = LabelFiles(fs, found, given)
    if annotations is not None:
        labels = LabelFiles(*_listed(annotations)[::2], annotations)
    return labelled(dataset, [SourceItem(_address(fs, path)) for path in media], labels, tell)


def _listed(given: str) -> tuple[Any, str, list[str], bool]:
    """File system, path, its files, and whether the user named the files (by a path or glob, not by a folder)."""
    try:
        fs, root = url_to_fs(given)
    except (ImportError, ValueError) as error:
        raise DataError(f"{given} cannot be opened: {error}.", fix="Install the fsspec driver it names.") from error
    if any(mark in given for mark in "*?["):
        return fs, root, sorted(fs.glob(root)), True
    if fs.isdir(root):
        return fs, root, sorted(fs.find(root)), False
    if fs.exists(root):
        return fs, root, [root], True
    raise DataError(f"Input {given} does not exist.", fix="Check the path, the glob or the address.")


def _address(fs: Any, path: str) -> str:
    local = "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
    # Not `Path.resolve`, which raises for circular symbolic links: they are listed in the report.
    return os.path.realpath(path) if local else str(fs.unstrip_protocol(path))


def _manifest(fs: Any, path: str) -> list[SourceItem]:
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


def _row(fs: Any, base: PurePosixPath, row: dict[str, Any]) -> SourceItem:
    where = str(row["path"])
    if "://" not in where:
        where = _address(fs, str(base / where))
    box = tuple(float(row[side]) for side in ("left", "top", "right", "bottom")) if "left" in row else None
    split = SPLIT_NAMES[str(row["split"])] if "split" in row else None
    start, end, age = (float(row[name]) if name in row else None for name in ("start", "end", "age"))
    return SourceItem(where, str(row["identity"]) if "identity" in row else None, split, start, end, box, age)  # type: ignore[arg-type]


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
