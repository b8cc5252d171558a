"""Which people appear in which clip: determined by the settings alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from megaportraits.errors import ConfigError, DataError
from megaportraits.media import PICTURE_SUFFIXES
from megaportraits.synth.plan import (
    Pool,
    SynthSettings,
    cg_numbers,
    find_portraits,
    group_numbers,
    group_plan,
    is_validation,
)

SETTINGS = SynthSettings(Path("portraits"), Path("head"), clips=640)
POOL = Pool(tuple(f"c{i}.jpg" for i in range(50)), tuple(f"g{i}.jpg" for i in range(20)))


def plans(settings: SynthSettings, count: int) -> list:
    return [group_plan(settings, "train", number, POOL) for number in range(count)]


def test_about_three_in_a_hundred_identities_are_for_validation() -> None:
    share = sum(is_validation(f"colour/{i:06d}") for i in range(20_000)) / 20_000
    assert share == pytest.approx(0.03, abs=0.004)


def test_the_split_of_a_name_is_fixed_for_all_time() -> None:
    assert [n for n in range(100) if is_validation(f"cg-{n:06d}")] == [1, 20, 47, 80, 83, 85]


def test_the_lifted_share_is_met_exactly() -> None:
    assert sum(plan.lifted for plan in plans(SETTINGS, 100)) == 80
    mixed = Counter(plan.lifted for plan in plans(SETTINGS, 5))
    assert mixed == {True: 4, False: 1}


def test_the_grey_share_is_met_exactly() -> None:
    greys = [grey for plan in plans(SETTINGS, 100) if plan.lifted for grey in plan.grey]
    assert sum(greys) == len(greys) // 4


def test_photographs_are_used_equally_often() -> None:
    used = Counter(
        (grey, p)
        for plan in plans(SETTINGS, 100)
        if plan.lifted
        for p, grey in zip(plan.people, plan.grey, strict=True)
    )
    colour = [used[False, i] for i in range(50)]
    assert max(colour) - min(colour) <= 1


def test_cg_people_appear_once_and_in_their_split() -> None:
    train, val = cg_numbers(0, "train", 0, 200), cg_numbers(0, "val", 0, 5)
    assert len(set(train)) == 200 and not set(train) & set(val)
    assert all(is_validation(f"cg-{number:06d}") for number in val)
    assert cg_numbers(0, "train", 4, 4) == train[4:8]


def test_a_group_does_not_depend_on_how_many_clips_are_asked_for() -> None:
    more = SynthSettings(Path("portraits"), Path("head"), clips=6400)
    assert plans(SETTINGS, 10) == plans(more, 10)


def test_another_seed_is_another_plan() -> None:
    other = SynthSettings(Path("portraits"), Path("head"), clips=640, seed=1)
    assert plans(SETTINGS, 10) != plans(other, 10)


def test_shards_hold_whole_groups_and_all_of_them() -> None:
    settings = SynthSettings(Path("portraits"), Path("head"), clips=150)
    assert settings.clip_count("train") == 152 and settings.shard_count("train") == 3
    groups = [n for shard in range(3) for n in group_numbers(settings, "train", shard)]
    assert groups == list(range(38))
    assert settings.clip_count("val") == 8


def test_all_wrong_settings_are_reported_at_once() -> None:
    with pytest.raises(ConfigError, match=r"group.*lifted_share"):
        SynthSettings(Path("p"), Path("h"), group=5, lifted_share=1.2)
    with pytest.raises(ConfigError, match="portraits are needed"):
        SynthSettings(None, Path("h"))


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match="No portraits"):
        find_portraits(tmp_path)


def test_portraits_are_pictures_of_every_kind_that_animate_reads(tmp_path: Path) -> None:
    names = [f"{number}{suffix}" for number, suffix in enumerate(PICTURE_SUFFIXES)] + ["phone.HEIC"]
    for name in [*names, "notes.txt", "film.mp4"]:
        (tmp_path / name).touch()
    assert find_portraits(tmp_path) == sorted(names)


def test_photographs_without_lifted_heads_are_refused_with_the_values_that_came() -> None:
    with pytest.raises(ConfigError, match=r"lifted_share 1 and at least 2 frames, got lifted_share 0\.8 and 8 frames"):
        SynthSettings(Path("p"), Path("h"), photographs=True)
