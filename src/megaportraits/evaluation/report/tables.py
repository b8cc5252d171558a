"""A report's tables: the paper's Tables 1 and 2, and metrics of motion, which the paper leaves to a user study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from megaportraits.evaluation.methods.base import TRUE
from megaportraits.evaluation.metrics.agreement import MIN_PAIRS
from megaportraits.evaluation.metrics.face_signals import BLENDSHAPE_NETWORK, NETWORK, SIGNALS
from megaportraits.evaluation.metrics.flicker import FLOW
from megaportraits.evaluation.metrics.metric_networks import IDENTITY_TITLES, SHARPNESS, SSIM
from megaportraits.evaluation.metrics.statistics import Estimate
from megaportraits.evaluation.report.results import Report
from megaportraits.evaluation.report.worst import file_name, ranked_methods

TITLES = {
    "self": "Self-reenactment",
    "cross": "Cross-reenactment",
    "hr": "High resolution, cross-reenactment",
    "student": "Student against its teacher",
}

DETAILS = {
    "detail_eyes": "eyes",
    "detail_mouth": "mouths",
    "corr_teeth": "teeth, correlation",
    "gain_teeth": "teeth, gain",
}
"""Metrics of `evaluation.metrics.detail`, with their titles in tables."""


@dataclass(frozen=True)
class Cell:
    """A value in a table.

    Attributes:
        text: the value.
        interval: its interval, or "".
        best: whether it is the best of its column (the true crops are not compared).
    """

    text: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a title.

    Attributes:
        title: title of the table.
        head: titles of the columns; the first one is the title of the row labels.
        rows: label and cells of each row.
        note: a sentence below the table, or "".
    """

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, list[Cell]]]
    note: str = ""


@dataclass(frozen=True)
class _Column:
    """One or two metrics in a column; two are shown as "raw / masked"."""

    title: str
    metrics: tuple[str, ...]
    digits: int
    better: int
    """1: larger is better, -1: smaller is better, 0: neither."""


def tables_of(report: Report, protocol: str) -> list[Table]:
    """All tables of a protocol."""
    paper = {"self": _self, "cross": _cross, "hr": _high, "student": _student}[protocol]
    tables = [paper(report)]
    if protocol in ("self", "student"):
        regions = [_Column(f"PSNR {region} ↑", (f"psnr_{region}",), 2, 1) for region in ("face", "mouth", "eyes")]
        tables.append(_table(report, protocol, "PSNR by region, dB", regions))
    if protocol != "hr":
        tables += _motion_tables(report, protocol)
        tables.append(_detail(report, protocol))
    tables.append(_over_time(report, protocol))
    tables.append(_by_pair(report, protocol))
    return tables


def to_markdown(report: Report) -> str:
    """The report as Markdown."""
    lines = ["# Evaluation", ""]
    lines += [f"- {name}: {value}" for name, value in report.settings.items()]
    for name, settings in report.methods.items():
        lines.append(f"- {name}: " + (", ".join(f"{k} {v}" for k, v in settings.items()) or "needs no weights"))
    lines += [f"- not measured: {name}: {why}" for name, why in report.absent.items()]
    lines += [
        f"- without result: {pair}{f', {method}' if method else ''}: {why}" for pair, method, why in report.failures()
    ]
    for protocol in report.protocols:
        lines += ["", f"## {TITLES[protocol]} (`{protocol}`), {counts(report, protocol)}"]
        for table in tables_of(report, protocol):
            lines += ["", f"### {table.title}", "", *_markdown(table)]
            lines += ["", table.note] if table.note else []
        lines += ["", f"![contact sheet](contact-{protocol}.png)"]
        for method in ranked_methods(report, protocol):
            lines += ["", f"![worst pairs of {method} in detail]({file_name(protocol, method)})"]
    lines += ["", "## Reading", "", *reading()]
    return "\n".join(lines) + "\n"


def ablation_markdown(report: Report) -> str:
    """An ablation table like the paper's: configs as rows, the main metrics of every protocol as columns."""
    wanted = {
        "hr": _distribution(report),
        "cross": [*_distribution(report), _Column("lip_gap ↑", (f"corr_lip_gap_{NETWORK}",), 2, 1)],
        "self": [
            _Column("PSNR ↑", ("psnr_masked",), 2, 1),
            _Column("mouth PSNR ↑", ("psnr_mouth",), 2, 1),
            _Column(f"{report.perceptual} ↓", (f"{report.perceptual}_masked",), 3, -1),
            _Column("eye_opening ↑", (f"corr_eye_opening_{NETWORK}",), 2, 1),
        ],
    }
    parts = [
        f"{TITLES[protocol]}, {counts(report, protocol)}\n\n"
        + "\n".join(_markdown(_table(report, protocol, "", columns)))
        for protocol, columns in wanted.items()
        if protocol in report.protocols
    ]
    return "\n\n".join(parts) + "\n"


def counts(report: Report, protocol: str) -> str:
    """The number of pairs and frames of a protocol, as text."""
    notes = [row.note for row in report.of(protocol) if row.results and row.note is not None]
    return f"{len(notes)} pairs, {sum(note.frames for note in notes)} frames"


def reading() -> list[str]:
    """Paragraphs that explain the tables."""
    least = ", ".join(f"{name} {least:g} {unit}" for name, (unit, least) in SIGNALS.items())
    return [
        "Values are means over pairs. Brackets hold 95 % intervals: bootstrap over pairs, and for Frechet distances "
        "the jackknife over pairs. Bold is the best of a column; true crops do not compete.",
        "",
        "True crops: the driver's own crops, what a perfect output of this size would reach. Aligned copy: the source "
        "photograph laid over each driver face by a similarity transform. Lifted: the source on a morphable head, "
        "re-rendered with the driver's fitted motion.",
        "",
        f"Motion is read by the landmark network ({NETWORK}, {BLENDSHAPE_NETWORK}) from outputs and from whole driver "
        f"frames. A dash: fewer than {MIN_PAIRS} outputs show a face, or the driver moves less than a standard "
        f"deviation of {least}, so that there is nothing to follow; report.json says which.",
    ]


def _self(report: Report) -> Table:
    columns = [
        _Column(title, (name, f"{name}_masked"), digits, better)
        for title, name, digits, better in (
            ("PSNR ↑", "psnr", 2, 1),
            ("SSIM ↑", SSIM, 3, 1),
            (f"{report.perceptual} ↓", report.perceptual, 3, -1),
        )
    ]
    note = "Raw / masked: masked pictures keep face, ears and hair of the driver's crop, both alike (4.4)."
    return _table(report, "self", "Table 1, self-reenactment (raw / masked)", columns, note)


def _cross(report: Report) -> Table:
    return _table(report, "cross", "Table 1, cross-reenactment", _distribution(report))


def _high(report: Report) -> Table:
    return _table(report, "hr", "Table 2, 1024 x 1024", _distribution(report))


def _student(report: Report) -> Table:
    columns = [
        _Column("PSNR ↑", ("psnr",), 2, 1),
        _Column("SSIM ↑", (SSIM,), 3, 1),
        _Column(f"{report.perceptual} ↓", (report.perceptual,), 3, -1),
        *_distribution(report),
    ]
    return _table(report, "student", "Against the teacher's pictures (4.5)", columns)


def _distribution(report: Report) -> list[_Column]:
    quality = [_Column(f"{report.quality} ↑", (report.quality,), 1, 1)] if report.quality else []
    return [
        _Column(f"{report.frechet} ↓", (report.frechet,), 1, -1),
        _Column(f"{IDENTITY_TITLES[report.identity]} ↑", (report.identity,), 3, 1),
        *quality,
    ]


def _over_time(report: Report, protocol: str) -> Table:
    columns = [
        _Column(f"{IDENTITY_TITLES[report.identity]} ↑", (report.identity,), 3, 1),
        _Column("worst 5 % ↑", (f"{report.identity}_worst",), 3, 1),
        _Column("neighbours ↑", (f"{report.identity}_neighbours",), 3, 1),
        _Column(f"warp_error_{FLOW}", (f"warp_error_{FLOW}",), 2, 0),
        _Column(f"flicker_{FLOW}", (f"flicker_{FLOW}",), 2, 0),
        _Column("sharpness", (SHARPNESS,), 1, 0),
        _Column("faces found ↑", (f"detected_{NETWORK}",), 3, 1),
    ]
    note = (
        "Identity is likeness with the source: its mean, its 5 % quantile over frames, and that of successive outputs. "
        f"Sharpness is {SHARPNESS}, faces found the share of outputs in which one is. Warping errors are grey levels "
        "between neighbouring frames inside the face, motion taken out; flicker is how much more they are than the "
        "driver's own: 0 is as steady as the driver."
    )
    return _table(report, protocol, "Identity and steadiness over time", columns, note)


def _detail(report: Report, protocol: str) -> Table:
    columns = [_Column(title, (name,), 2, 0) for name, title in DETAILS.items()]
    note = (
        "Variance of the Laplacian with the irises brought to 64 px apart: of open eyes over the source photograph's, "
        "of mouths over the driver's in frames that show teeth; 1 is as detailed, more is noise. Teeth: correlation "
        "and gain of the bright, colourless area between the lips."
    )
    return _table(report, protocol, "Detail of eyes and mouths", columns, note)


def _motion_tables(report: Report, protocol: str) -> list[Table]:
    kinds = (("corr", "Motion: correlation with the driver ↑", 2), ("error", "Motion: mean error ↓", 2))
    tables = []
    for kind, title, digits in kinds:
        rows = []
        for signal, (unit, _) in SIGNALS.items():
            label = f"{signal}, {unit}" if kind == "error" else signal
            rows.append((label, _motion_cells(report, protocol, f"{kind}_{signal}_{NETWORK}", kind, digits)))
        shapes = f"{kind}_blendshapes_{BLENDSHAPE_NETWORK}"
        rows.append(("51 blendshapes", _motion_cells(report, protocol, shapes, kind, 2 if kind == "corr" else 3)))
        tables.append(Table(title, (NETWORK, *report.methods), rows))
    gains = [(signal, _motion_cells(report, protocol, f"gain_{signal}_{NETWORK}", "gain", 2)) for signal in SIGNALS]
    note = "The least-squares slope over the driver's motion: 1 moves as far as the driver, 0 does not move."
    tables.append(Table("Motion: gain", (NETWORK, *report.methods), gains, note))
    return tables


def _motion_cells(report: Report, protocol: str, metric: str, kind: str, digits: int) -> list[Cell]:
    column = _Column(metric, (metric,), digits, {"corr": 1, "error": -1, "gain": 0}[kind])
    estimates = [report.estimate(protocol, method, metric) for method in report.methods]
    best = _best(report, estimates, column)
    pairs = zip(report.methods, estimates, strict=True)
    return [_cell([estimate], digits, best if method != TRUE else None) for method, estimate in pairs]


def _by_pair(report: Report, protocol: str) -> Table:
    """The main metrics of every pair, for all methods but the true crops."""
    columns = ["psnr_masked" if protocol == "self" else "psnr", "psnr_mouth"] if protocol in ("self", "student") else []
    columns += [
        report.identity,
        *(f"corr_{signal}_{NETWORK}" for signal in ("lip_gap", "eye_opening", "yaw")),
        *DETAILS,
    ]
    rows = []
    for row in report.of(protocol):
        for method, result in row.results.items():
            if method != TRUE:
                cells = [Cell(_text(result.metrics.get(name, math.nan), 2)) for name in columns]
                rows.append((f"{row.pair.key}, {method}", cells))
    return Table("Pairs", ("pair", *(name.removesuffix(f"_{NETWORK}") for name in columns)), rows)


def _table(report: Report, protocol: str, title: str, columns: Sequence[_Column], note: str = "") -> Table:
    """A table with methods as rows and metrics as columns; methods without any value are left out."""
    best = [
        _best(report, [report.estimate(protocol, method, column.metrics[-1]) for method in report.methods], column)
        for column in columns
    ]
    rows = []
    for method in report.methods:
        estimates = [[report.estimate(protocol, method, name) for name in column.metrics] for column in columns]
        if any(math.isfinite(e.value) for column in estimates for e in column):
            cells = [
                _cell(values, column.digits, winner if method != TRUE else None)
                for values, column, winner in zip(estimates, columns, best, strict=True)
            ]
            rows.append((method, cells))
    return Table(title, ("method", *(column.title for column in columns)), rows, note)


def _best(report: Report, estimates: Sequence[Estimate], column: _Column) -> str | None:
    """The text of the best value of a column, without the true crops; None if values are equal or none is better."""
    known = [
        estimate.value
        for method, estimate in zip(report.methods, estimates, strict=True)
        if method != TRUE and math.isfinite(estimate.value)
    ]
    texts = {_text(value, column.digits) for value in known}
    if not column.better or len(texts) < 2:
        return None
    return _text(max(known) if column.better > 0 else min(known), column.digits)


def _cell(estimates: Sequence[Estimate], digits: int, best: str | None) -> Cell:
    """A cell of one estimate, or of two as "raw / masked"; interval and `best` are those of the last one."""
    last = estimates[-1]
    interval = f"[{last.low:.{digits}f}, {last.high:.{digits}f}]" if math.isfinite(last.low) else ""
    texts = [_text(estimate.value, digits) for estimate in estimates]
    return Cell(" / ".join(texts), interval, texts[-1] == best)


def _text(value: float, digits: int) -> str:
    return "–" if not math.isfinite(value) else f"{value:.{digits}f}"


def _markdown(table: Table) -> list[str]:
    def shown(cell: Cell) -> str:
        text = f"**{cell.text}**" if cell.best else cell.text
        return f"{text} {cell.interval}".rstrip()

    lines = [_row(table.head), "|---|" + "---:|" * (len(table.head) - 1)]
    return lines + [_row((label, *map(shown, cells))) for label, cells in table.rows]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
