"""Label files of VoxCeleb2 and FFHQ, and the items made from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from megaportraits.errors import DataError, MediaError, WeightsError
from megaportraits.faces import Face, FaceAnalyzer, fit_pose
from megaportraits.media import write_image
from megaportraits.ops.geometry import Crop
from megaportraits.prepare.collections import parse_track
from megaportraits.prepare.cutting import Clip, Instruments, moved_inside
from megaportraits.prepare.extract import Extractor
from megaportraits.prepare.items import SourceItem
from megaportraits.prepare.settings import ExtractSettings
from megaportraits.prepare.sources import find_items
from tests.prepare.damage import portrait
from tests.prepare.test_cutting import Fake
from tests.prepare.test_sources import by_stem, touch

TRACK = """Identity  : \t{person}
Reference : \t{video}
Offset    : \t4
FV Conf   : \t16.547\t(1)
ASD Conf  : \t4.465

FRAME \tX \tY \tW \tH
000250 \t0.400 \t0.200 \t0.250 \t0.450
000251 \t0.380 \t0.210 \t0.250 \t0.450
000299 \t0.390 \t0.220 \t0.260 \t0.460
"""


def write_track(folder: Path, split: str, person: str, video: str, clip: str, text: str | None = None) -> Path:
    path = folder / split / "txt" / person / video / f"{clip}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TRACK.format(person=person, video=video) if text is None else text)
    return path


def test_a_track_says_who_is_where_and_when() -> None:
    track = parse_track(TRACK.format(person="id00012", video="21Uxsk56VDQ"))
    assert (track.identity, track.video, track.start, track.end) == ("id00012", "21Uxsk56VDQ", 10.0, 12.0)
    assert track.box == pytest.approx((0.38, 0.2, 0.65, 0.68))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "identity and reference"),
        (TRACK.split("FRAME")[0], "no frames"),
        (TRACK.replace("\t0.250 \t0.450", "\t0.250"), "frame, x, y, w, h"),
        (TRACK.replace("0.200", "x"), "could not convert"),
        (TRACK.replace("\t0.400 \t0.200 \t0.250 \t0.450", "\t223 \t80 \t130 \t130"), "in parts of the frame"),
    ],
)
def test_what_is_no_track_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_track(text.replace("{person}", "id1").replace("{video}", "v"))


def test_whole_videos_become_one_item_for_each_track_and_clips_stay(tmp_path: Path) -> None:
    labels, told = tmp_path / "labels", list[str]()
    write_track(labels, "dev", "id00012", "21Uxsk56VDQ", "00001")
    write_track(labels, "dev", "id00012", "21Uxsk56VDQ", "00002", TRACK.format(person="id00012", video="other"))
    write_track(labels, "test", "id00017", "OLguY5ofUrY", "00039")
    write_track(labels, "test", "id00017", "notHere0000", "00040")
    touch(
        tmp_path / "videos", "21Uxsk56VDQ.mp4", "x/OLguY5ofUrY.webm", "holiday.mp4", "dev/id00099/AAAAAAAAAAA/00001.mp4"
    )
    found = find_items([str(tmp_path / "videos")], dataset="voxceleb2", annotations=str(labels), tell=told.append)
    items = by_stem(found)
    assert len(found) == 3 and set(items) == {"21Uxsk56VDQ", "OLguY5ofUrY", "00001"}
    one = items["21Uxsk56VDQ"]
    assert (one.identity, one.split, one.start, one.end) == ("id00012", "train", 10.0, 12.0)
    assert one.box == pytest.approx((0.38, 0.2, 0.65, 0.68))
    assert (items["OLguY5ofUrY"].identity, items["OLguY5ofUrY"].split) == ("id00017", "val")
    assert (items["00001"].identity, items["00001"].split, items["00001"].box) == ("id00099", "train", None)
    assert [line.split(":")[0] for line in told[:1]] == ["VoxCeleb2"] and "3 of 4 tracks" in told[0]
    assert "Videos left out: 1." in told[1] and "Tracks left out: 1." in told[2] and "other" in told[2]


def test_tracks_beside_the_videos_are_found_and_videos_of_nobody_are_refused(tmp_path: Path) -> None:
    write_track(tmp_path, "dev", "id00012", "21Uxsk56VDQ", "00001")
    touch(tmp_path, "21Uxsk56VDQ.mp4")
    (item,) = find_items([str(tmp_path)], dataset="voxceleb2")
    assert item.start == 10.0
    (tmp_path / "21Uxsk56VDQ.mp4").rename(tmp_path / "mine.mp4")
    with pytest.raises(DataError, match="YouTube id"):
        find_items([str(tmp_path)], dataset="voxceleb2")


def ffhq_labels(folder: Path) -> Path:
    wild = {"pixel_size": [200, 100], "face_rect": [20, 10, 60, 50]}
    path = folder / "ffhq-dataset-v2.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {
                "0": {"category": "training", "in_the_wild": wild},
                "1": {"category": "validation", "in_the_wild": wild},
            }
        )
    )
    return path


def test_ffhqs_aligned_pictures_are_cropped_inside_and_originals_by_their_face(tmp_path: Path) -> None:
    labels, told = ffhq_labels(tmp_path / "json"), list[str]()
    touch(
        tmp_path / "ffhq",
        *("images1024x1024/00000/00000.png", "images1024x1024/00000/00001.png", "thumbnails128x128/00000/00000.png"),
        "in-the-wild-images/00000/00001.png",
    )
    found = by_stem(find_items([str(tmp_path / "ffhq")], dataset="ffhq", annotations=str(labels), tell=told.append))
    assert set(found) == {"00000", "00001"}
    aligned, wild = found["00000"], found["00001"]
    assert (aligned.inside, aligned.box, aligned.split, aligned.identity) == (True, None, "train", "ffhq-00000")
    assert "images1024x1024" in aligned.address
    assert (wild.inside, wild.split) == (False, "val") and wild.box == pytest.approx((0.1, 0.1, 0.3, 0.5))
    assert "in-the-wild-images" in wild.address and "originals: 1." in told[0]
    kept = find_items([str(tmp_path / "ffhq/images1024x1024")], dataset="ffhq", still_crop="head")
    assert [item.inside for item in kept] == [False, False]


def test_originals_of_ffhq_without_their_labels_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "in-the-wild-images/00000/00001.png")
    with pytest.raises(DataError, match="no valid entry for 00001"):
        find_items([str(tmp_path)], dataset="ffhq")


def test_a_crop_inside_is_as_large_as_the_picture_allows_and_keeps_its_place() -> None:
    assert moved_inside(Crop(512, 480, 1300), 1024, 1024) == Crop(512, 512, 1024)
    assert moved_inside(Crop(90, 100, 100), 400, 200) == Crop(90, 100, 100)
    assert moved_inside(Crop(10, 195, 100), 400, 200) == Crop(50, 150, 100)
    assert SourceItem("a", inside=True).key != SourceItem("a").key


@pytest.fixture(scope="module")
def tight() -> tuple[np.ndarray, Face]:
    """A picture as narrow around the head as FFHQ's, and the face in it."""
    try:
        whole = portrait(0)
        pose = fit_pose(FaceAnalyzer().detect(whole)[0].landmarks)
        center = pose.project(np.array([[0.0, 1.0, 0.0]]))[0]
        half = int(13 * pose.px_per_cm)
        x, y = (int(value) for value in center[:2])
        picture = np.ascontiguousarray(whole[max(y - half, 0) : y + half, max(x - half, 0) : x + half])
        return picture, FaceAnalyzer().detect(picture)[0]
    except WeightsError as error:
        pytest.skip(f"weights cannot be had: {error}")


class Found:
    """An analyzer that finds the given faces."""

    def __init__(self, *faces: Face) -> None:
        self.faces = list(faces)

    def detect(self, image: np.ndarray, *, thorough: bool = True) -> list[Face]:
        return self.faces

    def track(self, image: np.ndarray, previous: Face) -> Face | None:
        return None


def extract(tmp_path: Path, picture: np.ndarray, item: SourceItem, *faces: Face) -> Clip:
    write_image(tmp_path / "a.png", picture, overwrite=True)
    extractor, fake = Extractor(tmp_path, ExtractSettings(size=1024)), Fake(0)
    extractor.__dict__["_networks"] = (Found(*faces), Instruments(fake, fake, fake))
    (clip,) = extractor._clips(item, *extractor._networks, {})
    return clip


def moved(face: Face, x: float, scale: float = 1.0) -> Face:
    shift = np.array([x, 0.0, 0.0])
    return Face(
        (face.box * scale + np.array([x, 0, x, 0])).astype(face.box.dtype),
        (face.landmarks * scale + shift).astype(np.float32),
        face.presence,
        face.blendshapes,
    )


def test_a_still_cropped_inside_repeats_no_border(tmp_path: Path, tight: tuple[np.ndarray, Face]) -> None:
    picture, face = tight
    item = SourceItem(str(tmp_path / "a.png"))
    whole = extract(tmp_path, picture, item, face)
    inside = extract(tmp_path, picture, SourceItem(item.address, inside=True), face)
    assert whole.row["inside"] < 0.8 and inside.row["inside"] == 1.0
    assert inside.row["crop_px"] == min(picture.shape[:2]) == inside.row["size"]
    entry = json.loads(dict(inside.members)["json"])
    assert entry["frames"][0]["scale"] == pytest.approx(
        json.loads(dict(whole.members)["json"])["frames"][0]["scale"] * whole.row["crop_px"] / inside.row["crop_px"],
        rel=1e-4,
    )


def test_of_a_group_the_face_in_the_box_is_taken_and_others_count_if_they_are_in_its_crop(
    tmp_path: Path, tight: tuple[np.ndarray, Face]
) -> None:
    picture, face = tight
    width = picture.shape[1]
    wide = np.concatenate([picture] * 6, 1)
    largest, small = moved(face, 4 * width), moved(face, 0)
    box = (0.0, 0.0, 1 / 6, 1.0)
    alone = extract(tmp_path, wide, SourceItem(str(tmp_path / "a.png"), box=box), largest, small)
    assert alone.row["people"] == 1
    label = json.loads(dict(alone.members)["json"])["frames"][0]
    assert abs(np.array(label["landmarks"]).mean(0)).max() < 0.3  # the head is in the middle of its crop
    beside = extract(tmp_path, wide, SourceItem(str(tmp_path / "a.png"), box=box), small, moved(face, width // 3))
    assert beside.row["people"] == 2
    with pytest.raises(MediaError, match="where the collection says"):
        extract(tmp_path, wide, SourceItem(str(tmp_path / "a.png"), box=(0.4, 0.0, 0.5, 1.0)), small)
