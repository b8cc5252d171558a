"""One video or still that is to be prepared."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from megaportraits.reading import shown

SPLIT_NAMES = {
    "train": "train",
    "dev": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "val",
}


@dataclass(frozen=True)
class SourceItem:
    """One video or still with its labels.

    Attributes:
        address: absolute path or fsspec address.
        identity: the person's name in the collection, if it has names.
        split: "train" or "val", when the collection prescribes it.
        start: seconds, where to begin.
        end: seconds, where to stop.
        box: left, top, right, bottom relative to the frame's width and height: only heads in it are used.
        age: years.
        inside: of a still, whether the crop is moved and shrunk until it lies in the picture, instead of repeating the
            picture's border.
    """

    address: str
    identity: str | None = None
    split: str | None = None
    start: float | None = None
    end: float | None = None
    box: tuple[float, float, float, float] | None = None
    age: float | None = None
    inside: bool = False

    def __post_init__(self) -> None:
        """Check the values; raises ValueError or TypeError."""
        numbers = [number for number in (self.start, self.end, self.age, *(self.box or ())) if number is not None]
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"start, end, age and the box must be finite numbers, got {numbers}")
        if self.box is not None and len(self.box) != 4:
            raise ValueError(f"a box has four sides, got {self.box}")
        if self.end is not None and self.end <= (self.start or 0):
            raise ValueError(f"the end, {self.end} s, must come after the start, {self.start or 0} s")
        if not isinstance(self.address, str) or not self.address or self.split not in (None, "train", "val"):
            raise TypeError(f"expected an address, and train or val, got {shown((self.address, self.split))}")

    @property
    def key(self) -> str:
        """The item's key in the output: part of its file name, and a hash of everything that determines its clips."""
        what = json.dumps([self.address, self.start, self.end, self.box, *(["inside"] if self.inside else [])])
        digest = hashlib.sha256(what.encode()).hexdigest()[:10]
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(self.address).stem)[:24].strip("_")
        return f"{stem or 'item'}-{digest}"

    @property
    def name(self) -> str:
        """A short name: the last parts of the address."""
        return "/".join(PurePosixPath(self.address).parts[-3:])
