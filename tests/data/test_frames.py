from __future__ import annotations

from pathlib import Path

import pytest

from megaportraits.data.batches import collate
from megaportraits.data.frames import FrameDataset
from megaportraits.data.gaze_labels import read_gaze_labels
from megaportraits.errors import DataError
from tests.data.test_batches import same


def test_frames_depend_on_seed_and_index_alone(clips: Path) -> None:
    a, b = (FrameDataset(clips, length=9, size=16, seed=3) for _ in range(2))
    assert same(a[5], b[5])
    assert len(FrameDataset(clips, length=0, size=16)) == 6 * 4


def test_unknown_labels_are_nan(clips: Path) -> None:
    item = FrameDataset(clips, length=1, size=16)[0]
    assert item.gaze.isfinite().all() and item.blink.isnan()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_teachers_labels_replace_the_clips_own(clips: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"labels.{kind}"
    lines = {
        "csv": "key,frame,yaw,pitch,blink\nc2,1,10,-5,0.25\nc3,0,,,1\n",
        "jsonl": '{"key": "c2", "frame": 1, "gaze": [10, -5], "blink": 0.25}\n{"key": "c3", "frame": 0, "blink": 1}\n',
    }
    path.write_text(lines[kind])
    dataset = FrameDataset(clips, length=20, size=16, labels=path)
    seen = {tuple(dataset.describe(collate([dataset[i]]))): dataset[i] for i in range(20)}
    assert set(seen) == {("c2[1]",), ("c3[0]",)}
    assert seen["c2[1]",].gaze.tolist() == [10, -5] and seen["c2[1]",].blink == 0.25
    assert seen["c3[0]",].gaze.isnan().all() and seen["c3[0]",].blink == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"key": "c2"}\n', "line 1 is not a label"),
        ("a.jsonl", '{"key": "c2", "frame": 0, "gaze": [1]}\n', "expected yaw and pitch"),
        ("a.jsonl", "nonsense\n", "line 1 is not valid JSON"),
        ("a.csv", "clip,frame\n", r"lacks the columns \['key'\]"),
        ("a.csv", "key,frame,yaw,pitch,blink\nc2,1,much,0,0\n", "line 2 is not a label"),
        ("a.txt", "", "neither .csv nor .jsonl"),
    ],
)
def test_what_is_no_label_file_is_refused_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_gaze_labels(tmp_path / name)


def test_labels_of_other_clips_are_refused(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("key,frame,yaw,pitch,blink\nelsewhere,1,0,0,0\n")
    with pytest.raises(DataError, match="names no frame"):
        FrameDataset(clips, length=0, size=16, labels=tmp_path / "a.csv")
