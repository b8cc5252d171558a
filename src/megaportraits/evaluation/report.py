"""What an evaluation found: estimates with intervals, as JSON for programs, Markdown and HTML for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megaportraits.evaluation.frechet import Moments, frechet_distance
from megaportraits.evaluation.measure import PairResult
from megaportraits.evaluation.pairs import PROTOCOLS, Pair
from megaportraits.evaluation.reference import Reference
from megaportraits.evaluation.statistics import LEVEL, Estimate, bootstrap_mean, jackknife
from megaportraits.evaluation.store import SceneNote
from megaportraits.evaluation.systems import TRUE
from megaportraits.media.files import staged_output

REPORT_FILES = ("report.json", "report.md", "report.html")

FORMAT = 2
_UNKNOWN = Estimate(math.nan)


@dataclass
class Row:
    """One pair of a report.

    Attributes:
        pair: which.
        note: what is known of it; None when it could not be read.
        results: by system.
        failed: why systems have no result; under "" why the pair itself could not be read.
    """

    pair: Pair
    note: SceneNote | None = None
    results: dict[str, PairResult] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """An evaluation of several systems.

    Attributes:
        settings: what the numbers depend on.
        systems: each system's own settings, in the order of the tables; the true crops come first.
        rows: one for each pair.
        identity, perceptual, frechet, quality: names of the metrics whose network may be a stand-in; `quality` None
            for none.
        absent: what the paper measures and this run did not, and why.
        references: by protocol, the real pictures of the Frechet distance; where there are none, the protocol's own.
    """

    settings: Mapping[str, Any]
    systems: Mapping[str, Mapping[str, str]]
    rows: Sequence[Row]
    identity: str
    perceptual: str
    frechet: str
    quality: str | None
    absent: Mapping[str, str]
    references: Mapping[str, Reference] = field(default_factory=dict)

    @property
    def protocols(self) -> list[str]:
        """The protocols that have results, in their usual order."""
        return [name for name in PROTOCOLS if any(row.results for row in self.of(name))]

    def of(self, protocol: str) -> list[Row]:
        """The rows of a protocol."""
        return [row for row in self.rows if row.pair.protocol == protocol]

    def estimate(self, protocol: str, system: str, metric: str) -> Estimate:
        """A metric's mean over the pairs of a protocol, with its interval; NaN where it is not known."""
        return self._estimates.get((protocol, system, metric), _UNKNOWN)

    def failures(self) -> list[tuple[str, str, str]]:
        """Pair, system ("" for all) and reason of everything that has no result."""
        return [(row.pair.name, system, why) for row in self.rows for system, why in row.failed.items()]

    @cached_property
    def _estimates(self) -> dict[tuple[str, str, str], Estimate]:
        found = {}
        for protocol in self.protocols:
            rows = self.of(protocol)
            for system in self.systems:
                results = [row.results[system] for row in rows if system in row.results]
                metrics = list(dict.fromkeys(name for result in results for name in result.metrics))
                for name in metrics:
                    values = [result.metrics.get(name, math.nan) for result in results]
                    found[protocol, system, name] = bootstrap_mean(values)
                if results and system != TRUE:
                    reference = self._reference(protocol, rows)
                    groups = [result.features for result in results]
                    found[protocol, system, self.frechet] = jackknife(groups, _distance_to(reference))
        return found

    def _reference(self, protocol: str, rows: Sequence[Row]) -> Moments | npt.NDArray[np.floating]:
        """The given set's statistics, or features of a protocol's real pictures: drivers' and sources' head crops."""
        if protocol in self.references:
            return self.references[protocol].moments
        features: dict[tuple[str, int | None], npt.NDArray[np.floating]] = {}
        for row in rows:
            if TRUE in row.results:
                features.setdefault((str(row.pair.driver), None), row.results[TRUE].features)
            if row.note is not None and row.pair.protocol != "self":
                features.setdefault((str(row.pair.source), row.pair.source_frame or 0), row.note.source_features)
        return np.concatenate(list(features.values()))

    def to_json(self) -> str:
        """JSON; what is not a number is null."""
        metrics: dict[str, dict[str, Any]] = {system: {} for system in self.systems}
        for (protocol, system, name), estimate in self._estimates.items():
            metrics[system][f"{protocol}/{name}"] = {
                "mean": _number(estimate.value),
                "low": _number(estimate.low),
                "high": _number(estimate.high),
                "pairs": estimate.pairs,
            }
        content = {
            "format": FORMAT,
            "settings": dict(self.settings),
            "interval": LEVEL,
            "systems": {name: dict(settings) for name, settings in self.systems.items()},
            "absent": dict(self.absent),
            "metrics": metrics,
            "pairs": [_pair_json(row) for row in self.rows],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def write(self, out: Path, *, overwrite: bool = False) -> list[Path]:
        """Write `REPORT_FILES`, a contact sheet for each protocol, and pictures of the worst pairs into a folder.

        Raises:
            MediaError: a file exists and `overwrite` is false, or the folder cannot be written.
        """
        from megaportraits.evaluation.page import to_html
        from megaportraits.evaluation.sheets import contact_sheet
        from megaportraits.evaluation.tables import to_markdown
        from megaportraits.evaluation.worst import file_name, judged_systems, worst_sheet
        from megaportraits.media import check_outputs, write_image

        worst = {
            file_name(protocol, system): worst_sheet(self, protocol, system, out / "results")
            for protocol in self.protocols
            for system in judged_systems(self, protocol)
        }
        names = [*REPORT_FILES, *(f"contact-{protocol}.png" for protocol in self.protocols)]
        check_outputs(out, worst, overwrite=overwrite)
        paths = check_outputs(out, names, overwrite=overwrite)
        texts = (self.to_json(), to_markdown(self), to_html(self, out / "videos", worst))
        for path, text in zip(paths, texts, strict=False):
            with staged_output(path, overwrite=overwrite) as part:
                part.write_text(text, encoding="utf-8")
        for path, protocol in zip(paths[len(texts) :], self.protocols, strict=True):
            write_image(path, contact_sheet(self.of(protocol), list(self.systems)), overwrite=overwrite)
        for name, picture in worst.items():
            write_image(out / name, picture, overwrite=overwrite)
        return [*paths, *(out / name for name in worst)]


def _distance_to(reference: Moments | npt.NDArray[np.floating]) -> Any:
    return lambda groups: frechet_distance(np.concatenate(groups), reference)


def _pair_json(row: Row) -> dict[str, Any]:
    pair = row.pair
    return {
        "name": pair.name,
        "source": pair.source.name,
        "source_frame": pair.source_frame,
        "driver": pair.driver.name,
        "frames": row.note.frames if row.note else None,
        "frames_without_face": row.note.lost if row.note else None,
        "systems": {
            system: {
                "metrics": {name: _number(value) for name, value in result.metrics.items()},
                "reasons": result.reasons,
            }
            for system, result in row.results.items()
        },
        "failed": row.failed,
    }


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
