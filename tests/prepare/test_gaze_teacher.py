"""`gaze-teacher`: random frames, their labels, and resumed runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from megaportraits import weights
from megaportraits.cli import app
from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ClipIndex, ShardWriter
from megaportraits.data.frames import FrameDataset
from megaportraits.data.gaze_labels import read_gaze_labels
from megaportraits.errors import DataError, WeightsError
from megaportraits.faces import rt_gene
from megaportraits.faces.rt_gene import gaze_from_rt_gene, head_to_rt_gene
from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.prepare.gaze_teacher import sample_frames
from tests.faces.test_rt_gene import face
from tests.onnx_files import blink_file, gaze_file

pytest.importorskip("onnxruntime")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five clips of four frames with landmarks, and one without."""
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    image, marks = face(0, size=64)
    with ShardWriter(folder / "train", 0) as shard:
        for number in range(6):
            labels = tuple(
                FrameLabels(
                    euler_to_matrix(*rng.uniform(-20, 20, 3)),
                    np.zeros(2),
                    1.0,
                    landmarks=marks if number < 5 else None,
                )
                for _ in range(4)
            )
            frames = [ClipFrame(image, np.full((64, 64), 255, np.uint8), label) for label in labels]
            shard.write(ClipRecord(f"c{number}", "real", f"p{number}", None, 64, 5.0, (), labels), frames)
    return folder


def run(data: Path, output: Path, *more: str) -> tuple[int, str]:
    files = data.parent / "networks"
    gaze, blink = gaze_file(files / "gaze.onnx", factor=0.0), blink_file(files / "blink.onnx", factor=0.0)
    line = ["gaze-teacher", "--data", str(data), "-o", str(output), "--gaze", str(gaze), "--blink", str(blink), *more]
    result = CliRunner().invoke(app, line)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_labels_are_what_the_networks_say_and_training_reads_them(data: Path, tmp_path: Path) -> None:
    code, told = run(data, tmp_path / "eyes.jsonl", "--frames", "7", "--offset", "0")
    assert code == 0 and "7 frames" in told
    labels = read_gaze_labels(tmp_path / "eyes.jsonl")
    assert len(labels) == 7
    index = ClipIndex(data / "train")
    records = {index.record(clip).key: index.record(clip) for clip in range(6)}
    for (key, frame), label in labels.items():
        wanted = gaze_from_rt_gene(head_to_rt_gene(records[key].frames[frame].rotation))
        assert label.gaze == pytest.approx(wanted, abs=1e-2) and label.blink == 0.5
    dataset = FrameDataset(data / "train", length=0, size=32, labels=tmp_path / "eyes.jsonl", landmarks=True)
    assert len(dataset) == 7
    note = json.loads((tmp_path / "eyes.teacher.json").read_text())
    assert note["networks"]["rt_gene"] == [weights.sha256_of(tmp_path / "networks" / "gaze.onnx")]
    assert (note["frames"], note["offset"], note["seed"]) == (7, 0.0, 0)
    assert {path.name for path in tmp_path.glob("eyes*")} == {"eyes.jsonl", "eyes.teacher.json"}


def test_frames_are_random_but_the_same_for_a_seed_and_have_landmarks(data: Path, clips: Path) -> None:
    index = ClipIndex(data / "train")
    one, two = sample_frames(index, 6, 0), sample_frames(index, 6, 1)
    assert one == sample_frames(index, 6, 0) == sorted(one) and one != two and len(set(one)) == 6
    everything = sample_frames(index, 60_000, 0)
    assert len(everything) == 20 and max(clip for clip, _ in everything) == 4
    with pytest.raises(DataError, match="has landmarks"):
        sample_frames(ClipIndex(clips), 5, 0)


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megaportraits.prepare.gaze_teacher._BATCH", 3)
    run(data, tmp_path / "whole.jsonl")
    looked: list[int] = []
    cut = rt_gene.eye_pictures

    def counted(*arguments: object) -> object:
        looked.append(1)
        if len(looked) == 20 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt
        return cut(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rt_gene, "eye_pictures", counted)
    run(data, tmp_path / "cut.jsonl")
    part = tmp_path / "cut.jsonl.part"
    assert part.exists() and not (tmp_path / "cut.jsonl").exists()
    part.write_text(part.read_text() + '{"clip": 4, "fra')  # torn by the kill
    looked.clear()
    assert run(data, tmp_path / "cut.jsonl")[0] == 0
    assert len(looked) < 40 and not part.exists()
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_one_of_the_two_may_be_left_out_and_a_finished_file_stays(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "eyes.jsonl"
    assert run(data, output, "--only", "gaze")[0] == 0
    assert all(np.isnan(label.blink) and np.isfinite(label.gaze).all() for label in read_gaze_labels(output).values())
    before = output.read_bytes()
    with pytest.raises(Exception, match="exists"):
        run(data, output)
    assert output.read_bytes() == before
    assert run(data, output, "--only", "blink", "--overwrite")[0] == 0
    assert all(label.blink == 0.5 and np.isnan(label.gaze).all() for label in read_gaze_labels(output).values())


def test_without_weights_the_message_says_where_they_go(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path / "cache"))
    line = ["gaze-teacher", "--data", str(data), "-o", str(tmp_path / "eyes.jsonl")]
    result = CliRunner().invoke(app, line)
    assert isinstance(result.exception, WeightsError) and "rt_gene.onnx" in str(result.exception.fix)
