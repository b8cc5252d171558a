"""OpenVINO, on the CPU; it can compute a float32 file in bfloat16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from megaportraits.errors import ConfigError, WeightsError
from megaportraits.runtimes.graph import Arrays, GraphInfo, value_names

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoGraph:
    """See `runtimes.graph.Graph`."""

    def __init__(self, path: Path, info: GraphInfo, *, threads: int = 1, precision: str = "float32") -> None:
        if precision not in _HINTS:
            raise ConfigError(f"precision: OpenVINO computes in {' or '.join(_HINTS)}, got {precision!r}")
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
        }
        try:
            compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            raise WeightsError(
                f"OpenVINO cannot run {path}: {str(error).strip().splitlines()[-1]}",
                fix="Use --runtime onnxruntime, or export with --volumes gathers.",
            ) from error
        self._request = compiled.create_infer_request()
        self.info = info
        # A port can also have names of inner tensors that were merged into it.
        inputs, outputs = value_names(path)
        self.inputs = {_name(port, inputs): tuple(port.shape) for port in compiled.inputs}
        self.outputs = tuple(_name(port, outputs) for port in compiled.outputs)

    def __call__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        feed = {name: np.ascontiguousarray(arrays[name]) for name in self.inputs}
        self._request.infer(feed)
        # Copies: the request's own buffers are overwritten by the next frame.
        return {name: self._request.get_output_tensor(i).data.copy() for i, name in enumerate(self.outputs)}


def _name(port: Any, known: Sequence[str]) -> str:
    """The name of a file's input or output for a port."""
    return next(name for name in known if name in port.get_names())
