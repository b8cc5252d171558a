"""onnxruntime, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from megaportraits.errors import WeightsError
from megaportraits.runtimes.graph import Arrays, GraphInfo

_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)
"""Exceptions of onnxruntime for files that it cannot run; its own classes have no common base class."""


class OrtGraph:
    """See `runtimes.graph.Graph`."""

    def __init__(self, path: Path, info: GraphInfo, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would slow down the face tracker, which runs in parallel.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except _ERRORS as error:
            raise _cannot_run(path, error) from error
        self.info, self._path = info, path
        self.inputs = {entry.name: tuple(entry.shape) for entry in self._session.get_inputs()}
        self.outputs = tuple(entry.name for entry in self._session.get_outputs())

    def __call__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        feed = {name: np.ascontiguousarray(arrays[name]) for name in self.inputs}
        try:
            return dict(zip(self.outputs, self._session.run(None, feed), strict=True))
        except _ERRORS as error:
            raise _cannot_run(self._path, error) from error


def _cannot_run(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"onnxruntime cannot run {path}: {(str(error).splitlines() or [type(error).__name__])[0]}",
        fix="Update onnxruntime, or export the file again.",
    )
