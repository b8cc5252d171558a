"""The report: one self-contained HTML file with counts, histograms and contact sheets."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

import cv2
import numpy as np

from megaportraits.data.codec import decode_image
from megaportraits.data.shard_index import members, read_member
from megaportraits.errors import DataError
from megaportraits.media.folders import write_whole
from megaportraits.ops.pictures import resize
from megaportraits.prepare.filters import FILTERS, KEPT, LABELS, ClipRow, survivors
from megaportraits.prepare.settings import ExtractSettings, Thresholds
from megaportraits.prepare.store import Store

_KEPT_SHOWN, _DROPPED_SHOWN, _CELL = 48, 12, 96
_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("yaw", "head yaw", "degrees"),
    ("pitch", "head pitch", "degrees"),
    ("roll", "head roll", "degrees"),
    ("yaw_range", "range of yaw in a clip", "degrees"),
    ("expression_range", "range of expression in a clip", "mean over 52 blendshapes"),
    ("jaw_open", "widest mouth of a clip", "jawOpen"),
    ("crop_px", "head crop in the original", "pixels"),
    ("iqa", "image quality", ""),
    ("sharpness", "sharpness", "grey levels"),
    ("seconds", "clip length", "seconds"),
    ("frames", "clip length", "stored frames"),
    ("bitrate", "bitrate", "kbit/s"),
    ("iris_ratio", "face width over iris width", "children are below 10"),
)
_OF_VIDEOS = {"yaw_range", "expression_range", "seconds", "frames"}
_LINES: dict[str, Callable[[Thresholds], float]] = {
    "crop_px": lambda limits: limits.min_crop,
    "bitrate": lambda limits: limits.min_bitrate,
    "iris_ratio": lambda limits: limits.min_iris_ratio,
}
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1c2430}
h1{font-size:1.6rem}h2{margin-top:2.5rem;border-bottom:1px solid #d5dbe3}td,th{padding:.15rem .8rem;text-align:right}
td:first-child,th:first-child,td:nth-child(4){text-align:left}.bar{background:#2f6db5;height:.9rem;display:inline-block}
.grid{display:flex;flex-wrap:wrap;gap:.8rem}figure{margin:0}figcaption{font-size:11px;color:#56606e;max-width:288px}
svg text{font:10px system-ui,sans-serif;fill:#56606e}
"""


def write_report(
    path: Path,
    rows: Sequence[ClipRow],
    failed: Sequence[tuple[str, str]],
    empty: Sequence[str],
    *,
    store: Store,
    settings: ExtractSettings,
    limits: Thresholds,
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        rows: filtered clips.
        failed: videos and stills that could not be read: name and reason.
        empty: names of those in which no clip was found.
        store: where the clips' pictures are.
        settings: of the extraction.
        limits: of the filters.
    """
    kept = sum(row["verdict"] == KEPT for row in rows)
    parts = [
        f"<h1>{kept} of {len(rows)} clips kept</h1>",
        f"<p>{len({row['item'] for row in rows})} videos and stills gave clips, {len(empty)} gave none, "
        f"{len(failed)} could not be read. Image quality: {escape(settings.iqa)}.</p>",
        "<h2>Filters</h2>",
        _funnel(rows),
        "<h2>Distributions</h2><p>Light: all clips; dark: accepted clips.</p>",
        '<div class="grid">' + "".join(_histogram(rows, *column, limits) for column in _COLUMNS) + "</div>",
    ]
    for kind in ("video", "still"):
        shown = [row for row in rows if row["verdict"] == KEPT and row["kind"] == kind]
        if shown:
            parts += [f"<h2>Kept from {kind}s ({len(shown)})</h2>", _sheet(shown, store, _KEPT_SHOWN)]
    for name in FILTERS:
        dropped = [row for row in rows if row["verdict"] == name]
        if dropped:
            title = f"<h2>Dropped: not &ldquo;{LABELS[name]}&rdquo; ({len(dropped)})</h2>"
            parts += [title, _sheet(dropped, store, _DROPPED_SHOWN)]
    parts += [_failures(failed, empty), _settings(settings, limits)]
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>prepare</title><style>{_STYLE}</style>'
    write_whole(path, (page + "\n".join(parts) + "</html>\n").encode())


def _funnel(rows: Sequence[ClipRow]) -> str:
    counts = survivors(rows)
    top = max(counts[0][1], 1)
    lines = []
    before = counts[0][1]
    for name, left in counts:
        label = "found" if name == "found" else LABELS[name]
        lost = f"&minus;{before - left}" if before != left else ""
        bar = f'<span class="bar" style="width:{300 * left / top:.0f}px"></span>'
        lines.append(f"<tr><td>{label}</td><td>{left}</td><td>{lost}</td><td>{bar}</td></tr>")
        before = left
    head = "<tr><th>filter</th><th>clips left</th><th>dropped</th><th></th></tr>"
    splits = Counter(str(row["split"]) for row in rows if row["verdict"] == KEPT)
    people = len({row["person"] for row in rows if row["verdict"] == KEPT})
    names = ", ".join(f"{count} {split}" for split, count in sorted(splits.items()))
    return f"<table>{head}{''.join(lines)}</table><p>{people} people; clips: {names or 'none'}.</p>"


def _histogram(rows: Sequence[ClipRow], name: str, title: str, unit: str, limits: Thresholds) -> str:
    if name in _OF_VIDEOS:
        rows = [row for row in rows if row["kind"] == "video"]
    every = np.array([row[name] for row in rows if row[name] is not None], float)
    if not len(every):
        return ""
    kept = np.array([row[name] for row in rows if row[name] is not None and row["verdict"] == KEPT], float)
    low, high = float(every.min()), float(every.max())
    edges = np.linspace(low, high if high > low else low + 1, 25)
    pale, dark = np.histogram(every, edges)[0], np.histogram(kept, edges)[0]
    width, height, step = 288, 90, 288 / 24
    tall = height / max(int(pale.max()), 1)
    bars = [
        f'<rect x="{i * step:.1f}" y="{height - n * tall:.1f}" '
        f'width="{step - 1:.1f}" height="{n * tall:.1f}" fill="{fill}"/>'
        for counts, fill in ((pale, "#c9d8ea"), (dark, "#2f6db5"))
        for i, n in enumerate(counts.tolist())
    ]
    limit = _LINES[name](limits) if name in _LINES else low
    if low < limit < high:
        x = width * (limit - low) / (high - low)
        bars.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}" stroke="#b3261e" stroke-dasharray="3"/>')
    ends = f'<text x="0" y="{height + 12}">{edges[0]:.4g}</text>'
    ends += f'<text x="{width}" y="{height + 12}" text-anchor="end">{edges[-1]:.4g}</text>'
    caption = f"{escape(title)}{f' ({escape(unit)})' if unit else ''}, median {np.median(every):.3g}"
    return (
        f'<figure><svg width="{width}" height="{height + 15}">{"".join(bars)}{ends}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _sheet(rows: list[ClipRow], store: Store, most: int) -> str:
    """Three frames of evenly chosen clips with the numbers of the filters."""
    chosen = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]
    cells = []
    for row in chosen:
        numbers = f"{row['crop_px']:.0f} px, quality {row['iqa']:.0f}, {row['people']} in frame, yaw {row['yaw']:.0f}"
        numbers += "" if row["duplicate"] is None else f", copy {row['duplicate']:.2f}"
        numbers += "" if row["age"] is None else f", age {row['age']:.0f}"
        numbers += f", irises {row['iris_ratio']:.1f}"
        caption = f"{escape(row['key'])}<br>{escape(row['identity'] or '')} {row['split'] or ''}<br>{numbers}"
        cells.append(f'<figure><img alt="" src="{_strip(row, store)}"><figcaption>{caption}</figcaption></figure>')
    return f'<div class="grid">{"".join(cells)}</div>' if cells else "<p>None.</p>"


def _strip(row: ClipRow, store: Store) -> str:
    """First, middle and last frame side by side as a data URL."""
    picks = sorted({0, row["frames"] // 2, row["frames"] - 1})
    wanted = {f"{row['key']}.{number:03d}.{suffix}" for number in picks for suffix in ("jpg", "webp")}
    cells = []
    tar = store.clips(row["item"])
    try:
        for name, offset, size in members(tar):
            if name in wanted:
                picture = decode_image(read_member(tar, offset, size))
                cells.append(resize(picture, _CELL))
        strip = np.hstack(cells)[..., ::-1]
    except (DataError, ValueError, cv2.error) as error:
        raise DataError(
            f"The clips {tar} cannot be read: {error}", fix=f"Remove {tar.with_suffix('.json')} and run again."
        ) from error
    content = cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def _failures(failed: Sequence[tuple[str, str]], empty: Sequence[str]) -> str:
    parts = []
    if failed:
        kinds = Counter(reason for _, reason in failed)
        lines = "".join(
            f"<tr><td>{escape(reason)}</td><td>{count}</td></tr>" for reason, count in kinds.most_common(40)
        )
        names = "".join(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in failed[:500])
        parts.append(f"<h2>Could not be read ({len(failed)})</h2><table>{lines}</table>")
        parts.append(f"<details><summary>each</summary><ul>{names}</ul></details>")
    if empty:
        names = "".join(f"<li>{escape(name)}</li>" for name in empty[:500])
        parts.append(f"<h2>No clip found ({len(empty)})</h2><details><summary>each</summary><ul>{names}</ul></details>")
    return "".join(parts)


def _settings(settings: ExtractSettings, limits: Thresholds) -> str:
    pairs = {**asdict(settings), **asdict(limits)}
    lines = "".join(f"<tr><td>{name}</td><td>{escape(str(value))}</td></tr>" for name, value in pairs.items())
    return f"<h2>Settings</h2><table>{lines}</table>"
