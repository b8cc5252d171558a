"""The result of a comparison of enhanced images: means, a table, images."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from megaportraits.media import check_outputs, write_image
from megaportraits.media.images import UInt8
from megaportraits.media.staging import staged_output

HR_FILES = ("hr.json", "hr.md", "hr.png")


@dataclass
class Comparison:
    """Metrics of every method, and images to look at.

    Attributes:
        size: side of the compared images, pixels.
        methods: names of the methods.
        photos: number of photographs that were used.
        values: for each method and metric, one value per image.
        rows: rows of square images.
        columns: titles of the columns of `rows`.
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
        """Add one value."""
        self.values.setdefault(method, {}).setdefault(metric, []).append(float(value))

    def means(self) -> dict[str, dict[str, float]]:
        """The mean of every metric over the images on which it is defined."""
        return {
            method: {metric: float(np.nanmean(v)) if np.isfinite(v).any() else float("nan") for metric, v in m.items()}
            for method, m in self.values.items()
        }

    def write(self, out: Path, *, overwrite: bool = False) -> list[Path]:
        """Write `HR_FILES` into a folder; the image only if there are rows.

        Raises:
            MediaError: a file exists and `overwrite` is false, or the folder cannot be written.
        """
        paths = check_outputs(out, HR_FILES, overwrite=overwrite)
        means = self.means()
        known = {m: {k: v if np.isfinite(v) else None for k, v in values.items()} for m, values in means.items()}
        document = {"size": self.size, "photos": self.photos, "means": known, "skipped": self.skipped}
        metrics = list(dict.fromkeys(metric for m in means.values() for metric in m))
        lines = [
            f"{self.photos} photographs at {self.size} px.\n",
            f"| metric | {' | '.join(self.methods)} |",
            f"|---|{'---:|' * len(self.methods)}",
            *(f"| {x} | {' | '.join(f'{means[m].get(x, np.nan):.3f}' for m in self.methods)} |" for x in metrics),
            f"\nColumns of `hr.png`: {', '.join(self.columns)}.",
        ]
        texts = (json.dumps(document, indent=1, allow_nan=False), "\n".join(lines) + "\n")
        for path, text in zip(paths, texts, strict=False):
            with staged_output(path, overwrite=overwrite) as part:
                part.write_text(text, encoding="utf-8")
        if not self.rows:
            return paths[: len(texts)]
        write_image(paths[-1], np.concatenate(self.rows), overwrite=overwrite)
        return paths
