"""Gaze and blink labels in place of RT-GENE's and RT-BENE's: read from the blendshapes that `prepare` stored.

The file is what `train gaze --labels` reads (`docs/training.md`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from megaportraits.data.clips import ClipIndex

DEGREES = 30.0
"""Of the eyes where a score is 1."""


def eye_label(scores: Mapping[str, float]) -> dict[str, object]:
    """Yaw (to image right) and pitch (down) in degrees, and blink, from blendshapes by ICT-FaceKit's names."""

    def mean(*names: str) -> float:
        return sum(scores[name] for name in names) / len(names)

    right = mean("eyeLookIn_R", "eyeLookOut_L") - mean("eyeLookOut_R", "eyeLookIn_L")
    down = mean("eyeLookDown_L", "eyeLookDown_R") - mean("eyeLookUp_L", "eyeLookUp_R")
    return {
        "gaze": [round(DEGREES * right, 3), round(DEGREES * down, 3)],
        "blink": round(mean("eyeBlink_L", "eyeBlink_R"), 4),
    }


def write_labels(data: Path, file: Path) -> int:
    """Label every frame of the shards in a folder; the number of frames."""
    count, part = 0, file.with_suffix(".partial")
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("w", encoding="utf-8") as lines:
        index = ClipIndex(data)
        for clip in range(len(index)):
            record = index.record(clip)
            for number, frame in enumerate(record.frames):
                if frame.expression is not None:
                    scores = dict(zip(record.expression_names, map(float, frame.expression), strict=True))
                    lines.write(json.dumps({"key": record.key, "frame": number, **eye_label(scores)}) + "\n")
                    count += 1
    part.replace(file)
    return count


if __name__ == "__main__":
    print(f"{sys.argv[2]}: {write_labels(Path(sys.argv[1]), Path(sys.argv[2]))} frames")
