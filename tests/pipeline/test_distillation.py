"""A teacher with known output renders samples from clips and from a real video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch

from megaportraits.data.clips import ClipIndex, ShardWriter
from megaportraits.data.distillation import DistillationIndex
from megaportraits.errors import DataError, FaceError
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.media import write_image
from megaportraits.models.motion import Expression, Motion
from megaportraits.ops.geometry import HeadPose
from megaportraits.ops.warping import Pose
from megaportraits.pipeline.compose import Rendering
from megaportraits.pipeline.distillation import DistillationWriter, find_avatars
from megaportraits.pipeline.driver_clips import Drivers, find_drivers
from megaportraits.pipeline.teacher import AvatarTeacher, Teacher

from .conftest import SIZE, echo_avatar, moved, write_video


class Painter:
    """Draws one flat grey per person, and notes what it was asked."""

    name, sha256 = "painter", "0"

    def __init__(self, *, mixes_people: bool = False) -> None:
        self.looked, self.drawn, self.encoded = 0, 0, 0
        self.mixes_people, self.batches = mixes_people, list[list[float]]()

    def encode(self, photo: Path) -> float:
        self.encoded += 1
        return 0.1 * len(photo.stem)

    def look(self, drivers: Sequence[np.ndarray], poses: Sequence[HeadPose]) -> list[Motion]:
        self.looked += len(drivers)
        pose = Pose(torch.eye(3)[None], torch.zeros(1, 2), torch.ones(1))
        return [Motion(pose, Expression(torch.tensor([[float(d.mean())]]))) for d in drivers]

    def render(self, people: Sequence[float], motions: Sequence[Motion]) -> list[Rendering]:
        assert len(people) == len(motions)
        self.drawn += len(motions)
        self.batches.append(list(people))
        pose = HeadPose(np.eye(3), np.zeros(2), 1.0)
        return [Rendering(np.full((32, 32, 4), person, np.float32), pose) for person in people]


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "avatars"
    folder.mkdir()
    for name in ("a", "bb", "ccc"):
        write_image(folder / f"{name}.png", skimage.data.astronaut())
    return find_avatars(folder)


def maker(teacher: Teacher[float], photos: dict[str, Path], **changes: Any) -> DistillationWriter[float]:
    return replace(DistillationWriter(teacher, photos, size=32, driver_size=16, picture_size=32), **changes)


def drivers_of(clips: Path, work: Path) -> dict[str, Drivers]:
    train, val = find_drivers([clips], work, count=20, size=32)
    return {"train": train, "val": val}


def test_every_driver_is_drawn_as_every_avatar(photos: dict[str, Path], clips: Path, tmp_path: Path) -> None:
    teacher, parts = Painter(), drivers_of(clips, tmp_path / "work")
    maker(teacher, photos).make(parts, tmp_path / "distillation")
    index = DistillationIndex(tmp_path / "distillation/train")
    assert len(index) == len(parts["train"]) == 20
    assert teacher.encoded == 3 and teacher.looked == 24 and teacher.drawn == 72
    for picture, wanted in zip(index.read(7).pictures.values(), (0.1, 0.2, 0.3), strict=True):
        assert np.abs(picture.astype(int) - round(255 * wanted)).max() <= 1


def test_fewer_avatars_a_driver_are_shared_out_evenly(photos: dict[str, Path], clips: Path, tmp_path: Path) -> None:
    maker(Painter(), photos, per_driver=1).make(drivers_of(clips, tmp_path / "work"), tmp_path / "distillation")
    index = DistillationIndex(tmp_path / "distillation/train")
    shown = [index.avatars(i) for i in range(len(index))]
    assert all(len(avatars) == 1 for avatars in shown) and {a for (a,) in shown} == {0, 1, 2}


def test_an_interrupted_teacher_goes_on_where_it_stopped(
    photos: dict[str, Path], clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megaportraits.pipeline.distillation.SAMPLES_PER_SHARD", 8)
    parts = drivers_of(clips, tmp_path / "work")
    maker(Painter(), photos).make(parts, tmp_path / "whole")
    maker(Painter(), photos).make(parts, tmp_path / "broken")
    (tmp_path / "broken/train/distillation-000001.tar").unlink()
    teacher = Painter()
    maker(teacher, photos).make(parts, tmp_path / "broken")
    assert teacher.looked == 8
    for shard in sorted((tmp_path / "whole").rglob("*.tar")):
        other = tmp_path / "broken" / shard.relative_to(tmp_path / "whole")
        assert other.read_bytes() == shard.read_bytes()
    idle = Painter()
    maker(idle, photos).make(parts, tmp_path / "broken")
    assert idle.encoded == idle.looked == 0


def test_several_makers_fill_a_folder_together(
    photos: dict[str, Path], clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megaportraits.pipeline.distillation.SAMPLES_PER_SHARD", 8)
    parts = drivers_of(clips, tmp_path / "work")
    maker(Painter(), photos).make(parts, tmp_path / "alone")
    teachers = [Painter(), Painter()]
    for number, teacher in enumerate(teachers):
        maker(teacher, photos, part=(number, 2)).make(parts, tmp_path / "together")
    alone, together = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.tar")}
        for name in ("alone", "together")
    )
    assert alone == together and len(alone) == 4  # 20 drivers, and 4 to measure with
    assert [teacher.looked for teacher in teachers] == [12, 12]


def test_batches_are_full_where_the_teacher_mixes_people(photos: dict[str, Path], clips: Path, tmp_path: Path) -> None:
    """With many avatars and few of them a driver, one person alone would never fill a GPU."""
    parts = {"val": drivers_of(clips, tmp_path / "work")["train"]}
    written = []
    for name, mixes_people, sizes in (("mixed", True, [8, 8, 4]), ("apart", False, None)):
        teacher = Painter(mixes_people=mixes_people)
        maker(teacher, photos, per_driver=1, batch=8).make(parts, tmp_path / name)
        if sizes is not None:
            assert [len(batch) for batch in teacher.batches] == sizes
        assert any(len(set(batch)) > 1 for batch in teacher.batches) is mixes_people
        written.append((tmp_path / name / "val/distillation-000000.tar").read_bytes())
    assert written[0] == written[1]


def test_samples_of_another_kind_are_not_mixed_in(photos: dict[str, Path], clips: Path, tmp_path: Path) -> None:
    parts = drivers_of(clips, tmp_path / "work")
    maker(Painter(), photos).make(parts, tmp_path / "distillation")
    with pytest.raises(DataError, match="made with other picture_size"):
        maker(Painter(), photos, picture_size=64).make(parts, tmp_path / "distillation")
    with pytest.raises(DataError, match="made with other avatars"):
        maker(Painter(), dict(list(photos.items())[:2])).make(parts, tmp_path / "distillation")


def test_a_teacher_is_its_weights_whatever_the_file_is_called(
    photos: dict[str, Path], clips: Path, tmp_path: Path
) -> None:
    parts, renamed, retrained = drivers_of(clips, tmp_path / "work"), Painter(), Painter()
    maker(Painter(), photos).make(parts, tmp_path / "distillation")
    renamed.name, retrained.sha256 = "copy of painter", "1"
    maker(renamed, photos).make(parts, tmp_path / "distillation")
    assert renamed.encoded == 0
    with pytest.raises(DataError, match="made with other teacher"):
        maker(retrained, photos).make(parts, tmp_path / "distillation")


def test_drivers_to_measure_with_are_others(clips: Path, tmp_path: Path) -> None:
    train, val = find_drivers([clips], tmp_path / "work", count=1000, size=32)
    learned = {(folder, clip) for folder, clip, _ in train.frames}
    measured = {(folder, clip) for folder, clip, _ in val.frames}
    assert measured and not learned & measured
    assert len(set(train.frames)) == len(train.frames)


def test_real_and_synthetic_drivers_come_in_turn(clips: Path, tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "real/train", 0) as shard:
        record, frames = ClipIndex(clips).read_clip(0)
        shard.write(replace(record, kind="real"), frames)
    with ShardWriter(tmp_path / "real/val", 0) as shard:
        shard.write(replace(record, key="other", kind="real"), frames)
    train, val = find_drivers([clips, tmp_path / "real"], tmp_path / "work", count=8, size=32)
    kinds = [train.indices[folder].record(clip).kind for folder, clip, _ in train.frames]
    assert kinds == ["cg", "real"] * 4
    held_out = {val.indices[folder].record(clip).key for folder, clip, _ in val.frames}
    assert held_out == {"c5", "other"}, "the last of the folder without val, and all of val"


def test_synthetic_drivers_stand_before_a_flat_colour_and_real_ones_as_they_are(clips: Path, tmp_path: Path) -> None:
    train, _ = find_drivers([clips], tmp_path / "work", count=3, size=32)
    folder, clip, position = train.frames[1]
    frame, head = train.indices[folder].read_frame(clip, position), train.read(1, 32)
    solid, open_ = head.matte == 255, head.matte == 0
    assert solid.any() and open_.any()
    np.testing.assert_array_equal(head.image[solid], frame.image[solid])
    assert (head.image[open_] == head.image[open_][0]).all()


def test_a_single_clip_is_refused_before_any_work(clips: Path, tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "one", 0) as shard:
        shard.write(*ClipIndex(clips).read_clip(0))
    with pytest.raises(DataError, match="nothing is left to measure with"):
        find_drivers([tmp_path / "one"], tmp_path / "work", count=5, size=32)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="No drivers"):
        find_drivers([tmp_path], tmp_path / "work", count=5, size=32)
    with pytest.raises(DataError, match="no photographs"):
        find_avatars(tmp_path)


def test_a_video_is_followed_and_drawn_by_a_real_avatar(
    analyzer: FaceAnalyzer, portrait: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megaportraits.pipeline.driver_clips._CLIP", 2)
    folder = tmp_path / "drivers"
    folder.mkdir()
    write_video(folder / "v.mp4", [moved(portrait, 1.5 * i, i) for i in range(9)])
    train, val = find_drivers([folder], folder / "work", count=50, size=SIZE, every=2)
    assert (len(train), len(val)) == (4, 1)  # two clips of two frames, and the video's end
    (tmp_path / "avatars").mkdir()
    write_image(tmp_path / "avatars/eileen.png", portrait)
    teacher = AvatarTeacher(echo_avatar(analyzer), "echo", [])
    sizes = {"size": SIZE, "driver_size": SIZE, "picture_size": SIZE}
    DistillationWriter(teacher, find_avatars(tmp_path / "avatars"), **sizes).make(
        {"val": val}, tmp_path / "distillation"
    )
    sample = DistillationIndex(tmp_path / "distillation/val").read(0)
    # The echo draws the driver's own crop, so the picture is the driver, but for two rounds of JPEG.
    assert np.abs(sample.pictures[0][..., :3].astype(int) - sample.driver).mean() < 3
    center = sample.matte[SIZE // 4 : -SIZE // 4, SIZE // 4 : -SIZE // 4]
    assert center.mean() > 200 > sample.matte[:8, :8].mean()
    again, _ = find_drivers([folder], folder / "work", count=50, size=SIZE, every=2)
    assert again.named() == train.named()


def test_a_photograph_without_a_face_is_named(analyzer: FaceAnalyzer, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "avatars").mkdir()
    write_image(tmp_path / "avatars/wall.png", np.full((64, 64, 3), 90, np.uint8))
    teacher = AvatarTeacher(echo_avatar(analyzer), "echo", [])
    sizes = {"size": SIZE, "driver_size": SIZE, "picture_size": SIZE}
    with pytest.raises(FaceError, match=r"wall\.png"):
        DistillationWriter(teacher, find_avatars(tmp_path / "avatars"), **sizes).make(
            drivers_of(clips, tmp_path / "work"), tmp_path / "distillation"
        )
