"""What an evaluation found, as JSON for programs, Markdown for people and one picture for the eye."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from megaportraits.evaluation.metrics import MIN_PAIRS
from megaportraits.evaluation.protocol import NAME, ClipResult
from megaportraits.evaluation.signals import NETWORK, SIGNALS
from megaportraits.media import write_image
from megaportraits.media.files import staged_output
from megaportraits.media.images import UInt8

FORMAT = 1
_REGIONS = ("face", "mouth", "eyes")
_SYSTEMS = (("model", ""), ("floor", "floor_"), ("true crops", "true_"))


@dataclass(frozen=True)
class Report:
    """An evaluation with the protocol `self`.

    Attributes:
        settings: what the numbers depend on: weights and their hash, size, frames, versions.
        clips: one result per clip.
        failed: clips that could not be measured, and why.
    """

    settings: Mapping[str, Any]
    clips: Sequence[ClipResult]
    failed: Mapping[str, str]

    def means(self) -> dict[str, float]:
        """Each metric's mean over the clips that have it; NaN when none has."""
        names = list(dict.fromkeys(name for clip in self.clips for name in clip.metrics))
        return {name: _mean([clip.metrics.get(name, math.nan) for clip in self.clips]) for name in names}

    def to_json(self) -> str:
        """JSON; what is not a number is null."""
        clips = [
            {
                "name": clip.name,
                "frames": clip.frames,
                "frames_without_face": clip.lost,
                "source_frame": clip.source_frame,
                "metrics": _without_nan(clip.metrics),
                "reasons": dict(clip.reasons),
            }
            for clip in self.clips
        ]
        content = {
            "format": FORMAT,
            "protocol": NAME,
            "settings": dict(self.settings),
            "metrics": _without_nan(self.means()),
            "clips": clips,
            "failed": dict(self.failed),
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """Tables: means, then a row per clip."""
        lines = ["# Evaluation, protocol `self`", ""]
        lines += [f"- {name}: {value}" for name, value in self.settings.items()]
        lines += [f"- not measured: {name}: {reason}" for name, reason in self.failed.items()]
        means = self.means()
        lines += ["", f"## Means over {len(self.clips)} clips", "", *_psnr_table({"mean": means}), ""]
        lines += _motion_means(means, self.clips)
        rows = {clip.name: clip.metrics for clip in self.clips}
        lines += ["", "## Clips", "", *_psnr_table(rows), "", *_motion_table(rows), "", *_reading()]
        return "\n".join(lines) + "\n"

    def contact_sheet(self, per_row: int = 2) -> UInt8:
        """For each clip the source, and driver, floor and model below each other at several times."""
        blocks = [_block(clip) for clip in self.clips]
        blank = np.full_like(blocks[0], 255)
        blocks += [blank] * (-len(blocks) % per_row)
        rows = [np.concatenate(blocks[i : i + per_row], axis=1) for i in range(0, len(blocks), per_row)]
        return np.concatenate(rows, axis=0)

    def write(self, out: Path) -> list[Path]:
        """Write `report.json`, `report.md` and, with at least one clip, `contact.png` into a folder.

        Files of an earlier report are replaced.

        Raises:
            MediaError: the folder cannot be written.
        """
        paths = [out / "report.json", out / "report.md"]
        for path, text in zip(paths, (self.to_json(), self.to_markdown()), strict=True):
            with staged_output(path, overwrite=True) as part:
                part.write_text(text, encoding="utf-8")
        if self.clips:
            paths.append(write_image(out / "contact.png", self.contact_sheet(), overwrite=True))
        return paths


def _psnr_table(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    head = [f"{region} {system}" for region in _REGIONS for system in ("model", "floor")]
    lines = [_row("PSNR, dB", *head), _rule(len(head))]
    for name, metrics in rows.items():
        values = [metrics[f"{NAME}/{prefix}psnr_{region}"] for region in _REGIONS for prefix in ("", "floor_")]
        lines.append(_row(name, *(_number(value, 2) for value in values)))
    return lines


def _motion_means(means: Mapping[str, float], clips: Sequence[ClipResult]) -> list[str]:
    head = [f"{kind}, {system}" for system, _ in _SYSTEMS for kind in ("correlation", "gain")]
    head.append("clips with model's")
    lines = [_row(f"motion ({NETWORK})", *head), _rule(len(head))]
    for signal in SIGNALS:
        names = [f"{NAME}/{prefix}{kind}_{signal}_{NETWORK}" for _, prefix in _SYSTEMS for kind in ("corr", "gain")]
        counted = sum(not math.isnan(clip.metrics[names[0]]) for clip in clips)
        lines.append(_row(signal, *(_number(means[name], 2) for name in names), str(counted)))
    found = [_number(means[f"{NAME}/{prefix}detected_{NETWORK}"], 3) for _, prefix in _SYSTEMS]
    lines.append(_row("outputs with a face", *(cell for value in found for cell in (value, "")), ""))
    return lines


def _motion_table(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    lines = [_row("correlation, model", *SIGNALS, "outputs with a face"), _rule(len(SIGNALS) + 1)]
    for name, metrics in rows.items():
        values = [_number(metrics[f"{NAME}/corr_{signal}_{NETWORK}"], 2) for signal in SIGNALS]
        lines.append(_row(name, *values, _number(metrics[f"{NAME}/detected_{NETWORK}"], 3)))
    return lines


def _reading() -> list[str]:
    least = ", ".join(f"{name} {least:g} {unit}" for name, (unit, least) in SIGNALS.items())
    return [
        "The source is one frame of the clip, the drivers are others of the same clip; the driver's head crop is the "
        "truth. Floor: the source photograph, laid over each driver by a similarity transform of its rigid landmarks. "
        "True crops: the driver's own crops at the model's size, what a perfect output would reach.",
        "",
        f"Motion is read by the landmark network ({NETWORK}) from outputs and from whole driver frames. Gain is the "
        "slope: 1 moves as far as the driver. A dash: fewer than "
        f"{MIN_PAIRS} outputs show a face, or the driver moves less than a standard deviation of {least}, so that "
        "there is nothing to follow; report.json says which.",
    ]


def _block(clip: ClipResult) -> UInt8:
    """One clip of the contact sheet, with a white border."""
    source = clip.pictures["source"][0].copy()
    blank = np.full_like(source, 255)
    cv2.putText(blank, clip.name, (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    left = [blank, source, np.full_like(source, 255)]
    for cell, word in zip(left, ("driver >", "floor >", "model >"), strict=True):
        at = (4, cell.shape[0] - 8)
        if cell is source:  # legible on any picture
            word = "source"
            cv2.putText(cell, word, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 3, cv2.LINE_AA)
        ink = (255, 255, 255) if cell is source else (0, 0, 0)
        cv2.putText(cell, word, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, ink, 1, cv2.LINE_AA)
    rows = [
        np.concatenate([cell, *clip.pictures[system]], axis=1)
        for cell, system in zip(left, ("driver", "floor", "model"), strict=True)
    ]
    return np.pad(np.concatenate(rows, axis=0), ((4, 4), (4, 4), (0, 0)), constant_values=255)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _without_nan(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in values.items()}


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(columns: int) -> str:
    return "|---|" + "---:|" * columns
