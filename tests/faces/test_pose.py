"""Head pose: exact recovery, equivariance on a real photograph, indifference to expression."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from megaportraits.errors import ShapeError, WeightsError
from megaportraits.faces.canonical import CanonicalMesh, canonical_mesh
from megaportraits.faces.detector import Face, FaceAnalyzer
from megaportraits.faces.pose import FacePose, fit_pose, similarity
from megaportraits.ops.geometry import Crop, HeadPose, euler_to_matrix, matrix_to_euler


@pytest.fixture(scope="module")
def mesh() -> CanonicalMesh:
    try:
        return canonical_mesh()
    except WeightsError as error:
        pytest.skip(f"weights cannot be had: {error}")


def landmarks_of(points: np.ndarray, pose: FacePose) -> np.ndarray:
    """Head points as the landmark network would report them: pixels, z away from the camera."""
    depth = -(points @ pose.rotation.T)[:, 2] * pose.px_per_cm
    return np.column_stack([pose.project(points), depth])


@pytest.mark.parametrize("angles", [(0, 0, 0), (35, -20, 15), (-60, 10, -80), (5, 30, 170)])
def test_a_projected_mesh_gives_its_pose_back(mesh: CanonicalMesh, angles: tuple) -> None:
    pose = FacePose(euler_to_matrix(*angles), 7.3, np.array([321.0, 123.0]))
    fitted = fit_pose(landmarks_of(mesh.vertices, pose))
    np.testing.assert_allclose(fitted.rotation, pose.rotation, atol=1e-9)
    assert fitted.px_per_cm == pytest.approx(7.3)
    np.testing.assert_allclose(fitted.origin, pose.origin, atol=1e-8)
    assert fitted.residual < 1e-8


def test_lips_brows_and_lids_do_not_move_the_head(mesh: CanonicalMesh) -> None:
    pose = FacePose(euler_to_matrix(20, 5, -8), 5.0, np.array([100.0, 90.0]))
    moved = mesh.vertices.copy()
    loose = np.setdiff1d(np.arange(468), mesh.rigid)
    moved[loose] += np.random.default_rng(0).normal(0, 1.5, (len(loose), 3))
    fitted = fit_pose(landmarks_of(moved, pose))
    np.testing.assert_allclose(fitted.rotation, pose.rotation, atol=1e-9)
    assert fitted.px_per_cm == pytest.approx(5.0)


def test_the_canonical_mesh_stands_in_head_axes(mesh: CanonicalMesh) -> None:
    """Eyes and nose of the mean face lie where the conventions put them: cm, +x subject's left, +z forward."""
    eyes = (mesh.vertices[[33, 362]] + mesh.vertices[[133, 263]]) / 2
    np.testing.assert_allclose(eyes[:, 0], [-3.116, 3.116], atol=0.15)
    np.testing.assert_allclose(eyes[:, 1], 3.602, atol=0.35)
    assert mesh.vertices[4, 2] == mesh.vertices[:, 2].max()
    assert mesh.vertices[152, 1] < mesh.vertices[13, 1] < mesh.vertices[4, 1] < mesh.vertices[10, 1]
    assert mesh.triangles.shape == (898, 3)
    assert mesh.rigid_weights.sum() == pytest.approx(1)


def test_pose_in_crop_coordinates_agrees_with_pose_in_pixels() -> None:
    pose = FacePose(euler_to_matrix(-25, 12, 4), 6.1, np.array([333.0, 201.0]))
    crop = Crop(320.5, 190.25, 201.0)
    points = np.random.default_rng(1).uniform(-12, 12, (30, 3))
    crop_pose = pose.to_crop_pose(crop)
    assert isinstance(crop_pose, HeadPose)
    np.testing.assert_allclose(crop_pose.project(points)[:, :2], crop.image_to_crop(pose.project(points)), atol=1e-12)


def test_similarity_recovers_an_exact_motion_and_never_mirrors() -> None:
    rng = np.random.default_rng(2)
    source, weight = rng.normal(size=(12, 3)), rng.uniform(0.1, 1, 12)
    weight /= weight.sum()
    rotation = euler_to_matrix(50, -70, 110)
    scale, got, shift = similarity(source, 2.5 * source @ rotation.T + (1, -2, 3), weight)
    assert scale == pytest.approx(2.5)
    np.testing.assert_allclose(got, rotation, atol=1e-12)
    np.testing.assert_allclose(shift, (1, -2, 3), atol=1e-12)
    _, mirrored, _ = similarity(source, source * (-1, 1, 1), weight)
    assert np.linalg.det(mirrored) == pytest.approx(1)


def test_the_portraits_head_looks_at_the_camera(face: Face) -> None:
    pose = fit_pose(face.landmarks)
    yaw, pitch, roll = matrix_to_euler(pose.rotation)
    assert abs(yaw) < 6
    assert 0 < pitch < 18
    assert abs(roll) < 8
    # A head is some 6.3 cm from iris to iris.
    irises = np.linalg.norm(face.landmarks[468, :2] - face.landmarks[473, :2])
    assert irises / pose.px_per_cm == pytest.approx(6.3, abs=0.7)


def test_a_mirrored_photograph_gives_the_mirrored_pose(
    analyzer: FaceAnalyzer, portrait: np.ndarray, face: Face
) -> None:
    (mirrored,) = analyzer.detect(np.ascontiguousarray(portrait[:, ::-1]))
    yaw, pitch, roll = matrix_to_euler(fit_pose(face.landmarks).rotation)
    flipped = matrix_to_euler(fit_pose(mirrored.landmarks).rotation)
    np.testing.assert_allclose(flipped, (-yaw, pitch, -roll), atol=2.0)


@pytest.mark.parametrize("angle", [-30, 25])
def test_turning_the_photograph_turns_the_roll(
    angle: float, analyzer: FaceAnalyzer, portrait: np.ndarray, face: Face
) -> None:
    # OpenCV's positive angles are counter-clockwise for the viewer, as our roll is.
    matrix = cv2.getRotationMatrix2D((255.5, 255.5), angle, 1.0)
    turned = cv2.warpAffine(portrait, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    rolls = [matrix_to_euler(fit_pose(found.landmarks).rotation)[2] for found in (face, analyzer.detect(turned)[0])]
    assert rolls[1] - rolls[0] == pytest.approx(angle, abs=2.0)


def test_twice_the_photograph_is_twice_the_head(analyzer: FaceAnalyzer, portrait: np.ndarray, face: Face) -> None:
    double = cv2.resize(portrait, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    small, large = fit_pose(face.landmarks), fit_pose(analyzer.detect(double)[0].landmarks)
    assert large.px_per_cm / small.px_per_cm == pytest.approx(2, rel=0.02)
    np.testing.assert_allclose(large.origin, small.origin * 2, atol=2.5)


@pytest.mark.parametrize("bad", [np.zeros((467, 3)), np.zeros((478, 2)), np.full((478, 3), np.nan)])
def test_other_landmarks_are_refused(bad: np.ndarray, mesh: CanonicalMesh) -> None:
    with pytest.raises(ShapeError):
        fit_pose(bad)


@pytest.mark.skipif("MEGAPORTRAITS_SHARED" not in os.environ, reason="needs ICT-FaceKit")
def test_the_ict_head_gives_its_pose_back() -> None:
    """An independent mesh: ICT's neutral head at the corresponding vertices, at known poses."""
    with np.load(Path(os.environ["MEGAPORTRAITS_SHARED"]) / "ict_facekit" / "ict_facekit.npz") as head:
        vertices = head["neutral"][head["mediapipe468_vertex"]].astype(np.float64)
    for angles in [(0, 0, 0), (25, 10, 5), (-40, -15, -20)]:
        pose = FacePose(euler_to_matrix(*angles), 6.0, np.array([250.0, 260.0]))
        fitted = fit_pose(landmarks_of(vertices, pose))
        np.testing.assert_allclose(matrix_to_euler(fitted.rotation), angles, atol=2.0)
        assert fitted.px_per_cm == pytest.approx(6.0, rel=0.03)
        offset = fitted.project([[0, 1, 0]]) - pose.project([[0, 1, 0]])
        assert np.linalg.norm(offset) / 6.0 < 0.4
