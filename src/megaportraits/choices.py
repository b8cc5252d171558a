"""Closed sets of values that the library and the command line share. Imports nothing heavy: `--help` needs them."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["float32", "bfloat16"]
"""The precision in which networks run."""
PrecisionChoice = Literal["auto", Precision]
"""A precision, or "auto": bfloat16 where the device has instructions for it."""
EngineName = Literal["local", "ray"]
"""How many items are processed at once: in processes of this machine, or with Ray."""

MattingName = Literal["selfie", "modnet"]
"""The matting networks; see `faces.matting`."""
InpaintingName = Literal["smooth", "lama"]
"""The methods that fill the background behind people; see `faces.inpainting`."""

RuntimeName = Literal["onnxruntime", "openvino"]
"""Programs that run exported graphs."""
RUNTIMES: tuple[RuntimeName, ...] = get_args(RuntimeName)
RuntimeChoice = Literal["auto", "torch", RuntimeName]
"""What runs the networks of `live`; "auto": the fastest on this machine."""
LivePrecision = Literal["auto", Precision, "int8"]
"""The precision of the networks of `live`; int8 needs an exported graph."""
SmallPrecision = Literal["float16", "int8"]
"""Precisions in which an exported graph is written in addition to float32."""
GraphPrecision = Literal["float32", SmallPrecision]
"""Precisions of exported graphs."""
Volumes = Literal["gathers", "grid-sample"]
"""How exported graphs sample volumes: with Gather (every runtime), or with GridSample (opset 20; not OpenVINO)."""

Dataset = Literal["plain", "voxceleb2", "celebvhq", "ffhq", "grid"]
"""Collections whose layout `prepare` knows; plain: files in folders."""
StillCrop = Literal["head", "inside"]
"""The crop of a still in `prepare`: "head" repeats the border beyond the image, "inside" stays inside the image."""
ImageFormat = Literal["jpg", "webp"]
"""The format of the frames in shards."""
ChildPolicy = Literal["face", "keep", "drop"]
"""What `prepare` does with people of unknown age: decide by their faces, keep them, or drop them."""
EyeLabel = Literal["gaze", "blink"]
"""What `gaze-teacher` labels."""

ProtocolName = Literal["self", "cross", "hr", "student"]
"""Evaluation protocols; see docs/evaluation.md."""
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)
TransferName = Literal["protocol", "absolute", "relative"]
"""The motion that `evaluate` gives to trained baselines: the driver's ("absolute"); the source's, changed as the driver
differs from its first frame ("relative"); or ("protocol") absolute for `self` and relative for the others."""
