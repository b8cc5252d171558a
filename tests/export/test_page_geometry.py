"""The page's JavaScript gives the results of the Python functions that it repeats; run by node."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from megaportraits.export.page import PAGE_FILES, describe
from megaportraits.faces.blazeface import SHORT_GRIDS, SHORT_SIZE, BlazeFace
from megaportraits.faces.canonical import canonical_mesh
from megaportraits.faces.crop import crop_of_pose, extract
from megaportraits.faces.landmarks import COUNT, region_of
from megaportraits.faces.networks import Region
from megaportraits.faces.pose import FacePose, fit_pose
from megaportraits.faces.tracking import CropTracker, PoseSmoother
from megaportraits.models.student import Student
from megaportraits.ops.geometry import Crop, euler_to_matrix

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")
STATIC = Path(str(files("megaportraits.export"))) / "static"
HEAD = "const head = { cm: 32, center: [0, 1, 0] };"


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's modules where node takes every .js for a module."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "package.json").write_text('{"type": "module"}')
    for name in PAGE_FILES:
        if name.endswith(".js"):
            shutil.copy(STATIC / name, folder)
    return folder


def run(modules: Path, body: str, given: Any) -> Any:
    """What lines of a module, which see geometry.js as `g` and a value as `given`, put into `result`."""
    before = 'import { readFileSync } from "node:fs"; import * as g from "./geometry.js"; let result;'
    before += "const given = JSON.parse(readFileSync(0, 'utf8'));" + HEAD
    (modules / "run.js").write_text(f"{before}\n{body}\nconsole.log(JSON.stringify(result));")
    done = subprocess.run(
        [str(NODE), "run.js"], cwd=modules, input=json.dumps(given), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def as_json(pose: FacePose) -> dict[str, Any]:
    return {"rotation": pose.rotation.tolist(), "pxPerCm": pose.px_per_cm, "origin": pose.origin.tolist()}


def random_landmarks(rng: np.random.Generator, expression: float) -> np.ndarray:
    """The mean face at a random pose, its points trembling."""
    mesh, pose = canonical_mesh().vertices, euler_to_matrix(*rng.normal(size=3) * 20)
    points = np.zeros((COUNT, 3))
    points[: len(mesh)] = (mesh @ pose.T * (1, -1, -1)) * rng.uniform(3, 20) + [*rng.uniform(100, 500, 2), 0]
    return (points + rng.normal(size=points.shape) * expression).astype(np.float32)


@pytest.mark.parametrize("name", [name for name in PAGE_FILES if name.endswith(".js")])
def test_every_script_parses(modules: Path, name: str) -> None:
    done = subprocess.run([str(NODE), "--check", name], cwd=modules, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_poses_and_regions_of_landmarks_equal_pythons(modules: Path, student: Student, face_landmarker: Path) -> None:
    rng = np.random.default_rng(0)
    faces = [random_landmarks(rng, expression) for expression in (0, 0.5, 2, 5, 8)]
    body = """result = given.faces.map((face) => {
      const pose = g.fitPose(face, given.mesh);
      return { pose, crop: g.cropOfPose(pose, head), region: g.regionOfLandmarks(face, given.landmarks) };
    });"""
    settings = describe(student, None, "")
    given = {
        "mesh": settings["mesh"],
        "landmarks": settings["faces"]["landmarks"],
        "faces": [f.tolist() for f in faces],
    }
    for face, got in zip(faces, run(modules, body, given), strict=True):
        pose, region = fit_pose(face), region_of(face)
        assert np.allclose(got["pose"]["rotation"], pose.rotation, atol=1e-5)
        assert np.isclose(got["pose"]["pxPerCm"], pose.px_per_cm, rtol=1e-5)
        assert np.allclose(got["pose"]["origin"], pose.origin, atol=1e-3)
        crop = crop_of_pose(pose)
        assert np.allclose([got["crop"][k] for k in ("x", "y", "side")], [crop.center_x, crop.center_y, crop.side])
        expected = [region.x, region.y, region.side, region.angle]
        assert np.allclose([got["region"][k] for k in ("x", "y", "side", "angle")], expected, atol=1e-6)


def test_detections_equal_pythons(modules: Path) -> None:
    rng = np.random.default_rng(1)
    count = sum(cells * cells * anchors for cells, anchors in SHORT_GRIDS)
    boxes = rng.normal(size=(count, 16)).astype(np.float32) * 8
    boxes[:, 2:4] = rng.uniform(10, 50, (count, 2))
    logits = rng.normal(size=count).astype(np.float32) * 2 - 3
    region = Region(310.0, 250.0, 640.0, 0.3)
    detector = BlazeFace(lambda _: [boxes[None], logits[None, :, None]], SHORT_SIZE, SHORT_GRIDS)  # type: ignore[arg-type]
    expected = detector.detect(np.zeros((480, 640, 3), np.uint8), region)
    body = """result = g.detections(
      Float32Array.from(given.boxes), given.logits, g.anchors(given.grids), given.size, given.region,
    ).map((face) => ({ ...face, region: g.regionOfDetection(face) }));"""
    given = {"boxes": boxes.ravel().tolist(), "logits": logits.tolist(), "grids": SHORT_GRIDS, "size": SHORT_SIZE}
    got = run(modules, body, {**given, "region": vars(region)})
    assert len(got) == len(expected) > 5
    for ours, theirs in zip(got, expected, strict=True):
        assert np.isclose(ours["score"], theirs.score)
        assert np.allclose([ours["x"], ours["y"], ours["side"]], [*theirs.center, theirs.side])
        assert np.allclose(ours["eyes"], theirs.keypoints[:2])
        assert np.allclose(list(ours["region"].values()), list(vars(theirs.region()).values()))


def test_crops_stay_as_calm_as_pythons(modules: Path) -> None:
    """A head that wanders, turns, jumps and is lost for a while: the same smoothed poses and the same crops."""
    rng = np.random.default_rng(2)
    times = np.cumsum(rng.uniform(0.01, 0.06, 150))
    times[70:] += 1.0
    steps = np.cumsum(rng.normal(size=(150, 6)) * (1.5, 1.5, 3, 3, 3, 0.01), axis=0)
    steps[110:, 3] += 400
    poses = [
        FacePose(euler_to_matrix(*s[:3]), float(8 * np.exp(s[5])), np.array([300.0, 200.0]) + s[3:5]) for s in steps
    ]
    body = """const smooth = new g.PoseSmoother(head), tracker = new g.CropTracker(head);
    result = given.poses.map((pose, i) => {
      const calm = smooth.next(pose, given.times[i]);
      return { calm, crop: tracker.next(calm, given.times[i]) };
    });"""
    got = run(modules, body, {"poses": [as_json(pose) for pose in poses], "times": times.tolist()})
    smooth, tracker = PoseSmoother(), CropTracker("follow")
    sides = set()
    for pose, time, ours in zip(poses, times.tolist(), got, strict=True):
        calm = smooth(pose, time)
        crop = tracker.update(calm, time)
        sides.add(crop.side)
        assert np.allclose(ours["calm"]["rotation"], calm.rotation, atol=1e-9)
        assert np.allclose(ours["calm"]["origin"], calm.origin)
        assert np.allclose([ours["crop"][k] for k in ("x", "y", "side")], [crop.center_x, crop.center_y, crop.side])
    assert len(sides) > 20


@pytest.mark.parametrize("side", [70.0, 128.0, 300.0, 700.0])
def test_cut_out_pictures_equal_pythons(modules: Path, side: float) -> None:
    """Head crops with the border repeated, and turned regions with black around, of a picture with detail of 4 px."""
    rng = np.random.default_rng(3)
    noise = cv2.GaussianBlur(rng.random((240, 320, 3)).astype(np.float32), (0, 0), 2)
    image = np.rint(255 * (noise - noise.min()) / (noise.max() - noise.min())).astype(np.uint8)
    rgba = np.dstack([image, np.full((240, 320), 255, np.uint8)])
    body = """const frame = { data: given.data, width: 320, height: 240 }, { x, y, side } = given;
    result = [
      g.sample(frame, { x, y, side, angle: 0 }, 96, { repeat: true, spread: 1.5 }),
      g.sample(frame, { x, y, side, angle: 0.4 }, 96),
    ].map((tensor) => [...tensor]);"""
    x, y = 190.3, 95.7
    got = run(modules, body, {"data": rgba.ravel().tolist(), "x": x, "y": y, "side": side})
    head, turned = (np.array(tensor).reshape(3, 96, 96).transpose(1, 2, 0) * 255 for tensor in got)
    expected = (extract(image, Crop(x, y, side), 96), Region(x, y, side, 0.4).extract(image, 96))
    for ours, theirs in zip((head, turned), expected, strict=True):
        error = np.abs(ours - theirs.astype(np.float64))
        assert float(np.sqrt(np.mean(error**2))) < 3
        assert float(theirs.std()) > 6
