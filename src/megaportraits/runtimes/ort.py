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


def open_session(path: Path, *, threads: int = 1, gpu: bool = False) -> Any:
    """An ONNX file as a session.

    Args:
        path: the file.
        threads: threads it may use.
        gpu: run on a CUDA GPU if this onnxruntime can.

    Raises:
        WeightsError: onnxruntime cannot run it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would slow down the face tracker, which runs in parallel.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = ["CUDAExecutionProvider"] if gpu else []
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(path, options, providers=[*providers, "CPUExecutionProvider"])
    except _ERRORS as error:
        raise _cannot_run(path, error) from error


def run_session(session: Any, path: Path, feed: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """All outputs of a session; `path` names it in messages.

    Raises:
        WeightsError: onnxruntime cannot run it.
    """
    try:
        return list(session.run(None, dict(feed)))
    except _ERRORS as error:
        raise _cannot_run(path, error) from error


class OrtGraph:
    """See `runtimes.graph.Graph`."""

    def __init__(self, path: Path, info: GraphInfo, *, threads: int = 1) -> None:
        self._session = open_session(path, threads=threads)
        self.info, self._path = info, path
        self.inputs = {entry.name: tuple(entry.shape) for entry in self._session.get_inputs()}
        self.outputs = tuple(entry.name for entry in self._session.get_outputs())

    def __call__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        feed = {name: np.ascontiguousarray(arrays[name]) for name in self.inputs}
        return dict(zip(self.outputs, run_session(self._session, self._path, feed), strict=True))


def _cannot_run(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"onnxruntime cannot run {path}: {(str(error).splitlines() or [type(error).__name__])[0]}",
        fix="Update onnxruntime, or export the file again.",
    )
