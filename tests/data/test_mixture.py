from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from megaportraits.data.clips import ClipIndex
from megaportraits.data.mixture import MixturePart, parse_mixture
from megaportraits.data.pairs import PairDataset
from megaportraits.errors import DataError
from tests.data.test_clips import write_shard


def test_a_folder_is_itself_whatever_its_name() -> None:
    assert parse_mixture("my+data *2") == (MixturePart(Path("my+data *2"), 1.0),)
    assert parse_mixture(Path("a")) == (MixturePart(Path("a"), 1.0),)


def test_parts_add_up_to_one_and_are_equal_without_weights() -> None:
    assert parse_mixture("a * 1 + b*3") == (MixturePart(Path("a"), 0.25), MixturePart(Path("b"), 0.75))
    assert parse_mixture("a/x y + b * .5") == (
        MixturePart(Path("a/x y"), pytest.approx(2 / 3)),
        MixturePart(Path("b"), pytest.approx(1 / 3)),
    )


@pytest.mark.parametrize("line", ["a +  * 2", "a * 0 + b * 0"])
def test_nonsense_is_refused(line: str) -> None:
    with pytest.raises(DataError):
        parse_mixture(line)


def test_folders_are_drawn_by_weight_and_not_by_size(tmp_path: Path) -> None:
    write_shard(tmp_path / "small", 0, "s")
    write_shard(tmp_path / "large", 0, *"abcdefg")
    index = ClipIndex(f"{tmp_path / 'small'} * 3 + {tmp_path / 'large'}")
    rng = np.random.default_rng(0)
    drawn = Counter(index.record(index.draw(rng)).key for _ in range(4000))
    assert len(index) == 8 and set(drawn) == set("sabcdefg")
    assert drawn["s"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_one_folder_is_drawn_as_it_always_was(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, *"abcdefg")
    index = ClipIndex(tmp_path)
    rngs = [np.random.default_rng(5) for _ in range(2)]
    assert [index.draw(rngs[0]) for _ in range(20)] == [int(rngs[1].integers(7)) for _ in range(20)]


@pytest.mark.posix
def test_equal_names_of_motions_in_two_folders_are_two_motions(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").symlink_to(clips)
    index = ClipIndex(f"{clips} + {tmp_path / 'copy'}")
    groups = {index.record(i).motion_group for i in range(len(index))}
    assert len(index) == 12 and len(groups) == 6
    pair = PairDataset(f"{clips} * 2 + {tmp_path / 'copy'}", length=3, size=32, cross_identity=1.0)[0]
    assert bool(pair.cross)


def test_a_missing_folder_is_named(clips: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        ClipIndex(f"{clips} + nowhere")
