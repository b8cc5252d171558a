"""ONNX files that others made: opened by onnxruntime, with their inputs and outputs checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megaportraits.errors import WeightsError
from megaportraits.extras import require
from megaportraits.reading import is_file

Floats = npt.NDArray[np.float32]
BATCH = 64
"""Items at once, where the file takes any number."""


class OnnxModel:
    """A network from an ONNX file; arrays in and out by their places. Not thread-safe.

    Args:
        path: the file.
        inputs: the shape of each input without the batch; None is any length.
        output: the shape of the first output without the batch.
        what: names the network in messages.
        threads: threads it may use.

    Attributes:
        inputs: the shapes as the file has them; None where it takes any length.

    Raises:
        ConfigError: onnxruntime is not installed.
        WeightsError: no such file, one that cannot be run, or one with other inputs or outputs.
    """

    def __init__(
        self,
        path: Path,
        *,
        inputs: Sequence[tuple[int | None, ...]],
        output: tuple[int | None, ...],
        what: str,
        threads: int = 1,
    ) -> None:
        require("export", f"Running {what}", "onnxruntime")
        from megaportraits.runtimes.ort import open_session

        if not is_file(path, WeightsError):
            raise WeightsError(f"{path}: no such file", fix=f"Name the ONNX file of {what}.")
        self._path, self._what, self._output = path, what, output
        self._session = open_session(path, threads=threads, gpu=True)
        shapes = [
            tuple(side if isinstance(side, int) else None for side in e.shape) for e in self._session.get_inputs()
        ]
        self._names = [entry.name for entry in self._session.get_inputs()]
        if len(shapes) != len(inputs) or not all(map(_fits, (shape[1:] for shape in shapes), inputs)):
            wanted = ", ".join(_shown((None, *shape)) for shape in inputs)
            raise WeightsError(
                f"{path}: expected {what} with the inputs {wanted}, got {', '.join(map(_shown, shapes)) or 'none'}",
                fix="See docs/training.md for the interface and how to export the network.",
            )
        self.inputs = [shape[1:] for shape in shapes]
        self._batch = shapes[0][0]
        probe = [
            tuple(own or given or 32 for own, given in zip(s, i, strict=True))
            for s, i in zip(self.inputs, inputs, strict=True)
        ]
        self([np.zeros((1, *shape), np.float32) for shape in probe])

    def __call__(self, arrays: Sequence[Floats]) -> Floats:
        """The first output, (N, ...) float32, for inputs (N, ...).

        Raises:
            WeightsError: the file cannot be run, or its output has another shape or is not finite.
        """
        from megaportraits.runtimes.ort import run_session

        count, step = len(arrays[0]), self._batch or BATCH
        parts = []
        for first in range(0, count, step):
            feed = {}
            for name, array in zip(self._names, arrays, strict=True):
                part = np.ascontiguousarray(array[first : first + step], np.float32)
                short = step - len(part) if self._batch else 0
                feed[name] = np.concatenate([part, np.repeat(part[-1:], short, 0)]) if short else part
            found = np.asarray(run_session(self._session, self._path, feed)[0], np.float32)
            parts.append(found[: min(step, count - first)])
        result = np.concatenate(parts)
        if len(result) != count or not _fits(result.shape[1:], self._output) or not np.isfinite(result).all():
            raise WeightsError(
                f"{self._path}: expected {self._what} with finite outputs {_shown((None, *self._output))}, "
                f"got {_shown(result.shape)}",
                fix="See docs/training.md for the interface and how to export the network.",
            )
        return result


def _fits(shape: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        own is None or other is None or own == other for own, other in zip(shape, wanted, strict=True)
    )


def _shown(shape: Sequence[int | None]) -> str:
    return f"({', '.join('any' if side is None else str(side) for side in shape)})"
