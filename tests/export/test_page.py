from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from megaportraits import weights
from megaportraits.errors import ConfigError, MediaError, WeightsError
from megaportraits.export.page import (
    CDN,
    PACKAGE,
    SCRIPTS,
    VERSION,
    PageExport,
    export_page_model,
    find_scripts,
    integrity,
)
from megaportraits.faces.canonical import canonical_mesh
from megaportraits.models.student import Student
from megaportraits.ops.geometry import HEAD_CENTER, HEAD_CROP_CM
from megaportraits.runtimes import open_graph
from megaportraits.runtimes.arrays import image_array
from tests.export.conftest import heads

PLAIN = {"index.html", "style.css", "page.js", "runtime.js", "follower.js", "geometry.js", "avatars.json"}
NETWORKS = {"student.onnx", "face_detector.onnx", "face_landmarks.onnx"}
PAPERS = {"NOTICE.txt", "LICENSE.txt"}


@pytest.fixture(scope="module")
def page(student: Student, face_landmarker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    export_page_model(student, out, PageExport(), heads(2, 64))
    return out


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the unpacked npm package: its files' names, other bytes."""
    folder = tmp_path_factory.mktemp("npm") / "package"
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": PACKAGE, "version": VERSION}))
    for name in (*SCRIPTS, "ort.all.js"):
        (folder / "dist" / name).write_text(name)
    return folder


@pytest.fixture(scope="module")
def bo_offline(
    student: Student, package: Path, face_landmarker: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A page of one avatar with scripts of its own, written over a folder that was in use."""
    out = tmp_path_factory.mktemp("bo")
    (out / "style.css").write_text("mine")
    (out / "other.txt").write_text("mine")
    hashes = {name: integrity((package / "dist" / name).read_bytes()) for name in SCRIPTS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("megaportraits.export.page.SCRIPTS", hashes)
        export_page_model(student, out, PageExport(avatar="bo", scripts=str(package), overwrite=True), heads(2, 64))
    return out


def test_the_folder_holds_everything_that_the_page_names(page: Path) -> None:
    assert {path.name for path in page.iterdir()} == PLAIN | NETWORKS | PAPERS
    html = (page / "index.html").read_text()
    named = set(re.findall(r'(?:src|href)="([\w.]+)"', html))
    named |= {
        name
        for script in page.glob("*.js")
        for name in re.findall(r'(?:from|fetch\() ?"(?:\./)?(\S+?)"', script.read_text())
    }
    assert named == PLAIN - {"index.html"} | {"NOTICE.txt"}
    ids = set(re.findall(r'id="([\w-]+)"', html))
    asked = set(re.findall(r'\$\("([\w-]+)"\)', (page / "page.js").read_text()))
    assert asked and asked <= ids
    labelled = re.findall(r"<label[^>]*>.*?</label>", html)
    controls = re.findall(r"<(?:select|input)[^>]*>", html)
    assert sum(len(re.findall(r"<(?:select|input)[^>]*>", label)) for label in labelled) == len(controls) == 7


def test_the_page_may_talk_to_nobody_but_its_own_server_and_that_of_the_scripts(page: Path) -> None:
    policy = dict(
        rule.strip().split(" ", 1)
        for rule in re.findall(r'Security-Policy" content="([^"]+)"', (page / "index.html").read_text())[0].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == f"'self' {CDN}" and f"@{VERSION}/" in CDN
    # Scripts from there run only after their hash was compared, from memory.
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval' blob:"


def test_every_script_has_a_hash_as_browsers_compare_it(page: Path) -> None:
    hashes = json.loads((page / "avatars.json").read_text())["integrity"]
    assert hashes == SCRIPTS
    assert all(len(base64.b64decode(value.removeprefix("sha384-"), validate=True)) == 48 for value in hashes.values())
    # As in the example of the W3C's recommendation "Subresource Integrity".
    assert integrity(b"alert('Hello, world.');") == (
        "sha384-H8BRh8j48O9oYatfu5AZzq6A9RINhZO5H16dQZngK7T62em8MUt1FLm52t+eX6xO"
    )


def test_avatars_json_says_what_python_and_the_graphs_say(page: Path, student: Student) -> None:
    told = json.loads((page / "avatars.json").read_text())
    assert told["avatars"] == ["ada", "bo", "cy"] and told["scripts"] == CDN
    assert told["crop"] == {"cm": HEAD_CROP_CM, "center": list(HEAD_CENTER)} == {"cm": 32, "center": [0, 1, 0]}
    mesh = canonical_mesh()
    assert np.allclose(told["mesh"]["vertices"], mesh.vertices[told["mesh"]["points"]], atol=1e-6)
    assert told["mesh"]["weights"] == mesh.rigid_weights.tolist()
    for network in told["faces"].values():
        (value,) = onnxruntime.InferenceSession(page / network["file"]).get_inputs()
        assert value.shape == [1, 3, network["size"], network["size"]]
    graph = open_graph(page / told["student"]["file"])
    size = told["student"]["input_size"]
    assert graph.inputs == {"driver": (1, 3, size, size), "avatar": (1,)} and told["student"]["indexed"]
    assert graph.info.image_size == told["student"]["image_size"] == student.config.image_size
    assert ("alpha" in graph.outputs) == told["student"]["matte"] == student.config.predict_matte


def test_the_student_in_the_folder_equals_torch(page: Path, student: Student) -> None:
    graph = open_graph(page / "student.onnx")
    driver = image_array(heads(1, 64, seed=7)[0].image)
    for index in range(3):
        got = graph({"driver": driver, "avatar": np.array([index])})
        output = student(torch.from_numpy(driver), torch.tensor([index]))
        # Weights are rounded to half precision.
        assert np.abs(got["image"] - output.image.numpy()).max() < 5e-3
        assert np.abs(got["alpha"] - output.alpha.numpy()).max() < 5e-3


def test_every_weight_of_size_is_stored_in_half_precision(page: Path) -> None:
    import onnx

    large = [t for t in onnx.load(page / "student.onnx").graph.initializer if len(t.raw_data) > 2000]
    assert large and {t.data_type for t in large} == {onnx.TensorProto.FLOAT16}


def test_one_avatar_alone_needs_no_index(bo_offline: Path) -> None:
    told = json.loads((bo_offline / "avatars.json").read_text())
    assert told["avatars"] == ["bo"] and not told["student"]["indexed"]
    assert list(open_graph(bo_offline / "student.onnx").inputs) == ["driver"]


def test_nothing_is_overwritten_unasked(student: Student, tmp_path: Path, page: Path, bo_offline: Path) -> None:
    (tmp_path / "style.css").write_text("mine")
    with pytest.raises(MediaError, match=r"style\.css: the file exists already"):
        export_page_model(student, tmp_path, PageExport(), heads(2, 64))
    assert [path.name for path in tmp_path.iterdir()] == ["style.css"]
    assert (bo_offline / "style.css").read_bytes() == (page / "style.css").read_bytes()
    assert (bo_offline / "other.txt").read_text() == "mine"


def test_scripts_of_a_folder_are_copied_and_the_page_then_asks_nobody_else(bo_offline: Path) -> None:
    assert {path.name for path in (bo_offline / "scripts").iterdir()} == set(SCRIPTS)
    assert json.loads((bo_offline / "avatars.json").read_text())["scripts"] == "scripts/"
    assert "//" not in (bo_offline / "index.html").read_text()
    assert "in scripts" in (bo_offline / "NOTICE.txt").read_text()


def test_scripts_that_are_not_the_pinned_package_are_refused(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "package.json").write_text(json.dumps({"name": PACKAGE, "version": "1.0.0"}))
    with pytest.raises(WeightsError, match=rf"expected {PACKAGE} {VERSION}.*got {PACKAGE} 1\.0\.0"):
        find_scripts(str(package))
    for text, message in (("[1]", "expected a JSON object"), ("{", "not valid JSON")):
        (package / "package.json").write_text(text)
        with pytest.raises(WeightsError, match=message):
            find_scripts(str(package))
    with pytest.raises(ConfigError, match="an address or a folder"):
        find_scripts(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="a plain address"):
        find_scripts("https://example.org/'; script-src *")
    assert find_scripts("https://example.org/ort")[0] == "https://example.org/ort/"


def test_a_script_of_the_right_package_with_other_bytes_is_refused(package: Path) -> None:
    with pytest.raises(WeightsError, match=r"ort\.wasm\.min\.mjs is not the file of .*another hash"):
        find_scripts(str(package))


def test_the_notice_says_whose_networks_they_are(page: Path) -> None:
    notice, entry = (page / "NOTICE.txt").read_text(), weights.lookup("face_landmarker")
    assert entry.licence in notice and str(entry.sha256) in notice and "face_detector.onnx" in notice
    ours = Path(__file__).parents[2] / "LICENSE"
    assert (page / "LICENSE.txt").read_bytes() == ours.read_bytes()
