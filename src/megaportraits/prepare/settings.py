"""Settings of `megaportraits prepare`: of the extraction (changes need decoding again) and of the filters."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from megaportraits.choices import ChildPolicy, ImageFormat
from megaportraits.config.options import convert_options
from megaportraits.errors import ConfigError

VERSION = 1
"""Version of the extraction: increase it with every change of the results, so that old and new ones are not mixed."""


@dataclass(frozen=True)
class ExtractSettings:
    """Extraction settings. Other values need another output folder, because everything is decoded again.

    Attributes:
        size: side of the largest stored frame, pixels; smaller heads keep their own size.
        fps: frames stored per second of video; 0 stores every frame.
        max_frames: of one clip; a longer shot gives several clips.
        min_frames: shorter shots give no clip.
        people: heads tracked at once; others are only counted.
        image: member format of the frames.
        quality: of the encoder, 1 to 100.
        iqa: which measure of image quality: "hyperiqa" (the paper's) or the stand-in, `measures.STAND_IN`.
    """

    size: int = 256
    fps: float = 5.0
    max_frames: int = 48
    min_frames: int = 4
    people: int = 3
    image: ImageFormat = "jpg"
    quality: int = 95
    iqa: str = "detail-exposure-1"

    def __post_init__(self) -> None:
        convert_options(self)
        wrong = []
        if not 32 <= self.size <= 4096:
            wrong.append(f"size must lie in [32, 4096], got {self.size}")
        if not 0 <= self.fps <= 1000:
            wrong.append(f"fps must lie in [0, 1000], got {self.fps}")
        if not 1 <= self.min_frames <= self.max_frames <= 1000:
            wrong.append(f"1 <= min_frames <= max_frames <= 1000, got {self.min_frames} and {self.max_frames}")
        if not 1 <= self.people <= 100:
            wrong.append(f"people must lie in [1, 100], got {self.people}")
        if not 1 <= self.quality <= 100:
            wrong.append(f"quality must lie in [1, 100], got {self.quality}")
        if wrong:
            raise ConfigError("; ".join(wrong) + ".", fix="Change the options named above.")

    def identity(self) -> dict[str, Any]:
        """The settings that all results in one folder share."""
        return {"version": VERSION, **asdict(self)}


@dataclass(frozen=True)
class Thresholds:
    """Filter limits. Each is compared with a number of the index, so changing them needs no decoding.

    Attributes:
        min_crop: pixels along the head crop's side in the original, the smallest of the clip (B.3 of the paper: 512).
        min_bitrate: kilobits a second of the video.
        min_presence: mean confidence of the landmark network.
        max_people: faces in a frame, the most of the clip.
        min_inside: least part of the head crop that lies in the picture.
        min_age: years, where an age is known.
        children: where no age is known: "face" judges by `iris_ratio` below, "keep" keeps, "drop" drops.
        min_iris_ratio: face width over iris width; irises are as large in children as in adults.
        drop_iqa: part of the videos with the lowest mean image quality that is dropped (B.3: a half).
        max_duplicate: similarity of the mean pictures from which a clip of the same face is a copy.
        same_person: cosine of embeddings from which two videos show one person; they are never in different splits.
        validation_percent: people kept for validation.
    """

    min_crop: int = 0
    min_bitrate: float = 0.0
    min_presence: float = 0.8
    max_people: int = 1
    min_inside: float = 0.6
    min_age: float = 18.0
    children: ChildPolicy = "keep"
    min_iris_ratio: float = 10.0
    drop_iqa: float = 0.5
    max_duplicate: float = 0.98
    same_person: float = 0.6
    validation_percent: float = 3.0

    def __post_init__(self) -> None:
        convert_options(self)
        wrong = [
            f"{name} must lie in [{low}, {high}], got {value}"
            for name, low, high in (
                ("min_presence", 0, 1),
                ("min_inside", 0, 1),
                ("drop_iqa", 0, 0.99),
                ("max_duplicate", 0, 2),
                ("same_person", 0, 2),
                ("validation_percent", 0, 100),
            )
            if not low <= (value := getattr(self, name)) <= high
        ]
        if wrong:
            raise ConfigError("; ".join(wrong) + ".", fix="Change the options named above.")
