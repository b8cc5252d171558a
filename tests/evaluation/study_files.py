"""A study of moving squares: three methods, four pairs of two portraits and two drivers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from megaportraits.evaluation.pairs import Pair
from megaportraits.media import VideoWriter, write_image

METHODS = ("good", "fair", "poor")
SIZE = 64


def square(color: tuple[int, int, int], at: int) -> np.ndarray:
    """A coloured square, `at` pixels from the left."""
    image = np.full((SIZE, SIZE, 3), 235, np.uint8)
    image[20:44, at : at + 24] = color
    return image


def video(path: Path, color: tuple[int, int, int], steps: list[int]) -> Path:
    with VideoWriter(path, fps=Fraction(10)) as out:
        for step in steps:
            out.write(square(color, step))
    return path


def write_pairs(folder: Path) -> tuple[list[Pair], dict[str, Path]]:
    """Pairs, and results per method: good follows exactly, fair half the way, poor stands still and fades."""
    colors = {"red": (200, 40, 40), "blue": (40, 60, 200)}
    moves = {"right": [2, 12, 22, 32, 38], "left": [38, 30, 20, 10, 2]}
    for name, color in colors.items():
        write_image(folder / f"{name}.png", square(color, 20))
    for name, steps in moves.items():
        video(folder / f"{name}.mp4", (60, 60, 60), steps)
    pairs = []
    for name, color in colors.items():
        for move, steps in moves.items():
            key = f"{name}-{move}"
            pairs.append(Pair(key, "cross", folder / f"{name}.png", None, folder / f"{move}.mp4", 0, 1, 60))
            video(folder / "good" / f"{key}.mp4", color, steps)
            video(folder / "fair" / "cross" / f"{key}.mp4", color, [(20 + step) // 2 for step in steps])
            video(folder / "poor" / f"{key}.mp4", (150, 150, 120), [20] * len(steps))
    return pairs, {name: folder / name for name in METHODS}
