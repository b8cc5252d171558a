"""RT-GENE and RT-BENE: their angles, their pictures of eyes, and ONNX files with their interfaces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from megaportraits.errors import WeightsError
from megaportraits.faces.rt_gene import (
    BlinkTeacher,
    GazeTeacher,
    eye_pictures,
    gaze_from_rt_gene,
    head_to_rt_gene,
)
from megaportraits.ops.geometry import HeadPose, euler_to_matrix
from megaportraits.training.gaze import angle_between
from tests.onnx_files import blink_file, gaze_file

pytest.importorskip("onnxruntime")


def rt_gene_direction(theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """As RT-GENE writes it, in its axes (x image right, y down, z away), turned into ours (y up, z to the camera)."""
    return np.stack([-np.cos(theta) * np.sin(phi), np.sin(theta), np.cos(theta) * np.cos(phi)], -1)


def test_rt_genes_angles_and_ours_name_the_same_direction() -> None:
    angles = np.random.default_rng(0).uniform(-0.6, 0.6, (50, 2))
    gaze = gaze_from_rt_gene(angles)
    yaw, pitch = np.radians(gaze[:, 0]), np.radians(gaze[:, 1])
    ours = np.stack([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)], -1)
    assert ours == pytest.approx(rt_gene_direction(angles[:, 0], angles[:, 1]), abs=1e-6)
    assert float(angle_between(torch.tensor(np.radians(gaze)), torch.tensor(np.radians(gaze))).max()) < 1e-3


def test_theta_looks_up_and_phi_to_image_left() -> None:
    assert gaze_from_rt_gene(np.array([0.1, 0.0])) == pytest.approx([0, -np.degrees(0.1)], abs=1e-4)  # pitch is down
    assert gaze_from_rt_gene(np.array([0.0, 0.1])) == pytest.approx([-np.degrees(0.1), 0], abs=1e-4)  # yaw is right


def test_a_heads_pose_is_the_direction_of_its_face() -> None:
    assert head_to_rt_gene(euler_to_matrix(20, 0, 0)) == pytest.approx([0, -np.radians(20)], abs=1e-6)
    assert head_to_rt_gene(euler_to_matrix(0, 15, 0)) == pytest.approx([-np.radians(15), 0], abs=1e-6)
    for yaw, pitch, roll in np.random.default_rng(1).uniform(-40, 40, (20, 3)):
        rotation = euler_to_matrix(yaw, pitch, roll)
        theta, phi = head_to_rt_gene(rotation)
        nose = HeadPose(rotation, np.zeros(2), 16.0).project(np.array([[0.0, 0.0, 1.0]]))[0]
        # RT-GENE draws a direction from the eye to (-cos(theta) sin(phi), -sin(theta)), y down.
        assert (-np.cos(theta) * np.sin(phi), -np.sin(theta)) == pytest.approx(nose[:2] / 1.0, abs=1e-5)


def face(roll: float, size: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """A dark picture with a red left and a blue right eye, 40 px wide, and the landmarks of their corners."""
    image = np.zeros((size, size, 3), np.uint8)
    turn = np.radians(roll)
    across, down = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    marks = np.zeros((478, 2), np.float32)
    y, x = np.mgrid[:size, :size] + 0.5
    for offset, corners, color in ((-45, (33, 133), (0, 0, 250)), (45, (362, 263), (250, 0, 0))):
        middle = np.array([size / 2, size / 2]) + across * offset
        for side, corner in zip((-20, 20), corners, strict=True):
            marks[corner] = (middle + across * side) / (size / 2) - 1
        u, v = (
            (x - middle[0]) * across[0] + (y - middle[1]) * across[1],
            (x - middle[0]) * down[0] + (y - middle[1]) * down[1],
        )
        image[(np.abs(u) < 20) & (np.abs(v) < 6)] = color
    return image, marks


@pytest.mark.parametrize("roll", [0.0, 25.0, -40.0])
def test_eyes_are_cut_out_level_and_at_half_the_pictures_width(roll: float) -> None:
    left, right = eye_pictures(*face(roll))
    assert left.shape == right.shape == (36, 60, 3)
    for eye, channel in ((left, 0), (right, 2)):
        lit = eye[..., channel] > 125
        assert eye[..., 1].max() < 30 and lit[18, 30]
        rows, columns = np.nonzero(lit)
        assert abs(columns.min() - 15) <= 2 and abs(columns.max() - 44) <= 2  # the eye is half as wide as its picture
        assert abs(rows.min() - 13) <= 2 and abs(rows.max() - 22) <= 2


def test_one_network_gets_rt_genes_offset_and_an_ensemble_its_mean(tmp_path: Path) -> None:
    image, marks = face(0)
    rotations = [euler_to_matrix(10, 5, 0), euler_to_matrix(-20, 0, 0)]
    one = GazeTeacher([gaze_file(tmp_path / "a.onnx", factor=0.0)])([image] * 2, [marks] * 2, rotations)
    head = gaze_from_rt_gene(head_to_rt_gene(np.stack(rotations)))
    assert one == pytest.approx(head - [np.degrees(0.11), 0], abs=1e-3)
    both = [gaze_file(tmp_path / "b.onnx", factor=0.1), gaze_file(tmp_path / "c.onnx", factor=-0.1)]
    assert GazeTeacher(both)([image] * 2, [marks] * 2, rotations) == pytest.approx(head, abs=1e-3)
    left, right = (
        ((eye / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).mean() for eye in eye_pictures(image, marks)
    )
    eyes = GazeTeacher([both[0]], offset=0.0)([image], [marks], [np.eye(3)])
    assert eyes[0] == pytest.approx(-np.degrees([0.1 * right, 0.1 * left]), abs=1e-2)  # yaw is -phi, the second


def test_files_for_one_item_at_a_time_and_for_larger_eyes_say_the_same(tmp_path: Path) -> None:
    image, marks = face(10)
    rotations = [euler_to_matrix(yaw, 0, 0) for yaw in (0, 10, 20)]
    any_number = GazeTeacher([gaze_file(tmp_path / "a.onnx")])([image] * 3, [marks] * 3, rotations)
    one = GazeTeacher([gaze_file(tmp_path / "b.onnx", batch=1)])([image] * 3, [marks] * 3, rotations)
    assert one == pytest.approx(any_number, abs=1e-4)
    larger = GazeTeacher([gaze_file(tmp_path / "c.onnx", height=72)])([image] * 3, [marks] * 3, rotations)
    assert larger == pytest.approx(any_number, abs=2)


def test_a_blink_is_the_mean_probability(tmp_path: Path) -> None:
    image, marks = face(0)
    files = [blink_file(tmp_path / "a.onnx", factor=0.5), blink_file(tmp_path / "b.onnx", factor=-0.5)]
    assert BlinkTeacher(files)([image], [marks]) == pytest.approx([0.5], abs=1e-6)
    total = sum(((e / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).mean() for e in eye_pictures(image, marks))
    assert BlinkTeacher(files[:1])([image], [marks]) == pytest.approx([1 / (1 + np.exp(-0.5 * total))], abs=1e-4)


def test_files_with_another_interface_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"expected RT-GENE with the inputs \(any, 3, any, any\)"):
        GazeTeacher([blink_file(tmp_path / "blink.onnx")])
    with pytest.raises(WeightsError, match="expected RT-BENE with the inputs"):
        BlinkTeacher([gaze_file(tmp_path / "gaze.onnx")])
    with pytest.raises(WeightsError, match="no such file"):
        BlinkTeacher([tmp_path / "none.onnx"])
    (tmp_path / "noise.onnx").write_bytes(bytes(range(200)))
    with pytest.raises(WeightsError, match="cannot run"):
        BlinkTeacher([tmp_path / "noise.onnx"])
    with pytest.raises(WeightsError, match="finite outputs"):
        BlinkTeacher([blink_file(tmp_path / "nan.onnx", factor=float("nan"))])
