from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from megaportraits.errors import DataError, FaceError
from megaportraits.evaluation.methods.base import AlignedCopy, VideoFolder
from megaportraits.evaluation.metrics.metric_networks import MetricNetworks
from megaportraits.evaluation.pairs import Pair
from megaportraits.evaluation.plan import export_sample, find_media, make_pairs
from megaportraits.evaluation.report.write import write_report
from megaportraits.evaluation.run import Evaluation
from megaportraits.evaluation.samples import EvaluationSample
from megaportraits.faces import FaceAnalyzer
from megaportraits.media import VideoReader, VideoWriter, read_image, write_image
from tests.evaluation.conftest import SIZE


class Counting(AlignedCopy):
    """The aligned copy under another name, which counts its work and fails where it is told to."""

    name = "counting"
    settings: Mapping[str, str] = {"weights": "1"}

    def __init__(self, fails: str = "") -> None:
        self.done: list[str] = []
        self.fails = fails

    def perform(self, sample: EvaluationSample, /) -> Iterator[np.ndarray]:
        self.done.append(sample.pair.name)
        if sample.pair.key == self.fails:
            raise FaceError("turned away: yaw 80")
        yield from super().perform(sample)


@pytest.fixture(scope="module")
def evaluation(networks: MetricNetworks, analyzer: FaceAnalyzer) -> Callable[..., Evaluation]:
    """Evaluations that share the loaded networks."""
    return partial(Evaluation, make_analyzer=lambda **_: analyzer, networks=networks)


@pytest.fixture(scope="module")
def pairs(pair: Pair, empty_room: Path) -> list[Pair]:
    few = replace(pair, frames=3)
    return [few, replace(few, key="b", protocol="cross"), replace(few, key="wall", driver=empty_room)]


@pytest.fixture(scope="module")
def finished(
    evaluation: Callable[..., Evaluation], pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Counting]:
    out, method = tmp_path_factory.mktemp("report"), Counting()
    told: list[tuple[int, int | None]] = []
    report = evaluation([method], pairs, out, SIZE).run(lambda done, total: told.append((done, total)))
    assert told[-1] == (12, 12)
    write_report(report, out)
    return out, method


def test_a_report_names_every_number_and_every_pair_that_failed(finished: tuple[Path, Counting]) -> None:
    out, _ = finished
    content = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert list(content["methods"]) == ["true crops", "counting"]
    assert [p["name"] for p in content["pairs"]] == ["self/talking", "cross/b", "self/wall"]
    assert "none" in content["pairs"][2]["failed"][""]
    metrics = content["metrics"]["counting"]
    assert metrics["self/psnr_masked"]["pairs"] == 1 and metrics["self/psnr_masked"]["low"] is None
    assert metrics["self/psnr_mouth"]["mean"] == content["pairs"][0]["methods"]["counting"]["metrics"]["psnr_mouth"]
    assert "cross/psnr" not in metrics and "cross/csim_sface" in metrics
    assert any(re.fullmatch(r"cross/f[id].*", name) for name in metrics)
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "self/wall" in text and "| talking, counting |" in text and "(raw / masked)" in text
    assert read_image(out / "contact-self.png").shape[2] == 3
    told = [name for name in ("self", "cross") if (out / f"worst-{name}-counting.png").exists()]
    assert told and all(f"(worst-{name}-counting.png)" in text for name in told)


def test_the_page_needs_nothing_beside_it(finished: tuple[Path, Counting]) -> None:
    page = (finished[0] / "report.html").read_text(encoding="utf-8")
    assert page.count("data:video/mp4;base64,") == 2 and page.count("<svg") == 6
    for address in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert address.startswith(("data:", "#")), address[:80]
    assert "<table>" in page and "counting" in page


def test_a_finished_evaluation_is_not_done_again_and_gives_the_same_bytes(
    evaluation: Callable[..., Evaluation], finished: tuple[Path, Counting], pairs: list[Pair]
) -> None:
    out, method = finished
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    count = len(method.done)
    write_report(evaluation([method], pairs, out, SIZE).run(), out, overwrite=True)
    assert len(method.done) == count
    for name, content in before.items():
        assert (out / name).read_bytes() == content, name


def test_what_a_result_depends_on_makes_it_be_measured_again(
    evaluation: Callable[..., Evaluation], finished: tuple[Path, Counting], pairs: list[Pair], tmp_path: Path
) -> None:
    import shutil

    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    other = Counting()
    other.settings = {"weights": "2"}
    (out / "results" / "counting" / "cross" / "b.npz").write_bytes(b"torn")
    evaluation([other], pairs[:2], out, SIZE).run()
    assert other.done == ["self/talking", "cross/b"]


def test_a_system_that_cannot_do_a_pair_is_named_and_the_others_go_on(
    evaluation: Callable[..., Evaluation], pairs: list[Pair], tmp_path: Path
) -> None:
    report = evaluation([Counting(fails="talking"), AlignedCopy()], pairs[:1], tmp_path, SIZE).run()
    assert report.failures() == [("self/talking", "counting", "turned away: yaw 80")]
    assert report.estimate("self", "aligned copy", "psnr").pairs == 1
    assert np.isnan(report.estimate("self", "counting", "psnr").value)


def test_another_systems_videos_are_judged_like_ours(
    evaluation: Callable[..., Evaluation], finished: tuple[Path, Counting], pairs: list[Pair], tmp_path: Path
) -> None:
    """The copy's own videos, given back as a folder, lose what the codec took (crf 17) and nothing else."""
    theirs = VideoFolder("theirs", finished[0] / "results" / "counting")
    report = evaluation([Counting(), theirs], pairs[:1], tmp_path / "out", SIZE).run()
    mine, other = (report.estimate("self", name, "psnr_face").value for name in ("counting", "theirs"))
    assert mine - 4 < other < mine
    folder = tmp_path / "short"
    folder.mkdir()
    with VideoWriter(folder / "talking.mp4") as writer:
        writer.write(np.zeros((SIZE, SIZE, 3), np.uint8))
    report = evaluation([VideoFolder("short", folder)], pairs[:1], tmp_path / "out2", SIZE).run()
    assert "expected 3 frames, one for each driver frame, got 1" in report.failures()[0][2]
    with pytest.raises(DataError, match="folder"):
        VideoFolder("none", tmp_path / "none")


def test_a_student_is_judged_by_its_teachers_pictures(
    evaluation: Callable[..., Evaluation], pairs: list[Pair], tmp_path: Path
) -> None:
    pair = replace(pairs[0], protocol="student")
    report = evaluation([Counting()], [pair], tmp_path, SIZE, teacher=AlignedCopy()).run()
    assert report.rows[0].results["counting"].metrics["psnr"] == np.inf
    with pytest.raises(DataError, match="teacher"):
        evaluation([Counting()], [pair], tmp_path, SIZE).run()
    with pytest.raises(DataError, match="different names"):
        evaluation([Counting(), Counting()], pairs, tmp_path, SIZE).run()


def test_pairs_from_folders_are_always_the_same(talking: Path, empty_room: Path, analyzer: FaceAnalyzer) -> None:
    told: list[Path] = []
    files = find_media([empty_room, talking], videos=True)
    made = [
        make_pairs("self", files, [], analyzer, frames=5, limit=9, skipped=lambda path, why: told.append(path))
        for _ in range(2)
    ]
    assert made[0] == made[1] and [pair.key for pair in made[0]] == [talking.stem]
    assert told == [empty_room] * 2
    with pytest.raises(DataError, match="two stills"):
        make_pairs("hr", [], [], analyzer, frames=5, limit=9)


def test_stills_are_sources_and_clips_are_drivers(talking: Path, analyzer: FaceAnalyzer, tmp_path: Path) -> None:
    import skimage.data

    for name in ("b", "a"):
        write_image(tmp_path / f"{name}.png", skimage.data.astronaut())
    (tmp_path / "notes.txt").write_text("no picture")
    stills = find_media([tmp_path], videos=False)
    assert [path.name for path in stills] == ["a.png", "b.png"]
    found = make_pairs("cross", [talking], stills, analyzer, frames=5, limit=9)
    assert [(p.key, p.source_frame, p.driver) for p in found] == [
        (f"{name}-{talking.stem}", None, talking) for name in ("a", "b")
    ]
    crossed = make_pairs("hr", [], stills, analyzer, frames=5, limit=9)
    assert [p.key for p in crossed] == ["a-b", "b-a"]


def test_exported_inputs_have_a_frame_for_every_driver(short: EvaluationSample, tmp_path: Path) -> None:
    export_sample(short, tmp_path)
    folder = tmp_path / "self"
    assert read_image(folder / "talking.source.png").shape == short.photo.shape
    np.testing.assert_array_equal(read_image(folder / "talking.crop.png"), short.source)
    frames = [frame.image for frame in VideoReader(folder / "talking.driver.mp4")]
    assert len(frames) == 3 and frames[0].shape == short.frames[0].square.shape
