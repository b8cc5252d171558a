"""Export the base model as two ONNX graphs: `encode.onnx` runs once per source, `drive.onnx` once per frame."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from megaportraits import __version__
from megaportraits.choices import GraphPrecision, Volumes
from megaportraits.config.options import convert_options
from megaportraits.errors import ExportError
from megaportraits.export.calibration import HeadCrop, SourceCrop, driver_crops, source_crop
from megaportraits.export.graphs import BLENDSHAPES_INPUT, POSE_INPUTS, DriveGraph, EncodeGraph, motion_inputs
from megaportraits.export.report import Case, ExportReport, plan_files, write_precisions
from megaportraits.export.tensors import flatten, rebuild
from megaportraits.export.write import drop_unused_inputs, trace, used_inputs
from megaportraits.faces.landmarks import select_blendshapes
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import load_base
from megaportraits.nn.blocks import fold_weight_standardization
from megaportraits.ops.pictures import resize_planes
from megaportraits.pipeline.demo import demo_driver, demo_portrait
from megaportraits.pipeline.driver import Driver
from megaportraits.pipeline.options import PoseFrom
from megaportraits.pipeline.portrait import Source
from megaportraits.runtimes import GraphInfo
from megaportraits.runtimes.arrays import image_array, pose_arrays

KEPT_IN_INT8 = ("model.motion", "model.embed_z", "model.warp_driver")
"""Parts that stay in floating point in int8 graphs: they compute poses and warps, which need more than 8 bits."""


@dataclass(frozen=True)
class BaseExport:
    """Options of `export_base`.

    Attributes:
        precisions: precisions to write; "float32" is always written, and the others are compared with it.
        pose: whether the graphs estimate head poses themselves, or take as inputs a pose fitted to landmarks and the
            blendshapes that the model's correction uses.
        size: side of the output image, pixels; may exceed the model's own size only for models with a source skip. 0:
            twice the model's size for those, the model's size otherwise.
        volumes: see `choices.Volumes`.
        source: image or video with a face, for calibration and measurement.
        driver: image or video with a face, for calibration and measurement.
        frames: number of driver frames to use.
        overwrite: whether existing files may be replaced.
    """

    precisions: tuple[GraphPrecision, ...] = ("float32",)
    pose: PoseFrom = PoseFrom.LANDMARKS
    size: int = 0
    volumes: Volumes = "gathers"
    source: Source = field(default_factory=demo_portrait)
    driver: Driver = field(default_factory=demo_driver)
    frames: int = 24
    overwrite: bool = False

    def __post_init__(self) -> None:
        convert_options(self, keep=("source", "driver"))


def export_base(weights: str | Path, out: Path, options: BaseExport | None = None) -> ExportReport:
    """Write `encode.onnx` and `drive.onnx` (and `drive-float16.onnx`, ...) to a folder, and measure them.

    Args:
        weights: see `models.storage.load_base`.
        out: the folder; created if missing.
        options: see `BaseExport`.

    Raises:
        WeightsError: no such weights.
        ExportError: the export fails, or the graph's output differs from torch's.
        MediaError: a file exists, or cannot be read or written.
    """
    options = options or BaseExport()
    model = load_base(weights)
    source = source_crop(model, options.source)
    drivers = driver_crops(options.driver, model.config.image_size, options.frames)
    return export_base_model(model, out, options, source, drivers)


def export_base_model(
    model: BaseModel, out: Path, options: BaseExport, source: SourceCrop, drivers: list[HeadCrop]
) -> ExportReport:
    """`export_base` for a model in memory and faces that are already cropped."""
    size = _picture_size(model, options.size)
    with_weights: tuple[GraphPrecision, ...] = tuple(p for p in options.precisions if p != "int8")
    plan_files(out, "encode", with_weights, overwrite=options.overwrite)
    plan_files(out, "drive", options.precisions, overwrite=options.overwrite)
    model = deepcopy(model)
    fold_weight_standardization(model)
    given = motion_inputs(model) if options.pose is PoseFrom.LANDMARKS else ()
    measured = _measured(model, source, given)
    seen = {"photo": torch.from_numpy(image_array(source.image)), **measured}
    everything = EncodeGraph(model).eval()
    with torch.no_grad():
        identity = model.encode(seen["photo"])  # only its structure is used; the values come from the graph
        tensors = dict(zip(flatten(identity), everything(*seen.values()), strict=True))
    fine = {"fine": torch.from_numpy(resize_planes(source.fine, size))} if model.config.source_skip else {}

    drive = DriveGraph(model, rebuild(identity, tensors))
    driven = {"driver": torch.from_numpy(image_array(drivers[0].image)), **tensors, **fine, **measured}
    picture = ("image", "alpha") if model.config.predict_matte else ("image",)
    proto = trace(drive, driven, (*picture, *(f"rendered_{name}" for name in POSE_INPUTS)), options.volumes)
    # Keep what the frame graph reads, and the source's pose, which callers need for pasting back.
    read = used_inputs(proto)
    kept = [name for name in tensors if name in read or name.startswith("motion.pose.")]
    drop_unused_inputs(proto)
    encode = EncodeGraph(model, kept)
    encode_proto = trace(encode, seen, kept, options.volumes)

    frame = GraphInfo(
        "base-drive",
        size,
        pose=options.pose.value,
        matte=model.config.predict_matte,
        model=model.config.model_dump_json(),
        version=__version__,
    )
    once = replace(frame, kind="base-encode", image_size=model.config.image_size)
    report = ExportReport(out)
    write_precisions(
        report, "encode", encode_proto, once, encode, [_case(seen)], with_weights, overwrite=options.overwrite
    )
    heads = [{"driver": torch.from_numpy(image_array(crop.image)), **_measured(model, crop, given)} for crop in drivers]
    cases = [_case({**driven, **head}) for head in heads]
    write_precisions(
        report,
        "drive",
        proto,
        frame,
        drive,
        cases,
        options.precisions,
        keep_in_int8=KEPT_IN_INT8,
        overwrite=options.overwrite,
    )
    report.save()
    return report


def _picture_size(model: BaseModel, wanted: int) -> int:
    own = model.config.image_size
    if not wanted:
        return 2 * own if model.config.source_skip else own
    if wanted == own or (model.config.source_skip and own < wanted <= 4 * own):
        return wanted
    allowed = f"{own} to {4 * own}" if model.config.source_skip else f"{own}, the model's own"
    raise ExportError(f"size: expected {allowed}, got {wanted}", fix="Leave --size out.")


def _measured(model: BaseModel, crop: HeadCrop, given: tuple[str, ...]) -> dict[str, Tensor]:
    """The pose and blendshapes of a head crop that are among the graphs' inputs."""
    blendshapes = select_blendshapes(crop.blendshapes, model.config.motion.blendshapes)
    arrays = pose_arrays(crop.pose) | {BLENDSHAPES_INPUT: blendshapes[None]}
    return {name: torch.from_numpy(arrays[name]) for name in given}


def _case(inputs: dict[str, Tensor]) -> Case:
    return {name: tensor.numpy() for name, tensor in inputs.items()}
