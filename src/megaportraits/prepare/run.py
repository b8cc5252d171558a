"""The work of `megaportraits prepare`: extract missing items, filter clips, pack accepted ones, write the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from megaportraits.data.index import refresh
from megaportraits.engines import Engine
from megaportraits.errors import DataError, MediaError
from megaportraits.media import VideoReader, is_video
from megaportraits.media.folders import RESUMES, check_space, write_json, write_whole
from megaportraits.media.staging import full_disk_errors
from megaportraits.prepare.extract import Extractor
from megaportraits.prepare.filters import KEPT, ClipRow, judge, survivors
from megaportraits.prepare.index import write_index
from megaportraits.prepare.items import SourceItem
from megaportraits.prepare.pack import pack
from megaportraits.prepare.report import write_report
from megaportraits.prepare.settings import ExtractSettings, Thresholds
from megaportraits.prepare.store import Store, claimed
from megaportraits.reading import FAULTS, is_file, parse_json, read_text

_PROBES = 16
_BYTES_PER_PIXEL, _BYTES_PER_FRAME = 0.9, 14_000  # of a stored frame: pictures, and labels; measured
_ITEMS = "items.jsonl"
_FREE = "Free some space and repeat the same command to resume, or choose another --out."
_NAME_AGAIN = "Remove the file and give all videos and stills again; extracted clips are kept."
_CHECK_DISK_EVERY = 50


@dataclass
class PrepareProgress:
    """Progress, reported after every item and every shard.

    Attributes:
        stage: "extract", "pack".
        done: items or shards.
        total: of them.
        new: of the done ones, those of this run.
        clips: found so far in this run.
        frames: stored so far in this run.
        failed: items of this run that could not be read.
    """

    stage: Literal["extract", "pack"]
    done: int
    total: int
    new: int = 0
    clips: int = 0
    frames: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Summary:
    """Result of a run.

    Attributes:
        counts: clips left after each filter, starting with all clips.
        folders: clips by folder of shards; empty after a dry run.
        items: videos and stills known.
        failed: name and reason of those that could not be read.
        empty: names of those without a clip.
        files: index and report.
        rows: all filtered clips.
    """

    counts: list[tuple[str, int]]
    folders: dict[str, int]
    items: int
    failed: list[tuple[str, str]]
    empty: list[str]
    files: list[Path] = field(default_factory=list)
    rows: list[ClipRow] = field(default_factory=list, repr=False)


def prepare(
    items: Sequence[SourceItem],
    out: Path,
    settings: ExtractSettings,
    limits: Thresholds,
    *,
    engine: Engine | None = None,
    dry_run: bool = False,
    retry_failed: bool = False,
    on_progress: Callable[[PrepareProgress], None] = lambda progress: None,
) -> Summary:
    """Update a folder to its items, settings and thresholds, doing only missing work.

    Args:
        items: to add to those already in the folder; empty: only filter again.
        out: the folder.
        settings: of the extraction, equal to those of the folder.
        limits: of the filters.
        engine: where the extraction runs; by default in this process.
        dry_run: extract and filter, but write neither shards nor index nor report.
        retry_failed: extract items again that could not be read before.
        on_progress: called after every item and shard.

    Raises:
        DataError: the folder belongs to something else or is in use, or the disk is too small.
    """
    with full_disk_errors(out, DataError, fix=RESUMES), claimed(out, settings) as store:
        known = _remember(items, out)
        if retry_failed:
            for key in known:
                if store.has(key) and store.read(key)["error"] is not None:
                    store.note(key).unlink()
        _extract(known, out, store, settings, engine or Engine(), on_progress)
        rows, failed, empty = _collect(known, store, settings)
        judge(rows, limits)
        rows.sort(key=lambda row: row["key"])
        summary = Summary(survivors(rows), {}, len(known), failed, empty, [], rows)
        if dry_run:
            return summary

        def on_shard(done: int, total: int) -> None:
            on_progress(PrepareProgress("pack", done, total))

        summary.folders.update(pack(rows, store, out, on_shard))
        for folder in summary.folders:
            refresh(out / folder, workers=(engine or Engine()).workers)
        summary.files.extend(write_index(rows, out))
        report = out / "report.html"
        write_report(report, rows, failed, empty, store=store, settings=settings, limits=limits)
        content = {
            "thresholds": asdict(limits),
            "clips_left": dict(summary.counts),
            "folders": summary.folders,
            "kept": sum(row["verdict"] == KEPT for row in rows),
            "items": len(known),
            "failed": [{"name": name, "reason": reason} for name, reason in failed],
            "without_clips": empty,
        }
        write_json(out / "report.json", content)
        summary.files.extend([report, out / "report.json"])
        return summary


def _remember(items: Sequence[SourceItem], out: Path) -> dict[str, SourceItem]:
    """All items of the folder by key: the recorded ones, updated by the new ones."""
    path = out / _ITEMS
    known: dict[str, SourceItem] = {}
    if is_file(path, DataError):
        for number, line in enumerate(read_text(path, DataError, fix=_NAME_AGAIN).splitlines(), 1):
            item = _item(line, f"{path}, line {number}")
            known[item.key] = item
    known |= {item.key: item for item in items}
    if not known:
        raise DataError("There is nothing to prepare.", fix="Name videos or stills.")
    known = dict(sorted(known.items()))
    write_whole(path, "".join(json.dumps(asdict(item)) + "\n" for item in known.values()).encode())
    return known


def _item(line: str, where: str) -> SourceItem:
    entry = parse_json(line, where, DataError, fix=_NAME_AGAIN)
    try:
        return SourceItem(**{**entry, "box": tuple(entry["box"]) if entry["box"] else None})
    except FAULTS as error:
        raise DataError(f"{where} is not an item: {error}", fix=_NAME_AGAIN) from error


def _extract(
    known: dict[str, SourceItem],
    out: Path,
    store: Store,
    settings: ExtractSettings,
    engine: Engine,
    on_progress: Callable[[PrepareProgress], None],
) -> None:
    todo = [item for key, item in known.items() if not store.has(key)]
    progress = PrepareProgress("extract", len(known) - len(todo), len(known))
    on_progress(progress)
    if not todo:
        return
    check_space(out, estimate_bytes(todo, settings), _FREE)
    with closing(engine.run(Extractor(out, settings), todo)) as results:
        for result in results:
            progress.done += 1
            progress.new += 1
            progress.clips += result["clips"]
            progress.frames += result["frames"]
            progress.failed += bool(result["error"])
            on_progress(progress)
            if progress.new % _CHECK_DISK_EVERY == 0:
                check_space(out, 0, _FREE)
    store.sweep()


def estimate_bytes(items: Sequence[SourceItem], settings: ExtractSettings) -> float:
    """Estimated bytes that extracting and packing local items will write, from the lengths of a sample."""
    probes = [item for item in items if "://" not in item.address][:: max(len(items) // _PROBES, 1)]
    counts = [_frames_of(item, settings) for item in probes]
    frames = len(items) * (sum(counts) / len(counts) if counts else settings.max_frames)
    # In the store, and once more in a shard.
    return 2 * frames * (settings.size**2 * _BYTES_PER_PIXEL + _BYTES_PER_FRAME)


def _frames_of(item: SourceItem, settings: ExtractSettings) -> float:
    try:
        if not is_video(item.address):
            return 1
        info = VideoReader(item.address).info
    except MediaError:
        return 0
    seconds = float(info.duration or 10.0)
    if item.end is not None:
        seconds = min(seconds, item.end - (item.start or 0))
    return seconds * (settings.fps or float(info.fps))


def _collect(
    known: dict[str, SourceItem], store: Store, settings: ExtractSettings
) -> tuple[list[ClipRow], list[tuple[str, str]], list[str]]:
    """Rows of all clips, failures and the names of items without clips."""
    rows: list[ClipRow] = []
    failed, empty = [], []
    for key, item in known.items():
        if not store.has(key):
            continue
        note = store.read(key)
        if note["error"] is not None:
            failed.append((item.name, note["error"]))
        elif not note["clips"]:
            empty.append(item.name)
        about = {
            "item": key,
            "kind": note.get("kind"),
            "name": item.name,
            "address": item.address,
            "identity": item.identity,
            "prescribed": item.split,
            "age": item.age,
            "width": note.get("width"),
            "height": note.get("height"),
            "video_fps": note.get("fps"),
            "bitrate": note.get("bitrate"),
            "iqa_name": settings.iqa,
        }
        rows += [{**about, **clip} for clip in note["clips"]]
    return rows, failed, empty
