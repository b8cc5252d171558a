"""`distill`, `student add`, `student report` and `student info` as a user runs them, with tiny networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import typer
import yaml
from typer.testing import CliRunner

from megaportraits.commands.distill import Distillation, wait_for_samples
from megaportraits.commands.reenactment import reenact
from megaportraits.commands.student import distill, student_app
from megaportraits.config import ModelConfig, TrainStudentConfig, parse_config
from megaportraits.errors import ConfigError, DataError, MediaError, TrainingError, WeightsError
from megaportraits.media import read_image, write_image
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import load_student, save_base
from megaportraits.models.student import resized
from megaportraits.nn.weights_file import read_notes
from megaportraits.pipeline.distillation import mark_complete
from tests.conftest import TINY_STUDENT

SETTINGS = {
    "model": TINY_STUDENT,
    "discriminator": {"widths": [4, 6], "strides": [2, 2], "scales": 4},
    "data": {"workers": 0},
    "loss": {"perceptual": 0, "face": 0, "gaze": 0, "reconstruction": 1, "matte": 1},
    "optim": {"steps": 2, "batch_size": 2},
    "run": {"accelerator": "cpu", "tensorboard": False},
}

app = typer.Typer()
app.command()(distill)
student_app.command("reenact")(reenact)
app.add_typer(student_app, name="student")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two avatars, one more photograph, a tiny teacher and a config."""
    folder = tmp_path_factory.mktemp("studio")
    (folder / "avatars").mkdir()
    portrait = np.ascontiguousarray(skimage.data.astronaut()[:300, 80:380])
    write_image(folder / "avatars/eileen.png", portrait)
    write_image(folder / "avatars/mirrored.png", np.ascontiguousarray(portrait[:, ::-1]))
    write_image(folder / "grey.png", np.repeat(portrait.mean(2, keepdims=True).astype(np.uint8), 3, 2))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SETTINGS))
    return folder


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_from_photographs_to_a_student_and_one_more(
    studio: Path, clips: Path, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save_base(tmp_path / "teacher.safetensors", BaseModel(tiny_config))
    teacher = ("--teacher", tmp_path / "teacher.safetensors", "--drivers", clips, "--device", "cpu", "--frames", 8)
    common = (*teacher, "--config", studio / "tiny.yaml")
    made = tmp_path / "s.safetensors"
    # With a worker, which is forked: after the teacher's networks have run, it would wait for their threads for ever.
    shared = ("--teachers", 2, "--teacher-batch", 3, "--set", "data.workers=1")
    run("distill", "--avatars", studio / "avatars", "-o", made, *common, *shared)
    student = load_student(made)
    assert student.avatars == ("eileen", "mirrored")
    notes = read_notes(made)
    assert notes["teacher"] == "teacher.safetensors" and len(notes["teacher_sha256"]) == 64 and notes["steps"] == "2"

    with pytest.raises(MediaError, match="exists already"):
        run("distill", "--avatars", studio / "avatars", "-o", made, *common)
    with pytest.raises(TrainingError, match="already holds a run"):
        other = tmp_path / "other.safetensors"
        run("distill", "--avatars", studio / "avatars", "-o", other, "--run", tmp_path / "s-run", *common)
    run("distill", "--avatars", studio / "avatars", "-o", made, "--resume", *common)
    resumed = load_student(made).state_dict()
    assert all(torch.equal(value, resumed[key]) for key, value in student.state_dict().items())
    before = made.read_bytes()

    larger, still = tmp_path / "larger.safetensors", ("optim.learning_rate=0", "optim.final_learning_rate=0")
    sets = [word for value in (*still, "optim.steps=1", "model.image_size=128") for word in ("--set", value)]
    run("distill", "--avatars", studio / "avatars", "-o", larger, "--init", made, *common, *sets)
    wanted = resized(student, 128).state_dict()
    assert all(torch.equal(wanted[key], value) for key, value in load_student(larger).state_dict().items())
    with pytest.raises(ConfigError, match=r"\(its -> the config's\): encoder_skips: True -> False\n"):
        other = ("--set", "model.encoder_skips=false", "-o", tmp_path / "o.safetensors")
        run("distill", "--avatars", studio / "avatars", "--init", made, *common, *other)
    with pytest.raises(ConfigError, match="the photographs are eileen, mirrored"):
        run("distill", "--avatars", studio / "avatars", "--init", "nano", *common, *other[2:])
    assert not (tmp_path / "o-run").exists(), "refused before the teacher works"

    grown = tmp_path / "grown.safetensors"
    run("student", "add", made, studio / "grey.png", "--name", "grey", "-o", grown, *common)
    after, driver = load_student(grown), torch.rand(1, 3, 64, 64)
    assert after.avatars == ("eileen", "mirrored", "grey") and made.read_bytes() == before
    for index in (torch.tensor([0]), torch.tensor([1])):
        assert torch.equal(student(driver, index).image, after(driver, index).image)
    with pytest.raises(WeightsError, match="has an avatar 'eileen' already"):
        again = tmp_path / "again.safetensors"
        run("student", "add", made, studio / "avatars/eileen.png", "-o", again, *common)
    with pytest.raises(MediaError, match="replace its own input"):
        run("student", "add", made, studio / "grey.png", "-o", made, "--resume", *common)

    said = run("student", "info", grown)
    assert "64 px in, 64 px out" in said and "2  grey" in said
    run("student", "report", made, "--run", tmp_path / "s-run", "--out", tmp_path / "report", *teacher[:2])
    assert "| eileen |" in (tmp_path / "report/report.md").read_text()


def test_resume_replaces_no_file_where_there_is_no_run_to_go_on_with(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"precious")
    job = Distillation([tmp_path], "nano", tmp_path / "mine.safetensors", tmp_path / "run", resume=True)
    with pytest.raises(MediaError, match="exists already"):
        job.check()
    (tmp_path / "run/distillation").mkdir(parents=True)
    job.check()  # the student of the run that goes on


def test_samples_of_an_older_version_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "run/lessons").mkdir(parents=True)
    job = Distillation([tmp_path], "nano", tmp_path / "s.safetensors", tmp_path / "run", resume=True)
    with pytest.raises(TrainingError, match=r"version 0\.9 or older"):
        job.check()
    assert (tmp_path / "run/lessons").is_dir()


def test_other_processes_of_torchrun_wait_for_the_samples_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Distillation([tmp_path], "nano", tmp_path / "s.safetensors", tmp_path / "run")
    slept: list[float] = []

    def first_process_works(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            job.samples.mkdir(parents=True)
            mark_complete(job.samples)

    monkeypatch.setattr("megaportraits.commands.torchrun.time.sleep", first_process_works)
    assert wait_for_samples(job) == {} and len(slept) == 2


@pytest.mark.parametrize("command", ["distill", "add"])
def test_a_resumed_run_keeps_its_own_config_but_for_what_is_set(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    record = parse_config(TrainStudentConfig, SETTINGS, "test").model_dump(mode="json")
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(record))
    seen: list[TrainStudentConfig] = []
    monkeypatch.setattr(f"megaportraits.commands.distill.{command}", lambda *words: seen.append(words[-1]))
    line = {"distill": ["distill", "--avatars", tmp_path], "add": ["student", "add", tmp_path, tmp_path]}[command]
    more = ["--drivers", tmp_path, "-o", tmp_path / "s.safetensors", "--run", tmp_path / "run"]
    said = CliRunner().invoke(app, list(map(str, [*line, *more, "--resume", "--set", "run.seed=5"])))
    assert said.exit_code == 130, said.output  # stopped, as far as the command knows
    assert seen[0].model_dump(mode="json") == {**record, "run": {**record["run"], "seed": 5}}


def test_a_student_and_its_teacher_are_measured_on_test_videos_of_its_own_people(
    studio: Path, clips: Path, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save_base(tmp_path / "teacher.safetensors", BaseModel(tiny_config))
    (tmp_path / "test").mkdir()
    driver = Path(__file__).parents[2] / "src/megaportraits/assets/demo/driver.mp4"
    (tmp_path / "test/ann.mp4").write_bytes(driver.read_bytes())
    line = ("student", "reenact", "--clips", tmp_path / "test", "--drivers", clips, "--out", tmp_path / "out")
    line += ("--avatars", 1, "--test-frames", 2, "--teacher", tmp_path / "teacher.safetensors", "--frames", 8)
    line += ("--config", studio / "tiny.yaml", "--device", "cpu")
    told = run(*line)
    assert "| student |" in told and "19.25, 0.682" in told
    assert load_student(tmp_path / "out/student.safetensors").avatars == ("ann",)
    report = json.loads((tmp_path / "out/report/report.json").read_text())
    assert list(report["methods"]) == ["true crops", "teacher", "student"] and report["pairs"][0]["name"] == "self/ann"
    assert report["metrics"]["student"]["self/psnr"]["mean"] > 0
    assert read_image(tmp_path / "out/figure17.png").shape[1] == 5 * 192
    with pytest.raises(MediaError, match="exists already"):
        run(*line)
    before = (tmp_path / "out/reenactment.md").read_bytes()
    run(*line, "--resume")
    assert (tmp_path / "out/reenactment.md").read_bytes() == before
    with pytest.raises(DataError, match="is a test clip"):
        run(*line[:5], tmp_path / "test", *line[6:7], tmp_path / "other", *line[8:])
