"""A report as one self-contained HTML page: tables, plots, contact sheets, side-by-side videos."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from megaportraits.evaluation.methods.base import TRUE
from megaportraits.evaluation.report.plots import curves_plot, motion_plot, summary_plot
from megaportraits.evaluation.report.results import PairRow, Report
from megaportraits.evaluation.report.sheets import pair_block
from megaportraits.evaluation.report.tables import DETAILS, TITLES, Cell, Table, counts, reading, tables_of
from megaportraits.evaluation.report.worst import COUNT, file_name, ranked_methods, worst_pairs
from megaportraits.media.images import UInt8

MAX_SHOWN = 24
"""Largest number of pairs of a protocol whose images and videos are embedded; the folder has all of them."""
_JPEG_QUALITY = 88
_TILE = 128
_OPEN = 2
"""Number of pairs whose images are unfolded initially."""
_CSS = """
:root { color-scheme: light dark; --line: #8884; --quiet: #888; --best: #2a7d4f22; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 0 auto; padding: 16px; }
h1 { margin: 8px 0; } h2 { margin-top: 48px; border-bottom: 2px solid var(--line); } h3 { margin: 28px 0 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td.best { background: var(--best); font-weight: 600; }
small { color: var(--quiet); font-weight: 400; } p.note, li { color: var(--quiet); }
figure { margin: 12px 0; } figure svg { background: #fff; border-radius: 6px; max-width: 100%; height: auto; }
img, video { max-width: 100%; border-radius: 4px; display: block; }
figcaption { color: var(--quiet); font-size: 13px; margin-bottom: 4px; }
details { margin: 12px 0; } summary { cursor: pointer; }
"""


def to_html(report: Report, videos: Path, worst: Mapping[str, UInt8]) -> str:
    """Make the HTML page.

    Args:
        report: the results.
        videos: folder with `PROTOCOL/PAIR.mp4`; missing videos are left out.
        worst: images of the worst pairs, by `worst.file_name`.
    """
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Evaluation</title><style>{_CSS}</style></head><body>",
        "<h1>Evaluation</h1>",
        *_facts(report),
    ]
    for protocol in report.protocols:
        parts += _section(report, protocol, videos, worst)
    parts += ["<h2>Reading</h2>", *(f"<p>{escape(line)}</p>" for line in reading() if line), "</body></html>"]
    return "\n".join(parts) + "\n"


def _facts(report: Report) -> Iterator[str]:
    yield "<details open><summary>What was measured</summary><ul>"
    for name, value in report.settings.items():
        yield f"<li>{escape(name)}: {escape(str(value))}</li>"
    for name, settings in report.methods.items():
        told = ", ".join(f"{key} {value}" for key, value in settings.items()) or "needs no weights"
        yield f"<li><b>{escape(name)}</b>: {escape(told)}</li>"
    for name, why in report.absent.items():
        yield f"<li>not measured: <b>{escape(name)}</b>: {escape(why)}</li>"
    for pair, method, why in report.failures():
        yield f"<li>without result: <b>{escape(f'{pair}, {method}'.strip(', '))}</b>: {escape(why)}</li>"
    yield "</ul></details>"


def _section(report: Report, protocol: str, videos: Path, worst: Mapping[str, UInt8]) -> Iterator[str]:
    rows = [row for row in report.of(protocol) if row.results]
    first, *others, pairs = tables_of(report, protocol)
    yield f"<h2>{TITLES[protocol]} <small>{protocol}, {counts(report, protocol)}</small></h2>"
    yield _table(first)
    yield f"<figure>{summary_plot(report, protocol)}</figure>"
    yield from map(_table, others)
    if protocol != "hr":
        yield f"<figure>{motion_plot(report, protocol)}</figure>"
        yield f"<figure>{curves_plot(report, rows)}</figure>"
    yield f"<details><summary>Every pair</summary>{_table(pairs)}</details>"
    yield from _worst(report, protocol, worst)
    yield from _pictures(report, rows[:MAX_SHOWN], videos / protocol)
    if len(rows) > MAX_SHOWN:
        yield f'<p class="note">{len(rows) - MAX_SHOWN} more pairs are in the folder only.</p>'


def _worst(report: Report, protocol: str, pictures: Mapping[str, UInt8]) -> Iterator[str]:
    methods = ranked_methods(report, protocol)
    if methods:
        yield f"<h3>Worst {COUNT} pairs in each measure of detail</h3>"
        yield '<p class="note">The driver frame that lowers the measure most; report.json has every value.</p>'
    for number, method in enumerate(methods):
        values: dict[str, list[str]] = {}
        for example in worst_pairs(report, protocol, method):
            values.setdefault(example.metric, []).append(f"{example.row.pair.key} {example.value:.2f}")
        told = "; ".join(f"{DETAILS[metric]}: {', '.join(each)}" for metric, each in values.items())
        yield f"<details{' open' if number == 0 else ''}><summary>{escape(method)}</summary>"
        yield f"<figure><figcaption>{escape(told)}</figcaption>"
        picture = _jpeg(pictures[file_name(protocol, method)])
        yield f'<img loading="lazy" alt="Worst pairs of {escape(method)}" src="{picture}"></figure></details>'


def _pictures(report: Report, rows: Sequence[PairRow], videos: Path) -> Iterator[str]:
    yield "<h3>Videos and contact sheets</h3>"
    for number, row in enumerate(rows):
        made = ["driver" if name == TRUE else name for name in report.methods if name in row.results]
        path = videos / f"{row.pair.key}.mp4"
        yield f"<details{' open' if number < _OPEN else ''}><summary>{escape(row.pair.key)}</summary>"
        if path.is_file():
            yield f"<figure><figcaption>{escape(' | '.join(['source', *made]))}</figcaption>"
            data = base64.b64encode(path.read_bytes()).decode()
            yield f'<video controls loop muted playsinline src="data:video/mp4;base64,{data}"></video></figure>'
        block = pair_block(row, list(report.methods), _TILE)
        yield f'<img loading="lazy" alt="{escape(row.pair.key)}" src="{_jpeg(block)}"></details>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    body = "".join(f"<tr><td>{escape(label)}</td>{''.join(map(_cell, cells))}</tr>" for label, cells in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f'<h3>{escape(table.title)}</h3><div class="scroll"><table><tr>{head}</tr>{body}</table></div>{note}'


def _cell(cell: Cell) -> str:
    interval = f" <small>{escape(cell.interval)}</small>" if cell.interval else ""
    return f"<td{' class=best' if cell.best else ''}>{escape(cell.text)}{interval}</td>"


def _jpeg(picture: UInt8) -> str:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
