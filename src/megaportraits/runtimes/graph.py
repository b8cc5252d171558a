"""Metadata of exported graph files, and the protocol of an opened graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from megaportraits.errors import WeightsError
from megaportraits.extras import require
from megaportraits.reading import FAULTS, is_file

Arrays = dict[str, npt.NDArray[np.generic]]
_KINDS = ("base-encode", "base-drive", "student")
_KEY = "megaportraits"
"""Prefix of our entries in a file's metadata, followed by a dot."""


@dataclass(frozen=True)
class GraphInfo:
    """Metadata of an exported file; stored as ONNX metadata properties `megaportraits.NAME`.

    Attributes:
        kind: "base-encode" (once per source), "base-drive" (per frame) or "student" (per frame).
        image_size: side of results, pixels (for base-encode: of the source); the inputs' shapes give the side of crops.
        precision: "float32", "float16" or "int8".
        pose: "network" (the graph estimates head poses) or "landmarks" (head poses are inputs).
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
        """The inverse of `to_metadata`; other entries are ignored.

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
    """An opened graph. Not thread-safe.

    Attributes:
        info: metadata of the file.
        inputs: shapes by name, in the file's order.
        outputs: names, in the file's order.
    """

    info: GraphInfo
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]

    def __call__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run once; every input by name, float32 (an index is int64)."""
        ...


def read_info(path: str | Path) -> GraphInfo:
    """Read the metadata of an exported file.

    Raises:
        WeightsError: no such file, not an ONNX file, or not an exported graph.
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
