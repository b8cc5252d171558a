from __future__ import annotations

from typing import Any

import numpy as np

from megaportraits.prepare.filters import FILTERS, KEPT, judge, survivors
from megaportraits.prepare.settings import Thresholds

LIMITS = Thresholds(min_crop=100, drop_iqa=0.0, validation_percent=0.0)


def clip(key: str, face: int = 0, **changes: Any) -> dict[str, Any]:
    """A clip that passes everything; `face` numbers who it shows."""
    rng = np.random.default_rng(abs(hash(key)) % 2**32)
    person = np.random.default_rng(face).normal(size=128)
    vector = person / np.linalg.norm(person)
    return {
        "key": key,
        "item": key,
        "kind": "video",
        "identity": None,
        "prescribed": None,
        "age": None,
        "bitrate": 900.0,
        "crop_px": 200.0,
        "presence": 1.0,
        "people": 1,
        "inside": 1.0,
        "iris_ratio": 11.8,
        "iqa": 50.0,
        "frames": 10,
        "embedding": vector.tolist(),
        "thumbnails": rng.integers(0, 256, 3 * 256, dtype=np.uint8).tobytes().hex(),
    } | changes


def verdicts(*clips: dict[str, Any], limits: Thresholds = LIMITS) -> dict[str, str]:
    rows = list(clips)
    judge(rows, limits)
    return {row["key"]: row["verdict"] for row in rows}


def test_every_single_number_can_drop_a_clip() -> None:
    found = verdicts(
        clip("fine", 0),
        clip("small", 1, crop_px=99.0),
        clip("coarse", 2, bitrate=10.0),
        clip("doubtful", 3, presence=0.4),
        clip("crowd", 4, people=2),
        clip("outside", 5, inside=0.3),
        clip("child", 6, age=17.0),
        limits=Thresholds(min_crop=100, min_bitrate=100, drop_iqa=0.0),
    )
    assert found == {
        "fine": KEPT,
        "small": "crop",
        "coarse": "bitrate",
        "doubtful": "presence",
        "crowd": "people",
        "outside": "inside",
        "child": "children",
    }


def test_a_known_age_goes_before_the_face() -> None:
    limits = Thresholds(children="face", drop_iqa=0.0)
    young = clip("young face", 0, iris_ratio=9.5)
    grown = clip("grown-up with large eyes", 1, iris_ratio=9.5, age=40.0)
    assert verdicts(young, grown, limits=limits) == {"young face": "children", "grown-up with large eyes": KEPT}


def test_half_of_the_videos_that_are_left_is_dropped_by_mean_quality() -> None:
    clips = [clip(f"v{n}", n, iqa=float(n)) for n in range(4)]
    # Not among those that are ranked, and not to be counted with them.
    clips.append(clip("small", 9, crop_px=10.0, iqa=100.0))
    found = verdicts(*clips, limits=Thresholds(min_crop=100, drop_iqa=0.5))
    assert found == {"v0": "iqa", "v1": "iqa", "v2": KEPT, "v3": KEPT, "small": "crop"}


def test_quality_is_the_videos_weighted_by_frames() -> None:
    rows = [
        clip("a-0", 0, item="a", iqa=10.0, frames=30),
        clip("a-1", 0, item="a", iqa=90.0, frames=10),
        clip("b-0", 1, item="b", iqa=40.0),
    ]
    judge(rows, Thresholds(drop_iqa=0.5))
    assert {row["key"]: row["video_iqa"] for row in rows} == {"a-0": 30.0, "a-1": 30.0, "b-0": 40.0}
    assert {row["key"] for row in rows if row["verdict"] == "iqa"} == {"a-0", "a-1"}


def test_of_copies_the_largest_stays_and_other_pictures_of_the_person_too() -> None:
    original = clip("original", 0, crop_px=300.0)
    copy = clip("copy", 0, crop_px=200.0, thumbnails=original["thumbnails"])
    stranger = clip("stranger", 1, thumbnails=original["thumbnails"])
    again = clip("again", 0)
    rows = [copy, original, stranger, again]
    judge(rows, LIMITS)
    found = {row["key"]: row["verdict"] for row in rows}
    assert found == {"original": KEPT, "copy": "duplicate", "stranger": KEPT, "again": KEPT}
    assert copy["duplicate"] == 1.0 and abs(again["duplicate"]) < 0.3 and stranger["duplicate"] is None


def test_clips_of_one_video_are_no_copies_of_each_other() -> None:
    first = clip("v-0", 0, item="v")
    assert verdicts(first, clip("v-1", 0, item="v", thumbnails=first["thumbnails"])) == {"v-0": KEPT, "v-1": KEPT}


def test_one_person_is_in_one_split_however_the_videos_are_called() -> None:
    rows = [clip(f"{n}", n // 3, item=f"{n}") for n in range(60)]
    judge(rows, Thresholds(drop_iqa=0.0, validation_percent=40.0))
    splits = [{row["split"] for row in rows if int(row["key"]) // 3 == person} for person in range(20)]
    assert all(len(split) == 1 for split in splits)
    assert {split for both in splits for split in both} == {"train", "val"}
    assert max(row["leak"] for row in rows) < 0.5


def test_a_collections_own_leak_between_splits_is_found_and_closed() -> None:
    rows = [
        clip("seen", 0, prescribed="train", identity="ann"),
        clip("leak", 0, prescribed="val", identity="bob"),
        clip("clean", 1, prescribed="val", identity="eve"),
    ]
    judge(rows, LIMITS)
    assert {row["key"]: row["verdict"] for row in rows} == {"seen": KEPT, "leak": "split", "clean": KEPT}
    assert rows[1]["leak"] > 0.99 and {row["person"] for row in rows} == {"ann", "bob", "eve"}


def test_new_people_do_not_move_those_who_are_there() -> None:
    limits = Thresholds(drop_iqa=0.0, validation_percent=30.0)
    few, many = [clip(f"v{n}", n) for n in range(10)], [clip(f"v{n}", n) for n in range(40)]
    judge(few, limits)
    judge(many, limits)
    later = {row["key"]: row["split"] for row in many}
    assert all(later[row["key"]] == row["split"] for row in few)


def test_the_counts_go_down_filter_by_filter() -> None:
    rows = [clip("fine", 0), clip("small", 1, crop_px=1.0), clip("crowd", 2, people=3)]
    judge(rows, LIMITS)
    counts = survivors(rows)
    assert [name for name, _ in counts] == ["found", *FILTERS]
    assert dict(counts)["found"] == 3 and dict(counts)["crop"] == 2 and dict(counts)["split"] == 1


def test_judging_twice_says_the_same() -> None:
    rows = [clip(f"v{n}", n // 2, iqa=float(n), crop_px=90.0 + n) for n in range(20)]
    judge(rows, Thresholds(min_crop=95, drop_iqa=0.3))
    first = {row["key"]: (row["verdict"], row["split"], row["person"]) for row in rows}
    judge(rows, Thresholds(min_crop=95, drop_iqa=0.3))
    assert first == {row["key"]: (row["verdict"], row["split"], row["person"]) for row in rows}
