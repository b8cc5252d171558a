"""A graph file, opened by one of the runtimes; arrays by name in, arrays by name out."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from megaportraits.errors import ConfigError, WeightsError
from megaportraits.extras import require
from megaportraits.reading import FAULTS, is_file

Arrays = dict[str, npt.NDArray[np.generic]]
RuntimeName = Literal["onnxruntime", "openvino"]
RUNTIMES: tuple[RuntimeName, ...] = ("onnxruntime", "openvino")
_KINDS = ("base-encode", "base-drive", "student")
_KEY = "megaportraits"
"""Every entry of ours in a file's metadata starts with this and a dot."""


@dataclass(frozen=True)
class GraphInfo:
    """What an exported file says about itself; stored as ONNX metadata properties `megaportraits.NAME`.

    Attributes:
        kind: "base-encode" (once per source), "base-drive" (per frame) or "student" (per frame).
        image_size: side of results, pixels (of an identity: of the source); the inputs' shapes say that of crops.
        precision: "float32", "float16" or "int8".
        pose: "network" (the graph finds head poses itself) or "landmarks" (it wants them as inputs).
        matte: whether there is an output `alpha`.
        avatars: names of a student's people, in the order of its index.
        model: the network's config, as JSON.
        license: of the weights.
        version: of megaportraits.
    """

    kind: str
    image_size: int
    precision: str = "float32"
    pose: str = "network"
    matte: bool = True
    avatars: tuple[str, ...] = ()
    model: str = "{}"
    license: str = "Apache-2.0"
    version: str = ""

    def to_metadata(self) -> dict[str, str]:
        """Strings by name, for a file's metadata."""
        fields = {**vars(self), "avatars": list(self.avatars)}
        return {f"{_KEY}.{k}": v if isinstance(v, str) else json.dumps(v) for k, v in fields.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> GraphInfo:
        """The inverse of `to_metadata`; other entries are passed over.

        Raises:
            WeightsError: the file was not written by `megaportraits export`.
        """
        entries = {k.removeprefix(f"{_KEY}."): v for k, v in metadata.items() if k.startswith(f"{_KEY}.")}
        try:
            if entries["kind"] not in _KINDS:
                raise KeyError(entries["kind"])
            return cls(
                kind=entries["kind"],
                image_size=int(entries["image_size"]),
                precision=entries["precision"],
                pose=entries["pose"],
                matte=bool(json.loads(entries["matte"])),
                avatars=tuple(map(str, json.loads(entries["avatars"]))),
                model=entries["model"],
                license=entries["license"],
                version=entries["version"],
            )
        except FAULTS as error:
            raise WeightsError(
                f"{path}: expected a graph of `megaportraits export`, got one without its metadata ({error!r:.200})",
                fix="Export the model again with `megaportraits export base` or `megaportraits export student`.",
            ) from error


class Graph(Protocol):
    """An opened graph. Not for two threads at once.

    Attributes:
        info: what the file says about itself.
        inputs: shapes by name, in the file's order.
        outputs: names, in the file's order.
    """

    info: GraphInfo
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]

    def __call__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run once; every input by name, float32 (an index is int64)."""
        ...


def available_runtimes() -> tuple[RuntimeName, ...]:
    """Those that are installed."""
    return tuple(name for name in RUNTIMES if importlib.util.find_spec(name) is not None)


def open_graph(
    path: str | Path, runtime: RuntimeName = "onnxruntime", *, threads: int = 1, precision: str = "float32"
) -> Graph:
    """Open an exported file on the CPU.

    Args:
        path: an `.onnx` file of `megaportraits export`.
        runtime: who runs it.
        threads: threads it may use.
        precision: "float32", or "bfloat16" where a runtime may compute so by itself (OpenVINO).

    Raises:
        ConfigError: the runtime is not installed, or cannot compute so.
        WeightsError: no such file, or not one that it can run.
    """
    info = read_info(path)
    require("openvino" if runtime == "openvino" else "export", "Running an exported graph", runtime)
    if runtime == "openvino":
        from megaportraits.runtimes.vino import OpenVinoGraph

        return OpenVinoGraph(Path(path), info, threads=threads, precision=precision)
    if precision != "float32":
        raise ConfigError(
            f"precision: onnxruntime computes as the file says, got {precision!r}",
            fix="Export the file in that precision, or use --runtime openvino.",
        )
    from megaportraits.runtimes.ort import OrtGraph

    return OrtGraph(Path(path), info, threads=threads)


def read_info(path: str | Path) -> GraphInfo:
    """What an exported file says about itself.

    Raises:
        WeightsError: no such file, not an ONNX file, or none of ours.
    """
    path = Path(path)
    properties = _load(path).metadata_props
    return GraphInfo.from_metadata({entry.key: entry.value for entry in properties}, path)


def value_names(path: Path) -> tuple[list[str], list[str]]:
    """Names of a file's inputs and outputs, in its order; raises as `read_info`."""
    graph = _load(path).graph
    return [value.name for value in graph.input], [value.name for value in graph.output]


def _load(path: Path) -> Any:
    require("export", "Reading an exported graph", "onnx")
    import onnx
    from google.protobuf.message import DecodeError

    if not is_file(path, WeightsError):
        raise WeightsError(f"{path}: no such file", fix="Write it with `megaportraits export`.")
    try:
        return onnx.load(path, load_external_data=False)
    except (DecodeError, *FAULTS) as error:
        raise WeightsError(f"{path} is not a readable ONNX file: {error}", fix="Export it again.") from error
