"""Runs of `synth`: the bytes do not depend on how the run was divided, and killed runs lose no finished shard."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from megaportraits.data.clips import ClipIndex
from megaportraits.data.pairs import PairDataset
from megaportraits.errors import ConfigError, DataError, FaceError, MegaPortraitsError
from megaportraits.media.locks import try_lock
from megaportraits.synth.generate import ShardMaker, SynthProgress, generate, sort_portraits
from megaportraits.synth.head import MorphableHead
from megaportraits.synth.measure import Measurement, Scorer
from megaportraits.synth.plan import SynthSettings, is_validation
from megaportraits.synth.portraits import MattedPortrait


class FileReader:
    """Landmarks and mattes from files beside the pictures, instead of networks."""

    def __call__(self, path: Path) -> MattedPortrait:
        if "blank" in path.name:
            raise FaceError(f"no face: in {path}")
        image = cv2.imread(str(path))[..., ::-1].copy()
        with np.load(path.with_suffix(".npz")) as known:
            return MattedPortrait(image, known["landmarks"], known["matte"])


class NoReader:
    """For runs that must not look at photographs again."""

    def __call__(self, path: Path) -> MattedPortrait:
        raise AssertionError(f"{path} was read again")


@pytest.fixture(scope="module")
def photographs(head: MorphableHead, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six toy portraits, one of them grey, and one picture of nobody."""
    from megaportraits.ops.geometry import euler_to_matrix
    from megaportraits.synth.cg import CgCast
    from megaportraits.synth.stage import HeadMotion

    folder, cast = tmp_path_factory.mktemp("portraits"), CgCast(head)
    motion = HeadMotion.about_neck(head.coefficients({}), (0, 0), euler_to_matrix(3, 2, 1), scale=0.8)
    for number in range(6):
        frame = cast.person(number).render(motion, 240, coords=False)
        image = frame.image if number else np.repeat(frame.image.mean(2, keepdims=True), 3, 2).astype(np.uint8)
        cv2.imwrite(str(folder / f"p{number}.png"), image[..., ::-1])
        points = (frame.placed[head.mediapipe_vertex, :2] + 1) * 120
        eyes = [points[[33, 133]].mean(0)] * 5 + [points[[263, 362]].mean(0)] * 5
        landmarks = np.concatenate([points, eyes]).astype(np.float32)
        np.savez(folder / f"p{number}.npz", landmarks=landmarks, matte=frame.matte.astype(np.float32) / 255)
    cv2.imwrite(str(folder / "blank.png"), np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module")
def settings(photographs: Path, toy_path: Path) -> SynthSettings:
    return SynthSettings(photographs, toy_path, clips=68, size=32, frames=2, coords=False, min_interocular=10)


@pytest.fixture(scope="module")
def made(settings: SynthSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run by one process: two training shards, one for validation."""
    out = tmp_path_factory.mktemp("made") / "set"
    generate(settings, out, reader=FileReader)
    return out


def hashes(out: Path) -> dict[str, str]:
    shards = sorted(out.rglob("clips-*.tar"))
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in shards}


def test_the_asked_clips_are_there(made: Path) -> None:
    index = ClipIndex(made / "train")
    assert len(index) == 68 and len(ClipIndex(made / "val")) == 4
    report = json.loads((made / "report.json").read_text())
    assert report["clips"] == 72 and report["frames"] == 144
    assert report["clips lifted"] + report["clips cg"] == 72 and report["clips cg"] == 20
    assert report["skipped, no face"] >= 1
    assert cv2.imread(str(made / "contact_sheet.png")).shape == (16 * 32, 9 * 32, 3)


def test_a_motion_group_shares_labels_but_not_people(made: Path) -> None:
    index = ClipIndex(made / "train")
    groups: dict[str | None, list] = {}
    for i in range(len(index)):
        groups.setdefault(index.record(i).motion_group, []).append(index.record(i))
    assert {len(records) for records in groups.values()} == {4}
    for records in groups.values():
        assert len({record.identity for record in records}) == 4
        for record in records[1:]:
            for mine, first in zip(record.frames, records[0].frames, strict=True):
                assert mine.to_json() == first.to_json()


def test_validation_identities_are_never_trained_on(made: Path) -> None:
    train, val = (ClipIndex(made / split) for split in ("train", "val"))
    cg = {train.record(i).identity for i in range(len(train)) if train.record(i).kind == "cg"}
    assert not any(is_validation(name) for name in cg)
    held_out = {val.record(i).identity for i in range(len(val)) if val.record(i).kind == "cg"}
    assert all(is_validation(name) for name in held_out)


def test_photographs_become_the_first_frame_of_their_clips(settings: SynthSettings, tmp_path: Path) -> None:
    chosen = replace(settings, clips=4, frames=3, lifted_share=1.0, photographs=True)
    assert "photographs" in chosen.identity() and "photographs" not in settings.identity()
    generate(chosen, tmp_path, reader=FileReader)
    index = ClipIndex(tmp_path / "train")
    for clip in range(len(index)):
        record = index.record(clip)
        assert record.kind == "photograph" and record.motion_group is None and record.frames[0].gaze is None
    pairs = PairDataset(tmp_path / "train", length=12, size=32, cross_identity=1.0, expressive=0.5)
    for k in range(len(pairs)):
        pair = pairs[k]
        photograph = index.read_frame(int(pair.identity), 0).image
        assert np.array_equal(pair.target.image.numpy().transpose(1, 2, 0), photograph) and not pair.cross
        assert not np.array_equal(pair.source.image.numpy().transpose(1, 2, 0), photograph)


def test_photographs_need_lifted_clips(settings: SynthSettings) -> None:
    with pytest.raises(ConfigError, match="lifted_share 1"):
        replace(settings, photographs=True)


def test_measured_frames_tell_what_a_landmark_network_sees(settings: SynthSettings, tmp_path: Path) -> None:
    rendered = replace(settings, portraits=None, lifted_share=0.0, clips=4, size=256, measure=True)
    assert "measure" in rendered.identity() and "measure" not in settings.identity()

    class Looks:
        def __call__(self, rendering: object) -> Measurement:
            return Measurement(np.full(52, 0.125, np.float32), np.full((478, 2), -0.25, np.float32))

    (tmp_path / "counts").mkdir()
    maker = ShardMaker(rendered, sort_portraits(rendered, tmp_path), tmp_path, NoReader())
    assert isinstance(maker.scorer, Scorer)
    maker.scorer = Looks()  # toy heads have no faces
    maker.make("train", 0)
    record = ClipIndex(tmp_path / "train").record(0)
    assert all(frame.scores is not None and (frame.scores == 0.125).all() for frame in record.frames)
    assert all(frame.landmarks is not None and (frame.landmarks == -0.25).all() for frame in record.frames)


def test_a_lost_shard_is_made_again_byte_for_byte(settings: SynthSettings, made: Path) -> None:
    before = hashes(made)
    (made / "train/clips-000001.tar").unlink()
    stale = made / "train/.clips-000001.tar.4711.partial"
    stale.write_bytes(b"what a killed process leaves")
    generate(settings, made, reader=FileReader)
    assert hashes(made) == before
    assert not stale.exists()


def test_a_finished_run_only_reports(settings: SynthSettings, made: Path) -> None:
    before = hashes(made)
    told: list[SynthProgress] = []
    report = generate(settings, made, on_progress=told.append, reader=NoReader)
    assert hashes(made) == before
    assert [(p.done, p.total) for p in told] == [(3, 3)]
    assert report["clips"] == 72


def test_two_workers_make_what_one_makes(
    settings: SynthSettings, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))  # workers find this module's reader
    generate(settings, tmp_path / "set", workers=2, reader=FileReader)
    assert hashes(tmp_path / "set") == hashes(made)


def test_other_settings_are_refused_by_name(settings: SynthSettings, made: Path) -> None:
    before = hashes(made)
    with pytest.raises(DataError, match="seed 0 there, 9 now"):
        generate(replace(settings, seed=9), made, reader=NoReader)
    assert hashes(made) == before


def test_a_folder_of_something_else_is_refused(settings: SynthSettings, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("only copy")
    with pytest.raises(DataError, match="not empty"):
        generate(settings, tmp_path, reader=NoReader)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_missing_head_leaves_nothing_behind(settings: SynthSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        generate(replace(settings, head=tmp_path / "nowhere.npz"), tmp_path / "set", reader=NoReader)
    assert not (tmp_path / "set").exists()


def test_a_full_disk_is_reported_before_the_work(
    settings: SynthSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("megaportraits.media.folders.shutil.disk_usage", lambda path: full)
    with pytest.raises(DataError, match="are free"):
        generate(settings, tmp_path / "set", reader=NoReader)


def test_photographs_of_nobody_end_the_job_with_the_reason(
    settings: SynthSettings, photographs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "blanks"
    folder.mkdir()
    for number in range(3):
        (folder / f"blank{number}.png").write_bytes((photographs / "blank.png").read_bytes())
    with pytest.raises(DataError, match="no face"):
        generate(replace(settings, portraits=folder), tmp_path / "set", reader=FileReader)


def test_a_set_can_be_made_larger(toy_path: Path, tmp_path: Path) -> None:
    """Also when its last shard was not full; the clips that were there stay what they were."""
    small = SynthSettings(None, toy_path, clips=4, size=16, frames=1, lifted_share=0)
    generate(small, tmp_path / "grown", reader=NoReader)
    before = ClipIndex(tmp_path / "grown/train").read_frame(0, 0)
    generate(replace(small, clips=12), tmp_path / "grown", reader=NoReader)
    grown = ClipIndex(tmp_path / "grown/train")
    assert len(grown) == 12
    assert np.array_equal(grown.read_frame(0, 0).image, before.image)


def test_without_photographs_all_heads_are_procedural(toy_path: Path, tmp_path: Path) -> None:
    settings = SynthSettings(None, toy_path, clips=4, size=32, frames=2, lifted_share=0)
    report = generate(settings, tmp_path / "set", reader=partial(NoReader))
    assert report["clips cg"] == 8 and "clips lifted" not in report
    assert ClipIndex(tmp_path / "set/train").read_frame(0, 0).coords is not None


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_fills_is_reported_and_the_same_line_goes_on(
    toy_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))  # workers find this module's reader
    settings, out = SynthSettings(None, toy_path, clips=72, size=32, frames=1, lifted_share=0), tmp_path / "set"
    resource = pytest.importorskip("resource", reason="no limit on the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in (20, 100_000):  # not even the settings can be noted; no shard can be finished
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            with pytest.raises(DataError, match=r"set cannot be written: File too large"):
                generate(settings, out, workers=workers, reader=partial(NoReader))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not list(out.rglob("*.partial")) and not list(out.rglob("*.tar"))
    assert generate(settings, out, reader=NoReader)["clips"] == 76


def test_leaving_ends_the_workers_at_once_and_leaves_nothing_unfinished(
    toy_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while two workers are at their second shards: neither is awaited."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    settings, out = SynthSettings(None, toy_path, clips=256, size=16, frames=1, lifted_share=0), tmp_path / "set"

    def leave(progress: SynthProgress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(settings, out, workers=2, on_progress=leave, reader=partial(NoReader))
    assert multiprocessing.active_children() == []
    assert not list(out.rglob("*.partial")) and len(list(out.rglob("*.tar"))) < 5


def test_a_worker_that_dies_is_reported(toy_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    settings = SynthSettings(None, toy_path, clips=72, size=16, frames=1, lifted_share=0)
    with pytest.raises(MegaPortraitsError, match="worker process died"):
        generate(settings, tmp_path / "set", workers=2, reader=Deadly)


class Deadly:
    """A reader that ends its process, as the system does where memory is short."""

    def __init__(self) -> None:
        os._exit(9)


def test_a_folder_in_which_another_process_works_is_refused(settings: SynthSettings, made: Path) -> None:
    with (made / ".lock").open("w") as lock:
        assert try_lock(lock.fileno())
        with pytest.raises(DataError, match="Another process is writing to"):
            generate(settings, made, reader=NoReader)
