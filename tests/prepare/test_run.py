"""Runs of `prepare`: damaged inputs, killed processes, changed settings."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import fsspec
import pytest

from megaportraits.data.clips import ClipIndex
from megaportraits.data.index import INDEX
from megaportraits.data.pairs import PairDataset
from megaportraits.errors import DataError
from megaportraits.media import VideoReader
from megaportraits.prepare import run, store
from megaportraits.prepare.run import PrepareProgress, Summary, prepare
from megaportraits.prepare.settings import ExtractSettings, Thresholds
from megaportraits.prepare.sources import SourceItem, find_items
from tests.prepare.conftest import SMALL
from tests.prepare.damage import KINDS, encode, moving, write_all

LIMITS = Thresholds(drop_iqa=0.0, max_duplicate=2.0, validation_percent=0.0)


def files(out: Path) -> dict[str, bytes]:
    """All files of a prepare folder by name, without the shards' indices, which hold times."""
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in sorted(out.rglob("*"))
        if p.is_file() and p.name not in (".lock", INDEX)
    }


@pytest.fixture(scope="module")
def finished(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    """An undisturbed run over the sound videos."""
    out = tmp_path_factory.mktemp("finished") / "out"
    return out, prepare(find_items([str(videos)]), out, SMALL, LIMITS)


def test_every_kind_of_damage_ends_in_the_report(tmp_path: Path, networks: None) -> None:
    kinds = write_all(tmp_path / "videos", len(KINDS))
    summary = prepare(find_items([str(tmp_path / "videos")]), tmp_path / "out", SMALL, LIMITS)
    failed = {Path(name).stem.rsplit("_", 1)[0] for name, _ in summary.failed}
    empty = {Path(name).stem.rsplit("_", 1)[0] for name in summary.empty}
    clips = {Path(row["name"]).stem.rsplit("_", 1)[0] for row in summary.rows}
    assert failed | empty | clips == set(KINDS) and len(kinds) == summary.items
    for kind, (outcome, _) in KINDS.items():
        if outcome != "any":
            assert {"error": failed, "none": empty, "clips": clips}[outcome] & {kind}, kind
    assert {row["people"] for row in summary.rows if "two_people" in row["name"]} == {2}
    page = (tmp_path / "out/report.html").read_text()
    assert f"Could not be read ({len(summary.failed)})" in page and "the file is empty" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_shards_are_clips_that_training_reads(finished: tuple[Path, Summary]) -> None:
    out, summary = finished
    index = ClipIndex(out / "train")
    assert len(index) == summary.folders["train"] == 6
    assert {index.record(i).identity for i in range(6)} == {row["person"] for row in summary.rows}
    pair = PairDataset(out / "train", length=2, size=32, expression_names=index.record(0).expression_names)[0]
    assert pair.source.image.shape == (3, 32, 32) and not pair.source.readout[:52].isnan().any()


def test_a_second_run_changes_nothing(finished: tuple[Path, Summary]) -> None:
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in [*out.rglob("*.tar"), *(out / "store").rglob("*.json")]}
    prepare([], out, SMALL, LIMITS)
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.posix
def test_links_that_lead_nowhere_are_lines_in_the_report(tmp_path: Path, networks: None) -> None:
    folder = tmp_path / "videos"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.mp4").symlink_to(folder / "b.mp4")
    (folder / "b.mp4").symlink_to(folder / "a.mp4")
    (folder / "gone.mp4").symlink_to(folder / "nothing.mp4")
    (folder / "inner/up").symlink_to(folder)
    summary = prepare(find_items([str(folder)]), tmp_path / "out", SMALL, LIMITS, dry_run=True)
    assert {Path(name).name for name, _ in summary.failed} == {"a.mp4", "b.mp4", "nothing.mp4"}
    assert "a symbolic link that leads to no file" in {Path(n).name: why for n, why in summary.failed}["a.mp4"]


@pytest.mark.posix
def test_a_run_killed_at_any_moment_goes_on_to_the_same_bytes(
    videos: Path, finished: tuple[Path, Summary], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = [sys.executable, "-c", "from megaportraits.cli import main; main()", "prepare", str(videos)]
    line += ["--out", str(out), "--size", "64", "--min-frames", "3", "--min-crop", "0", "--workers", "2"]
    line += ["--drop-iqa", "0", "--max-duplicate", "2", "--val-percent", "0"]
    done = 7
    while done == 7:  # on a busy machine this process may sleep until all are done
        shutil.rmtree(out, ignore_errors=True)
        process = subprocess.Popen(line, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not list((out / "store").glob("??/*.json")):
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done = len(list((out / "store").glob("??/*.json")))
    settings = store.stored_settings(out)
    assert settings == SMALL
    summary = prepare(find_items([str(videos)]), out, settings, LIMITS)
    assert summary.counts == finished[1].counts
    assert files(out) == files(finished[0])


def test_the_order_and_number_of_runs_do_not_matter(
    videos: Path, finished: tuple[Path, Summary], tmp_path: Path
) -> None:
    items = find_items([str(videos)])
    prepare(items[4:], tmp_path, SMALL, LIMITS)
    prepare(items[:5], tmp_path, SMALL, LIMITS)
    assert files(tmp_path) == files(finished[0])


def test_other_thresholds_need_no_decoding(
    finished: tuple[Path, Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[0], tmp_path / "out")
    monkeypatch.setattr(run, "Extractor", None)
    half = Thresholds(drop_iqa=0.5, max_duplicate=2.0, validation_percent=0.0)
    strict = prepare([], tmp_path / "out", SMALL, half)
    assert dict(strict.counts)["found"] == 6 and dict(strict.counts)["split"] == 3
    kept = {row["key"] for row in strict.rows if row["verdict"] == "kept"}
    index = ClipIndex(tmp_path / "out/train")
    assert {index.record(i).key for i in range(len(index))} == kept
    prepare([], tmp_path / "out", SMALL, LIMITS)
    assert files(tmp_path / "out") == files(finished[0])


def test_a_dry_run_counts_and_writes_no_shards(videos: Path, finished: tuple[Path, Summary], tmp_path: Path) -> None:
    told: list[PrepareProgress] = []
    summary = prepare(
        find_items([str(videos / "talk0.mp4")]), tmp_path, SMALL, LIMITS, dry_run=True, on_progress=told.append
    )
    assert dict(summary.counts)["found"] == 1 and summary.files == [] and summary.folders == {}
    assert not (tmp_path / "train").exists() and not (tmp_path / "report.html").exists()
    assert (told[-1].done, told[-1].total, told[-1].clips) == (1, 1, 1)


def test_a_remote_video_is_prepared_like_a_local_one(videos: Path, tmp_path: Path) -> None:
    with fsspec.open("memory://prepare-test/talk0.mp4", "wb") as file:
        file.write((videos / "talk0.mp4").read_bytes())
    far = prepare(find_items(["memory://prepare-test"]), tmp_path / "far", SMALL, LIMITS)
    near = prepare(find_items([str(videos / "talk0.mp4")]), tmp_path / "near", SMALL, LIMITS)
    own = {"key", "item", "name", "address", "person"}
    assert [{k: v for k, v in row.items() if k not in own} for row in far.rows] == [
        {k: v for k, v in row.items() if k not in own} for row in near.rows
    ]


def test_a_clip_of_a_long_video_begins_and_ends_where_it_is_asked(tmp_path: Path, networks: None) -> None:
    path = tmp_path / "long.mp4"
    path.write_bytes(encode(moving(0, 40)))
    summary = prepare([SourceItem(str(path), start=3.0, end=5.0)], tmp_path / "out", SMALL, LIMITS)
    (row,) = summary.rows
    assert (row["start"], row["seconds"], row["frames"]) == (3.0, 2.0, 11)
    note = store.Store(tmp_path / "out").read(row["item"])
    assert note["decoded"] == 11


def test_damaged_streams_decode_the_same_every_time(tmp_path: Path) -> None:
    """With as many threads as the decoder likes they do not, and no two runs would give the same bytes."""
    path = tmp_path / "flipped.mp4"
    path.write_bytes(KINDS["flipped_bytes"][1](51))
    passes = [[(f.pts, f.image.tobytes()) for f in VideoReader(path, threads=1)] for _ in range(4)]
    assert passes[0] and all(other == passes[0] for other in passes[1:])


def test_a_disk_that_fills_up_stops_the_run_and_not_the_video(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    items = find_items([str(videos / "talk0.mp4")])
    with monkeypatch.context() as patch, pytest.raises(DataError, match="No space left"):
        patch.setattr(tarfile.TarFile, "addfile", full)
        prepare(items, tmp_path, SMALL, LIMITS)
    assert prepare(items, tmp_path, SMALL, LIMITS).failed == []


def test_what_failed_is_tried_again_when_asked(tmp_path: Path, videos: Path) -> None:
    late = tmp_path / "late.mp4"
    late.write_bytes(b"not yet")
    out = tmp_path / "out"
    assert len(prepare(find_items([str(late)]), out, SMALL, LIMITS).failed) == 1
    shutil.copy(videos / "talk1.mp4", late)
    assert len(prepare([], out, SMALL, LIMITS).failed) == 1
    assert prepare([], out, SMALL, LIMITS, retry_failed=True).failed == []


def test_foreign_folders_other_settings_and_small_disks_are_refused(
    tmp_path: Path, finished: tuple[Path, Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/diary.txt").write_text("mine")
    item = SourceItem("/nowhere/a.mp4")
    with pytest.raises(DataError, match="not a prepare folder"):
        prepare([item], tmp_path / "full", SMALL, LIMITS)
    with pytest.raises(DataError, match="size 64 there, 128 now"):
        prepare([], finished[0], ExtractSettings(size=128, min_frames=3), LIMITS)
    with pytest.raises(DataError, match="nothing to prepare"):
        prepare([], tmp_path / "new", SMALL, LIMITS)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(DataError, match="GB are free"):
        prepare([item], tmp_path / "small", SMALL, LIMITS)


def test_the_index_has_every_clip_with_every_number(finished: tuple[Path, Summary]) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    out, summary = finished
    table = pq.read_table(out / "index.parquet").to_pylist()
    assert [row["key"] for row in table] == [row["key"] for row in summary.rows]
    assert all(len(row["embedding"]) == 128 for row in table)
    header, *lines = (out / "index.csv").read_text().splitlines()
    assert len(lines) == 6 and set(header.split(",")) == set(table[0]) - {"embedding"}
    report = json.loads((out / "report.json").read_text())
    assert report["kept"] == 6 and report["failed"][0]["name"].endswith("page.mp4")
