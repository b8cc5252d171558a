"""Results of an evaluation: estimates with intervals, and their JSON form."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from megaportraits.choices import PROTOCOLS
from megaportraits.evaluation.methods.base import TRUE
from megaportraits.evaluation.metrics.frechet import Moments, frechet_distance
from megaportraits.evaluation.metrics.measure import PairResult
from megaportraits.evaluation.metrics.reference import Reference
from megaportraits.evaluation.metrics.statistics import LEVEL, Estimate, bootstrap_mean, jackknife
from megaportraits.evaluation.pairs import Pair
from megaportraits.evaluation.store import SampleNote

FORMAT = 3
"""Format of `report.json`: 3 has `methods` where 2 had `systems`, otherwise they are equal; see docs/evaluation.md."""
_UNKNOWN = Estimate(math.nan)


@dataclass
class PairRow:
    """One pair of a report.

    Attributes:
        pair: the pair.
        note: data of the pair itself; None if it could not be read.
        results: results by method.
        failed: for each method without result, the reason; under "", why the pair itself could not be read.
    """

    pair: Pair
    note: SampleNote | None = None
    results: dict[str, PairResult] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """An evaluation of several methods.

    Attributes:
        settings: settings that the numbers depend on.
        methods: each method's own settings, in the order of the tables; the true crops come first.
        rows: one row for each pair.
        identity: name of the identity similarity, see `MetricNetworks`.
        perceptual: name of the perceptual distance, see `MetricNetworks`.
        frechet: name of the Frechet distance, see `MetricNetworks`.
        quality: name of the image quality, or None, see `MetricNetworks`.
        absent: the paper's metrics that this run did not compute, and why.
        references: for each protocol, the real images of the Frechet distance; without, the protocol's own are used.
    """

    settings: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, str]]
    rows: Sequence[PairRow]
    identity: str
    perceptual: str
    frechet: str
    quality: str | None
    absent: Mapping[str, str]
    references: Mapping[str, Reference] = field(default_factory=dict)

    @property
    def protocols(self) -> list[str]:
        """The protocols that have results, in the order of `PROTOCOLS`."""
        return [name for name in PROTOCOLS if any(row.results for row in self.of(name))]

    def of(self, protocol: str) -> list[PairRow]:
        """The rows of a protocol."""
        return [row for row in self.rows if row.pair.protocol == protocol]

    def estimate(self, protocol: str, method: str, metric: str) -> Estimate:
        """A metric's mean over the pairs of a protocol, with its interval; NaN if unknown."""
        return self._estimates.get((protocol, method, metric), _UNKNOWN)

    def failures(self) -> list[tuple[str, str, str]]:
        """Pair, method ("" for all) and reason of every missing result."""
        return [(row.pair.name, method, why) for row in self.rows for method, why in row.failed.items()]

    @cached_property
    def _estimates(self) -> dict[tuple[str, str, str], Estimate]:
        found = {}
        for protocol in self.protocols:
            rows = self.of(protocol)
            for method in self.methods:
                results = [row.results[method] for row in rows if method in row.results]
                metrics = list(dict.fromkeys(name for result in results for name in result.metrics))
                for name in metrics:
                    values = [result.metrics.get(name, math.nan) for result in results]
                    found[protocol, method, name] = bootstrap_mean(values)
                if results and method != TRUE:
                    reference = self._reference(protocol, rows)
                    groups = [result.features for result in results]
                    found[protocol, method, self.frechet] = jackknife(groups, _distance_to(reference))
        return found

    def _reference(self, protocol: str, rows: Sequence[PairRow]) -> Moments | npt.NDArray[np.floating]:
        """The reference's moments, or features of a protocol's real images: head crops of drivers and sources."""
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
        """The report as JSON; values that are not finite become null."""
        metrics: dict[str, dict[str, Any]] = {method: {} for method in self.methods}
        for (protocol, method, name), estimate in self._estimates.items():
            metrics[method][f"{protocol}/{name}"] = {
                "mean": _number(estimate.value),
                "low": _number(estimate.low),
                "high": _number(estimate.high),
                "pairs": estimate.pairs,
            }
        content = {
            "format": FORMAT,
            "settings": dict(self.settings),
            "interval": LEVEL,
            "methods": {name: dict(settings) for name, settings in self.methods.items()},
            "absent": dict(self.absent),
            "metrics": metrics,
            "pairs": [_pair_json(row) for row in self.rows],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _distance_to(reference: Moments | npt.NDArray[np.floating]) -> Any:
    return lambda groups: frechet_distance(np.concatenate(groups), reference)


def _pair_json(row: PairRow) -> dict[str, Any]:
    pair = row.pair
    return {
        "name": pair.name,
        "source": pair.source.name,
        "source_frame": pair.source_frame,
        "driver": pair.driver.name,
        "frames": row.note.frames if row.note else None,
        "frames_without_face": row.note.lost if row.note else None,
        "methods": {
            method: {
                "metrics": {name: _number(value) for name, value in result.metrics.items()},
                "reasons": result.reasons,
            }
            for method, result in row.results.items()
        },
        "failed": row.failed,
    }


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
