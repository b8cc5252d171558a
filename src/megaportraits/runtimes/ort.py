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

_ERRORS = (native.Fail, native.InvalidGraph, native.InvalidProtobuf, native.InvalidArgument, native.NotImplemented)
"""What onnxruntime raises for files that it cannot run; they share no base class."""


class OrtGraph:
    """See `runtimes.graph.Graph`."""

    def __init__(self, path: Path, info: GraphInfo, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads steal the time of the face tracker, which runs beside the network.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except _ERRORS as error:
            raise WeightsError(
                f"onnxruntime cannot run {path}: {str(error).splitlines()[0]}",
                fix="Update onnxruntime, or export the file again.",
            ) from error
        self.info = info
        self.inputs = {entry.name: tuple(entry.shape) for entry in self._session.get_inputs()}
        self.outputs = tuple(entry.name for entry in self._session.get_outputs())

    def __call__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        feed = {name: np.ascontiguousarray(arrays[name]) for name in self.inputs}
        return dict(zip(self.outputs, self._session.run(None, feed), strict=True))
