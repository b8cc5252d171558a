"""Export a module to an ONNX file: trace it, name its inputs and outputs, add metadata, and check it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from megaportraits import __version__
from megaportraits.choices import Volumes
from megaportraits.errors import ExportError
from megaportraits.extras import require
from megaportraits.media import check_output
from megaportraits.media.staging import staged_output
from megaportraits.ops.warping import volumes_by_gathers
from megaportraits.runtimes import GraphInfo

OPSET = 20
"""The first ONNX opset with a 5-D GridSample."""


def trace(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], volumes: Volumes) -> Any:
    """A module as an `onnx.ModelProto`, with static shapes.

    Args:
        module: takes the inputs in their order, returns a tuple.
        inputs: example inputs by name.
        outputs: names of the outputs.
        volumes: see `Volumes`.

    Raises:
        ConfigError: onnx or onnxscript is not installed.
        ExportError: torch cannot express the module in ONNX.
    """
    require("export", "Export to ONNX", "onnx", "onnxscript", "onnxruntime")
    module = module.eval().requires_grad_(False)
    try:
        with _quiet(), volumes_by_gathers() if volumes == "gathers" else nullcontext():
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=list(inputs),
                output_names=list(outputs),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(
            f"torch {torch.__version__} cannot export {type(module).__name__}: {str(error).strip().splitlines()[0]}",
            fix="Update torch and onnxscript.",
        ) from error
    assert program is not None
    proto = program.model_proto
    got = [value.name for value in proto.graph.output]
    if got != list(outputs):
        raise ExportError(f"{type(module).__name__}: expected the outputs {list(outputs)}, got {got}")
    return proto


def used_inputs(proto: Any) -> list[str]:
    """Names of a graph's inputs that at least one node reads."""
    read = {name for node in proto.graph.node for name in node.input}
    return [value.name for value in proto.graph.input if value.name in read]


def drop_unused_inputs(proto: Any) -> None:
    """Remove inputs that no node reads from a graph, in place."""
    used = set(used_inputs(proto))
    for value in [value for value in proto.graph.input if value.name not in used]:
        proto.graph.input.remove(value)


def write_graph(proto: Any, path: Path, info: GraphInfo, *, overwrite: bool = False) -> None:
    """Write a graph with its description. The write is atomic: the file is complete or absent.

    Raises:
        MediaError: the file exists, or its folder cannot be written.
    """
    import onnx

    check_output(path, overwrite=overwrite)
    described = with_metadata(proto, info.to_metadata())
    _forget_sources(described.graph)
    with staged_output(path, overwrite=overwrite) as part:
        onnx.save(described, str(part))


def with_metadata(proto: Any, metadata: Mapping[str, str]) -> Any:
    """A copy of an `onnx.ModelProto` with exactly these metadata and the producer's name."""
    import onnx

    described = onnx.ModelProto()
    described.CopyFrom(proto)
    del described.metadata_props[:]
    onnx.helper.set_model_props(described, dict(metadata))
    described.producer_name, described.producer_version = "megaportraits", __version__
    return described


def _forget_sources(graph: Any) -> None:
    """Remove the Python source lines that the exporter records for every node: megabytes, with local paths."""
    for holder in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        if hasattr(holder, "metadata_props"):
            del holder.metadata_props[:]
        if hasattr(holder, "doc_string"):
            holder.ClearField("doc_string")
    del graph.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's log messages and warnings, which do not help a user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
