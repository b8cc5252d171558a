"""Open an exported graph with one of the installed runtimes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from megaportraits.choices import RUNTIMES, RuntimeName
from megaportraits.errors import ConfigError
from megaportraits.extras import require
from megaportraits.runtimes.graph import Graph, read_info


def available_runtimes() -> tuple[RuntimeName, ...]:
    """The installed runtimes."""
    return tuple(name for name in RUNTIMES if importlib.util.find_spec(name) is not None)


def open_graph(
    path: str | Path, runtime: RuntimeName = "onnxruntime", *, threads: int = 1, precision: str = "float32"
) -> Graph:
    """Open an exported file on the CPU.

    Args:
        path: an `.onnx` file of `megaportraits export`.
        runtime: the runtime to use.
        threads: threads it may use.
        precision: "float32", or "bfloat16", in which OpenVINO can compute a float32 file.

    Raises:
        ConfigError: the runtime is not installed, or does not support this precision.
        WeightsError: no such file, or the runtime cannot run it.
    """
    info = read_info(path)
    require("openvino" if runtime == "openvino" else "export", "Running an exported graph", runtime)
    if runtime == "openvino":
        from megaportraits.runtimes.vino import OpenVinoGraph

        return OpenVinoGraph(Path(path), info, threads=threads, precision=precision)
    if precision != "float32":
        raise ConfigError(
            f"precision: onnxruntime uses the file's own precision, got {precision!r}",
            fix="Export the file in that precision, or use --runtime openvino.",
        )
    from megaportraits.runtimes.ort import OrtGraph

    return OrtGraph(Path(path), info, threads=threads)
