from __future__ import annotations

from pathlib import Path

import pytest
import torch

from megaportraits.baselines.storage import make_baseline, save_baseline
from megaportraits.commands import evaluation
from megaportraits.commands.pairs import pairs
from megaportraits.config import FommConfig, StudentConfig, parse_config
from megaportraits.errors import ConfigError, DataError, WeightsError
from megaportraits.evaluation.methods.students import StudentMethod
from megaportraits.evaluation.methods.trained import BaselineMethod
from megaportraits.evaluation.pairs import read_manifest
from megaportraits.faces.matting import Matting
from megaportraits.models.storage import save_student
from megaportraits.models.student import Student
from tests.conftest import TINY_FOMM, TINY_STUDENT

DRIVER = Path(__file__).parents[2] / "src/megaportraits/assets/demo/driver.mp4"


@pytest.fixture(scope="module")
def matting() -> Matting:
    return Matting()


@pytest.fixture
def student(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = Student(parse_config(StudentConfig, TINY_STUDENT, "tiny"), ["driver"])
    save_student(tmp_path / "ann.safetensors", model)
    return tmp_path / "ann.safetensors"


def test_a_manifest_and_a_reports_pairs_are_the_same(tmp_path: Path) -> None:
    pairs(output=f"{tmp_path}/pairs.csv", clips=[DRIVER], protocol=["self"], frames=4)
    (pair,) = read_manifest(tmp_path / "pairs.csv")
    assert (pair.key, pair.protocol, pair.driver.resolve(), pair.frames) == ("driver", "self", DRIVER.resolve(), 4)
    text = (tmp_path / "pairs.csv").read_text()
    pairs(output=f"{tmp_path}/again.csv", clips=[DRIVER], protocol=["self"], frames=4)
    assert (tmp_path / "again.csv").read_text() == text


def test_weights_are_named_after_themselves_or_as_asked(student: Path, matting: Matting) -> None:
    named, _ = evaluation.model_method("nano", "landmarks", "cpu", matting)
    assert named.name == "nano" and len(named.settings["sha256"]) == 64
    other, size = evaluation.model_method(f"mine={student}", "landmarks", "cpu", matting)
    assert isinstance(other, StudentMethod) and other.name == "mine" and size == 64
    assert evaluation.model_method(str(student), "landmarks", "cpu", matting)[0].name == "ann"
    with pytest.raises(WeightsError, match="does not exist"):
        evaluation.model_method("x=none.safetensors", "landmarks", "cpu", matting)
    student.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="not a file of weights"):
        evaluation.model_method(str(student), "landmarks", "cpu", matting)


def test_a_trained_baseline_is_recognised_by_its_file(tmp_path: Path, matting: Matting) -> None:
    config = parse_config(FommConfig, TINY_FOMM, "tiny")
    path = tmp_path / "run/baseline.safetensors"
    path.parent.mkdir()
    save_baseline(path, make_baseline(config), config, notes={})
    method, size = evaluation.model_method(str(path), "landmarks", "cpu", matting, transfer="absolute")
    assert isinstance(method, BaselineMethod) and (method.name, size) == ("run", 32)
    assert method.settings["transfer"] == "absolute" and method.settings["weights"] == "baseline.safetensors"


def test_a_student_is_measured_against_its_teacher(student: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pairs(output=f"{tmp_path}/pairs.csv", clips=[DRIVER], protocol=["self"], frames=2)
    manifest = tmp_path / "pairs.csv"
    manifest.write_text(manifest.read_text().replace(",self,", ",student,"))
    evaluation.evaluate(
        out=out, manifest=manifest, weights=[f"s={student}"], teacher=f"t={student}", baselines=False, device="cpu"
    )
    assert "Against the teacher's pictures" in (out / "report.md").read_text()
    assert (out / "results" / "s" / "student" / "driver.mp4").is_file()
    with pytest.raises(DataError, match="teacher"):
        evaluation.evaluate(
            out=out, manifest=manifest, weights=[f"s={student}"], baselines=False, device="cpu", overwrite=True
        )


def test_invalid_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got none"):
        evaluation.evaluate(out=tmp_path / "out")
    with pytest.raises(ConfigError, match="NAME=FOLDER"):
        evaluation._videos("folder")
    assert not list(tmp_path.iterdir())
