"""A report's plots as SVG; equal numbers give equal text."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from megaportraits.evaluation.methods.base import TRUE
from megaportraits.evaluation.metrics.face_signals import NETWORK, SIGNALS
from megaportraits.evaluation.metrics.flicker import FLOW
from megaportraits.evaluation.metrics.metric_networks import SSIM
from megaportraits.evaluation.report.results import PairRow, Report
from megaportraits.extras import optional_dependency

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE: Any = {
    "svg.hashsalt": "megaportraits",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.titlesize": 9,
}
_COLORS = ("#3b6fb6", "#d1782f", "#4f9a58", "#a2558f", "#8a7a2e", "#4aa3a8", "#b5443c")
_DRIVER_COLOR = "#222222"
_CURVES = ("lip_gap", "eye_opening", "yaw")
_SHOWN_PAIRS = 4


def summary_plot(report: Report, protocol: str) -> str:
    """Plot the main metrics, one panel each: every method's mean with its interval."""
    masked = "_masked" if protocol == "self" else ""
    picture = [f"{name}{masked}" for name in ("psnr", SSIM, report.perceptual)]
    metrics = (picture if protocol in ("self", "student") else []) + [
        report.frechet,
        report.identity,
        f"flicker_{FLOW}",
    ]
    methods = [name for name in report.methods if name != TRUE]
    shown = [m for m in metrics if any(math.isfinite(report.estimate(protocol, s, m).value) for s in methods)]
    with _figure(figsize=(2.4 * len(shown), 0.7 + 0.32 * len(methods))) as figure:
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for axis, metric in zip(axes, shown, strict=True):
            for index, method in enumerate(methods):
                estimate = report.estimate(protocol, method, metric)
                _point(axis, estimate.value, estimate.low, estimate.high, -index, _color(report, method))
            axis.set_title(metric, fontsize=8)
            names = methods if axis is axes[0] else [""] * len(methods)
            axis.set_yticks([-i for i in range(len(methods))], names)
            axis.set_ylim(-len(methods) + 0.5, 0.5)
        return _svg(figure)


def motion_plot(report: Report, protocol: str) -> str:
    """Plot the correlation with the driver for each face signal and method, with intervals."""
    methods = list(report.methods)
    with _figure(figsize=(9, 3)) as figure:
        axis = figure.subplots()
        for index, method in enumerate(methods):
            shift = (index - (len(methods) - 1) / 2) * 0.7 / len(methods)
            for at, signal in enumerate(SIGNALS):
                estimate = report.estimate(protocol, method, f"corr_{signal}_{NETWORK}")
                color = _color(report, method)
                if math.isfinite(estimate.low):
                    axis.plot([at + shift] * 2, [estimate.low, estimate.high], color=color, lw=1.4, alpha=0.6)
                axis.plot([at + shift], [estimate.value], "o", ms=4, color=color, label=method if at == 0 else None)
        axis.set_xticks(range(len(SIGNALS)), [name.replace("_", " ") for name in SIGNALS], rotation=20, ha="right")
        axis.axhline(0, color="#bbbbbb", lw=0.8, zorder=0)
        axis.set_ylabel("correlation with the driver")
        axis.set_ylim(-1.02, 1.04)
        axis.legend(frameon=False, ncols=len(methods), loc="lower center", bbox_to_anchor=(0.5, 1))
        return _svg(figure)


def curves_plot(report: Report, rows: Sequence[PairRow]) -> str:
    """Plot lips, eyes and yaw over time for some pairs: the driver and every method but the true crops."""
    chosen = [rows[i] for i in sorted({round(x) for x in np.linspace(0, len(rows) - 1, _SHOWN_PAIRS)})]
    with _figure(figsize=(9, 1.7 * len(chosen) + 0.3)) as figure:
        grid = figure.subplots(len(chosen), len(_CURVES), squeeze=False)
        for row, axes in zip(chosen, grid, strict=True):
            for axis, signal in zip(axes, _CURVES, strict=True):
                _curves(axis, report, row, signal)
            axes[0].set_ylabel(row.pair.key[:24], fontsize=8)
        for axis, signal in zip(grid[0], _CURVES, strict=True):
            axis.set_title(f"{signal.replace('_', ' ')}, {SIGNALS[signal][0]}")
        for axis in grid[-1]:
            axis.set_xlabel("driver frame", fontsize=8)
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, ncols=len(labels), loc="outside upper center")
        return _svg(figure)


@contextmanager
def _figure(*, figsize: tuple[float, float]) -> Iterator[Figure]:
    """Make an empty figure in the report's style; `figsize` is (width, height) in inches."""
    with optional_dependency("train", "An evaluation report"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    with rc_context(_STYLE):
        yield Figure(figsize=figsize, layout="constrained")


def _curves(axis: Axes, report: Report, row: PairRow, signal: str) -> None:
    column = list(SIGNALS).index(signal)
    if row.note is not None:
        axis.plot(row.note.curves[:, column], color=_DRIVER_COLOR, lw=1.6, label="driver")
    for method, result in row.results.items():
        if method != TRUE:
            axis.plot(result.curves[:, column], color=_color(report, method), lw=1, label=method)


def _point(axis: Axes, value: float, low: float, high: float, at: float, color: str) -> None:
    if math.isfinite(low):
        axis.plot([low, high], [at, at], color=color, lw=2, alpha=0.5, solid_capstyle="round")
    axis.plot([value], [at], "o", ms=5, color=color)


def _color(report: Report, method: str) -> str:
    """The colour of a method, the same in all plots."""
    if method == TRUE:
        return _DRIVER_COLOR
    others = [name for name in report.methods if name != TRUE]
    return _COLORS[others.index(method) % len(_COLORS)]


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
