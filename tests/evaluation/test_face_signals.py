from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from megaportraits.evaluation.metrics.face_signals import SIGNALS, motion_signals, signals_of
from megaportraits.faces import Face, FaceAnalyzer
from megaportraits.faces.canonical import canonical_mesh
from megaportraits.ops.geometry import euler_to_matrix

NAMES = list(SIGNALS)


def face_of(vertices: np.ndarray, rotation: np.ndarray, px_per_cm: float) -> Face:
    """Landmarks of a known mesh (478, 3) in a known pose."""
    camera = vertices @ rotation.T * px_per_cm
    landmarks = (camera * (1, -1, -1) + (300, 200, 0)).astype(np.float32)
    box = np.concatenate([landmarks[:, :2].min(0), landmarks[:, :2].max(0)])
    return Face(box, landmarks, 1.0, np.zeros(52, np.float32))


@pytest.fixture(scope="module")
def vertices() -> np.ndarray:
    mesh = canonical_mesh().vertices
    return np.concatenate([mesh, np.zeros((10, 3))])


def rest_eyes(vertices: np.ndarray) -> np.ndarray:
    """The middles of the eyes' corners, right and left eye, x and y."""
    return np.stack([vertices[[33, 133], :2].mean(0), vertices[[263, 362], :2].mean(0)])


@pytest.mark.parametrize("px_per_cm", [3.0, 40.0])
@pytest.mark.parametrize("angles", [(0, 0, 0), (25, -10, 15), (-30, 12, -20)])
def test_signals_are_the_heads_own_whatever_its_size_and_pose(
    vertices: np.ndarray, px_per_cm: float, angles: tuple[float, float, float]
) -> None:
    changed = vertices.copy()
    changed[14, 1] -= 1.5  # the lower lip
    changed[[380, 374, 373], 1] += 0.4  # the left lower lid
    changed[[300, 293, 334, 296, 336], 1] += 0.6  # the left brow
    changed[[468, 473], :2] = rest_eyes(vertices) + np.array([0.3, -0.2])  # both irises
    rest = motion_signals(face_of(vertices, np.eye(3), 10))
    found = motion_signals(face_of(changed, euler_to_matrix(*angles), px_per_cm))
    difference = dict(zip(NAMES, found - rest, strict=True))
    # Lips and lids are no rigid points, so that the pose is not touched.
    expected = {"lip_gap": 1.5, "eye_opening": -0.2, "eye_opening_left": -0.4, "eye_opening_right": 0.0}
    expected |= {"brow": 0.3}
    expected |= dict(zip(("yaw", "pitch", "roll"), angles, strict=True))
    for name, value in expected.items():
        assert difference[name] == pytest.approx(value, abs=2e-3), name
    gaze = found[NAMES.index("gaze_yaw")], found[NAMES.index("gaze_pitch")]
    assert gaze == pytest.approx(np.degrees(np.arcsin([0.3 / 1.2, 0.2 / 1.2])), abs=0.1)  # image right, down


def test_frames_without_a_face_are_unknown(vertices: np.ndarray) -> None:
    face = face_of(vertices, np.eye(3), 10)
    found = signals_of([face, None])
    assert found.shape == (2, len(SIGNALS))
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()
    assert signals_of([]).shape == (0, len(SIGNALS))


def test_a_real_smile_has_open_lips_and_two_open_eyes(analyzer: FaceAnalyzer) -> None:
    face = analyzer.require(np.ascontiguousarray(skimage.data.astronaut()))[0]
    found = dict(zip(NAMES, motion_signals(face), strict=True))
    assert 0.2 < found["lip_gap"] < 1.5
    assert 0.5 < found["eye_opening_left"] < 1.5
    assert found["eye_opening_right"] == pytest.approx(found["eye_opening_left"], abs=0.25)
