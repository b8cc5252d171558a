"""Cutting videos into clips, with substitutes for the networks and one real face."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from megaportraits.data.clip_schema import ClipRecord
from megaportraits.errors import WeightsError
from megaportraits.faces import Face, FaceAnalyzer, fit_pose
from megaportraits.faces.crop import crop_of_pose
from megaportraits.faces.parsing import BODY, EARS, FACE, HAIR, NOTHING
from megaportraits.prepare.cutting import Clip, Cutter, Instruments
from megaportraits.prepare.settings import ExtractSettings
from tests.prepare.damage import portrait


class Fake:
    """Everything is the person, embeddings are what `people` says, quality is 50."""

    def __init__(self, *people: int) -> None:
        self.people = list(people)

    def matte(self, image: object, face: object, crop: object, size: int) -> np.ndarray:
        return np.ones((size, size), np.float32)

    def embed(self, image: object, landmarks: object) -> np.ndarray:
        who = self.people.pop(0) if len(self.people) > 1 else self.people[0]
        return np.eye(128, dtype=np.float32)[who]

    def __call__(self, image: object, face: object) -> float:
        return 50.0


@pytest.fixture(scope="module")
def found() -> tuple[np.ndarray, Face]:
    try:
        image = portrait(0)
        return image, FaceAnalyzer().detect(image)[0]
    except WeightsError as error:
        pytest.skip(f"weights cannot be had: {error}")


def cut(
    image: np.ndarray, face: Face, count: int, *people: int, settings: ExtractSettings | None = None
) -> tuple[Clip | None, int]:
    """Feed frames until one is refused; the clip and how many were taken."""
    fake = Fake(*people or (0,))
    cutter = Cutter(settings or ExtractSettings(size=64), Instruments(fake, fake, fake))
    for number in range(count):
        if not cutter.add(image, face, number / 5, 1):
            return cutter.finish(), number
    return cutter.finish(), count


def test_a_clip_has_a_record_and_three_members_a_frame(found: tuple[np.ndarray, Face]) -> None:
    clip, _ = cut(*found, 5)
    assert clip is not None
    names = [name for name, _ in clip.members]
    assert names == ["json", *(f"{n:03d}.{end}" for n in range(5) for end in ("jpg", "matte.png", "regions.png"))]
    entry = json.loads(dict(clip.members)["json"])
    record = ClipRecord.from_json(entry)
    assert (record.kind, record.size, record.fps, len(record.frames)) == ("real", 64, 5.0, 5)
    assert record.frames[0].expression is not None and record.frames[0].expression.shape == (52,)
    assert entry["source_times"] == [0, 0.2, 0.4, 0.6, 0.8] and len(entry["embedding"]) == 128
    assert entry["frame_measures"]["iqa"] == [50.0] * 5


def test_the_pose_label_projects_the_head_where_the_landmarks_are(found: tuple[np.ndarray, Face]) -> None:
    image, face = found
    clip, _ = cut(image, face, 4)
    assert clip is not None
    label = ClipRecord.from_json(json.loads(dict(clip.members)["json"])).frames[0]
    assert label.landmarks is not None
    crop = crop_of_pose(fit_pose(face.landmarks))
    assert np.abs(label.landmarks - crop.image_to_crop(face.landmarks[:, :2])).max() < 1e-4
    nose = label.pose.project(np.array([[0.0, 0.0, 10.0]]))[0, :2]
    assert np.linalg.norm(nose - label.landmarks[1]) < 0.15


def test_frames_are_never_upscaled(found: tuple[np.ndarray, Face]) -> None:
    image, face = found
    side = crop_of_pose(fit_pose(face.landmarks)).side
    clip, _ = cut(image, face, 4, settings=ExtractSettings(size=1024))
    assert clip is not None and 0.85 * side < clip.row["size"] <= side
    assert clip.row["crop_px"] == pytest.approx(side, abs=0.01)


def test_a_head_that_shrinks_below_the_frame_size_ends_the_clip(found: tuple[np.ndarray, Face]) -> None:
    image, face = found
    cutter = Cutter(ExtractSettings(size=1024), Instruments(Fake(0), Fake(0), Fake(0)))
    assert cutter.add(image, face, 0.0, 1)
    half = cv2.resize(image, None, fx=0.5, fy=0.5)
    away = Face(face.box / 2, face.landmarks / 2, face.presence, face.blendshapes)
    assert not all(cutter.add(half, away, 0.2 * step, 1) for step in range(1, 20))


def test_another_person_ends_the_clip_and_unsure_frames_go(found: tuple[np.ndarray, Face]) -> None:
    clip, taken = cut(*found, 20, 0, 0, 0, 7)  # seen at frames 0, 4, 8 and then somebody else at 12
    assert taken == 12 and clip is not None
    # Frames 9 to 11 came after the last look that showed the same person, and their own last look did not.
    assert clip.row["frames"] == 9


def test_a_clip_is_at_most_as_long_as_asked_and_short_ones_are_none(found: tuple[np.ndarray, Face]) -> None:
    clip, taken = cut(*found, 9, settings=ExtractSettings(size=64, max_frames=6))
    assert taken == 6 and clip is not None and clip.row["frames"] == 6
    assert cut(*found, 3)[0] is None


def test_webp_frames_are_members_too(found: tuple[np.ndarray, Face]) -> None:
    clip, _ = cut(*found, 4, settings=ExtractSettings(size=64, image="webp"))
    assert clip is not None and clip.members[1][0] == "000.webp" and clip.members[1][1][8:12] == b"WEBP"


def test_face_and_hair_lie_where_they_belong(found: tuple[np.ndarray, Face]) -> None:
    from megaportraits.faces.crop import extract
    from megaportraits.faces.matting import Matting
    from megaportraits.faces.parsing import region_mask

    image, face = found
    crop = crop_of_pose(fit_pose(face.landmarks))
    size = 128
    matte = np.rint(Matting().matte(image, face, crop, size) * 255).astype(np.uint8)
    points = crop.image_to_crop(face.landmarks[:, :2])
    labels = region_mask(extract(image, crop, size), matte, points, fit_pose(face.landmarks).to_crop_pose(crop))
    nose = ((points[1] + 1) * size / 2).astype(int)
    assert labels[nose[1], nose[0]] == FACE
    rows = {name: np.nonzero(labels == name)[0].mean() for name in (FACE, HAIR, BODY)}
    assert rows[HAIR] < rows[FACE] < rows[BODY]
    assert set(np.unique(labels)) <= {NOTHING, FACE, EARS, HAIR, BODY}
    assert (labels[matte == 0] == NOTHING).mean() > 0.99
