"""What a comparison of enhanced images found: means, a table, pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from megaportraits.media.images import UInt8


@dataclass
class Comparison:
    """Numbers per method, and pictures.

    Attributes:
        size: side at which everything is compared, pixels.
        photos: how many photographs count.
        values: by method, then by metric, one number per picture.
        rows: pictures for the eye, each a row of squares.
        columns: what the squares of a row are.
        skipped: photographs that could not be used, and why.
    """

    size: int
    methods: tuple[str, ...]
    photos: int = 0
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    rows: list[UInt8] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, method: str, metric: str, value: float) -> None:
        """Note one number."""
        self.values.setdefault(method, {}).setdefault(metric, []).append(float(value))

    def means(self) -> dict[str, dict[str, float]]:
        """The mean of every metric, without pictures on which it is not defined."""
        return {
            method: {metric: float(np.nanmean(v)) if np.isfinite(v).any() else float("nan") for metric, v in m.items()}
            for method, m in self.values.items()
        }

    def write(self, out: Path) -> list[Path]:
        """`hr.json`, `hr.md` and `hr.png` in a folder; files there are replaced."""
        out.mkdir(parents=True, exist_ok=True)
        means = self.means()
        known = {m: {k: v if np.isfinite(v) else None for k, v in values.items()} for m, values in means.items()}
        document = {"size": self.size, "photos": self.photos, "means": known, "skipped": self.skipped}
        (out / "hr.json").write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
        metrics = list(dict.fromkeys(metric for m in means.values() for metric in m))
        lines = [
            f"{self.photos} photographs at {self.size} px.\n",
            f"| metric | {' | '.join(self.methods)} |",
            f"|---|{'---:|' * len(self.methods)}",
            *(f"| {x} | {' | '.join(f'{means[m].get(x, np.nan):.3f}' for m in self.methods)} |" for x in metrics),
            f"\nColumns of `hr.png`: {', '.join(self.columns)}.",
        ]
        (out / "hr.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        paths = [out / "hr.json", out / "hr.md"]
        if self.rows:
            cv2.imwrite(str(out / "hr.png"), np.concatenate(self.rows)[..., ::-1])
            paths.append(out / "hr.png")
        return paths
