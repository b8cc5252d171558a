"""Export a student as a static web page on which a webcam drives its avatars. All computation runs in the browser.

The page tracks heads as `pipeline.driver.HeadFollower` does: with the same two networks, as ONNX, and the same geometry
in JavaScript. `avatars.json`, written from the constants in Python, holds the values that both must share.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from megaportraits import __version__, weights
from megaportraits.config.options import convert_options
from megaportraits.errors import ConfigError, WeightsError
from megaportraits.export.calibration import HeadCrop, driver_crops
from megaportraits.export.precision import to_float16
from megaportraits.export.student import StudentExport, export_student_model
from megaportraits.export.tflite import face_graph
from megaportraits.export.write import with_metadata
from megaportraits.faces.blazeface import SHORT_GRIDS, SHORT_SIZE
from megaportraits.faces.canonical import canonical_mesh
from megaportraits.faces.detector import MIN_PRESENCE
from megaportraits.faces.landmarks import LEFT_EYE_OUTER, MESH_COUNT, RIGHT_EYE_OUTER, SIZE
from megaportraits.faces.networks import task_member
from megaportraits.media import check_output
from megaportraits.media.staging import staged_output
from megaportraits.models.storage import load_student
from megaportraits.models.student import Student
from megaportraits.ops.geometry import HEAD_CENTER, HEAD_CROP_CM
from megaportraits.pipeline.demo import demo_driver
from megaportraits.pipeline.driver import Driver
from megaportraits.reading import is_file, is_folder, read_record

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
CDN = f"https://cdn.jsdelivr.net/npm/{PACKAGE}@{VERSION}/dist/"
"""The address from which the page loads onnxruntime-web by default."""
SCRIPTS = {
    "ort.wasm.min.mjs": "sha384-SfFfy/pvthiOsgaw3KX0bV5TfQ6Iq+oY9KutMe4SxIuHH4cl+DCSD4rTsYOoG1tJ",
    "ort-wasm-simd-threaded.mjs": "sha384-XcXA/MtAf0WpB8e023xQH9CM7RIjiugakT7x99DIwpFf7k56BIFFcAPerIF7FDad",
    "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
    "ort.webgpu.min.mjs": "sha384-FPQBMbud8ICuP0Ii+Gr95KWEX9pKHtUC3lacIp0aPI8WYluKvTsEGQ3AE2Ze3QlL",
    "ort-wasm-simd-threaded.asyncify.mjs": "sha384-qViEcCGzsR/m8nlQwIsbYh7afN4thuraqFYDQY6huvmoLVoZq/eYawQ1wrv8nnhA",
    "ort-wasm-simd-threaded.asyncify.wasm": "sha384-EPVDLTxuO663dkZO/pcKJF6vOyyfq/5z9FY1oksN0UWFX2ABH4wDDZQHeNoUleWR",
}
"""The files of onnxruntime-web that the page loads (the first three, or with WebGPU the others), with their hashes for
Subresource Integrity: the browser refuses a file with another hash."""
PAGE_FILES = ("index.html", "style.css", "page.js", "runtime.js", "follower.js", "geometry.js", "LICENSE.txt")
_FACES = "face_landmarker"
"""Name of the registered weights that hold both face networks."""


@dataclass(frozen=True)
class PageExport:
    """Options of `export_page`.

    Attributes:
        avatar: name of the only avatar to include; None includes all.
        scripts: address of the folder with onnxruntime-web's files, or the unpacked npm package, which is copied.
        driver: image or video with a face, on which the graph is compared with torch.
        frames: number of its frames to use.
        overwrite: whether existing files may be replaced.
    """

    avatar: str | None = None
    scripts: str = CDN
    driver: Driver = field(default_factory=demo_driver)
    frames: int = 4
    overwrite: bool = False

    def __post_init__(self) -> None:
        convert_options(self, keep=("driver",))


def export_page(student: Path, out: Path, options: PageExport | None = None) -> list[Path]:
    """Write the page's folder.

    Args:
        student: the file that `megaportraits distill` wrote.
        out: the folder; created if missing.
        options: see `PageExport`.

    Returns:
        The files written, index.html first.

    Raises:
        WeightsError: no such student or avatar; the face networks cannot be downloaded; `scripts` holds another
            package.
        ConfigError: `scripts` is neither an address nor a folder.
        ExportError: the graph's output differs from torch's.
        MediaError: a file exists, or cannot be read or written.
    """
    options = options or PageExport()
    model = load_student(student)
    plan_page(out, options)
    return export_page_model(model, out, options, driver_crops(options.driver, model.config.input_size, options.frames))


def export_page_model(student: Student, out: Path, options: PageExport, drivers: list[HeadCrop]) -> list[Path]:
    """`export_page` for a model in memory and faces that are already cropped."""
    paths = plan_page(out, options)
    address, copied = find_scripts(options.scripts)
    contents = {name: _static(name) for name in PAGE_FILES}
    contents["index.html"] = contents["index.html"].replace(b"{scripts}", address.encode() if not copied else b"")
    contents["student.onnx"] = _student_bytes(student, options.avatar, drivers)
    contents |= face_networks()
    contents["avatars.json"] = (json.dumps(describe(student, options.avatar, address), indent=1) + "\n").encode()
    contents |= {f"scripts/{path.name}": path.read_bytes() for path in copied}
    contents["NOTICE.txt"] = _notice(copied=bool(copied)).encode()
    for name, path in paths.items():
        with staged_output(path, overwrite=options.overwrite) as part:
            part.write_bytes(contents[name])
    return list(paths.values())


def plan_page(out: Path, options: PageExport) -> dict[str, Path]:
    """The path of every output file, by its name in the folder; checked before the work begins.

    Raises:
        MediaError: a file exists already.
        ConfigError, WeightsError: see `find_scripts`.
    """
    copied = [f"scripts/{path.name}" for path in find_scripts(options.scripts)[1]]
    names = [*PAGE_FILES, "student.onnx", *_FACE_FILES, "avatars.json", "NOTICE.txt", *copied]
    return {name: check_output(out / name, overwrite=options.overwrite) for name in names}


def find_scripts(scripts: str) -> tuple[str, list[Path]]:
    """The address from which the page loads onnxruntime-web, and, if `scripts` is a folder, the files to copy.

    Raises:
        ConfigError: neither an address nor a folder.
        WeightsError: the folder holds another package or version, or one of its files has another hash.
    """
    if re.match(r"https?://", scripts):
        if not re.fullmatch(r"https?://[\w.\-:]+/[\w.\-~@%+/]*", scripts):
            raise ConfigError(f"--scripts: expected a plain address, got {scripts!r}", fix=f"For example {CDN}")
        return scripts.rstrip("/") + "/", []
    get_it = f"Get it with `npm pack {PACKAGE}@{VERSION}`, unpack it, and name its folder `package`."
    folder = Path(scripts)
    if not is_folder(folder, ConfigError):
        raise ConfigError(f"--scripts: expected an address or a folder, got {scripts!r}", fix=get_it)
    about = folder / "package.json"
    told = read_record(about, WeightsError, fix=get_it) if is_file(about, WeightsError) else {}
    found = f"{told.get('name', 'no package')} {told.get('version', '')}".strip()
    paths = [folder / "dist" / name for name in SCRIPTS]
    if found != f"{PACKAGE} {VERSION}" or not all(is_file(path, WeightsError) for path in paths):
        raise WeightsError(f"{folder}: expected {PACKAGE} {VERSION} with its folder dist, got {found:.200}", fix=get_it)
    for path in paths:
        if integrity(path.read_bytes()) != SCRIPTS[path.name]:
            raise WeightsError(f"{path} is not the file of {PACKAGE} {VERSION}: it has another hash", fix=get_it)
    return "scripts/", paths


def integrity(content: bytes) -> str:
    """The hash of a file in the format of HTML's `integrity` attribute."""
    return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()


def describe(student: Student, avatar: str | None, scripts: str) -> dict[str, Any]:
    """The content of `avatars.json`: the student's avatars and sizes, and the constants shared with the page."""
    mesh, config = canonical_mesh(), student.config
    return {
        "format": 1,
        "version": __version__,
        "avatars": list(student.avatars) if avatar is None else [avatar],
        "student": {
            "file": "student.onnx",
            "input_size": config.input_size,
            "image_size": config.image_size,
            "matte": config.predict_matte,
            "indexed": avatar is None,
        },
        "crop": {"cm": HEAD_CROP_CM, "center": list(HEAD_CENTER)},
        "faces": {
            "detector": {"file": "face_detector.onnx", "size": SHORT_SIZE, "grids": SHORT_GRIDS},
            "landmarks": {
                "file": "face_landmarks.onnx",
                "size": SIZE,
                "presence": MIN_PRESENCE,
                "mesh_count": MESH_COUNT,
                "eyes": [RIGHT_EYE_OUTER, LEFT_EYE_OUTER],
            },
        },
        "mesh": {
            "points": mesh.rigid.tolist(),
            "vertices": mesh.vertices[mesh.rigid].round(6).tolist(),
            "weights": mesh.rigid_weights.tolist(),
        },
        "scripts": scripts,
        "integrity": SCRIPTS,
    }


@dataclass(frozen=True)
class _FaceNetwork:
    """A member of `face_landmarker.task`, the names of its outputs, and its input value for black; white is 1."""

    member: str
    outputs: Sequence[str]
    black: float


_FACE_FILES: Mapping[str, _FaceNetwork] = {
    "face_detector.onnx": _FaceNetwork("face_detector.tflite", ("boxes", "scores"), -1.0),
    "face_landmarks.onnx": _FaceNetwork("face_landmarks_detector.tflite", ("landmarks", "presence", "tongue"), 0.0),
}


def face_networks() -> dict[str, bytes]:
    """Both face networks as ONNX files by name. They map `image` (1, 3, S, S) in [0, 1] to MediaPipe's outputs.

    Raises:
        WeightsError: they cannot be downloaded.
    """
    bundle, entry = weights.fetch(_FACES), weights.lookup(_FACES)
    made = {}
    for name, network in _FACE_FILES.items():
        proto = face_graph(task_member(bundle, network.member), network.outputs, low=network.black)
        about = f"{network.member} of {entry.file}, MediaPipe, {entry.licence}; converted to ONNX by MegaPortraits"
        told = {"source": about, "page": entry.page, "sha256": str(entry.sha256)}
        made[name] = with_metadata(to_float16(proto), told).SerializeToString()
    return made


def _student_bytes(student: Student, avatar: str | None, drivers: list[HeadCrop]) -> bytes:
    """The student's graph with float16 weights, which halves the download; it is compared with torch."""
    with tempfile.TemporaryDirectory() as folder:
        options = StudentExport(avatar=avatar, precisions=("float16",))
        export_student_model(student, Path(folder), options, drivers)
        return (Path(folder) / "student-float16.onnx").read_bytes()


def _notice(*, copied: bool) -> str:
    """The notice that lists the authors and licences of the folder's files."""
    entry = weights.lookup(_FACES)
    lines = [
        f"This page was written by MegaPortraits {__version__}; its own files: Apache License 2.0 (LICENSE.txt).",
        "",
        ", ".join(_FACE_FILES),
        f"  Networks of MediaPipe by Google, {entry.licence} (LICENSE.txt), {entry.page}",
        f"  Changed: converted to ONNX, from {entry.file}",
        f"  {entry.url}",
        f"  SHA-256 of that file: {entry.sha256}",
        "",
        f"{PACKAGE} {VERSION}, " + ("in scripts" if copied else "loaded from the address in avatars.json"),
        "  Copyright (c) Microsoft Corporation, MIT licence, https://github.com/microsoft/onnxruntime/blob/main/LICENSE",
        "",
        "student.onnx",
        "  It belongs to the person who trained it, and shows real people: ask them before you publish it.",
    ]
    return "\n".join(lines) + "\n"


def _static(name: str) -> bytes:
    return (files("megaportraits.export") / "static" / name).read_bytes()
