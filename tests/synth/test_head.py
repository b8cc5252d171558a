"""The morphable head: blendshapes add up, eyeballs rotate, damaged inputs are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from megaportraits.errors import DataError
from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.synth import facexmodel
from megaportraits.synth.head import REGIONS, MorphableHead, eyeball_center, optical_angle


def test_no_expression_is_the_base(head: MorphableHead) -> None:
    assert np.array_equal(head.express(head.neutral, head.coefficients({})), head.neutral)


def test_expressions_add_their_displacements(head: MorphableHead) -> None:
    weights = {"jawOpen": 0.4, "eyeBlink_L": 1.0, "mouthFunnel": 0.7}
    dense = head.neutral + sum(w * head.expression[head.index(name)] for name, w in weights.items())
    assert np.abs(head.express(head.neutral, head.coefficients(weights)) - dense).max() < 2e-4


def test_identity_modes_add_to_the_neutral_mesh(head: MorphableHead) -> None:
    expected = head.neutral + 2 * head.identity[0] - head.identity[1]
    assert head.shape([2, -1]) == pytest.approx(expected, abs=1e-5)


def test_a_gaze_turns_each_eyeball_about_its_own_centre(head: MorphableHead) -> None:
    turned = head.express(head.neutral, head.coefficients({}), (20, -10))
    rotation = euler_to_matrix(20, -10, 0)
    for eye in ("eye_L", "eye_R"):
        center = eyeball_center(head.neutral, eye)
        expected = (head.neutral[REGIONS[eye]] - center) @ rotation.T + center
        assert turned[REGIONS[eye]] == pytest.approx(expected, abs=1e-4)
    assert np.array_equal(turned[REGIONS["skin"]], head.neutral[REGIONS["skin"]])


@pytest.mark.parametrize(
    ("gaze", "lids"),
    [
        ((25, 0), {"eyeLookOut_L": 1, "eyeLookIn_R": 1}),  # to image right: the subject's left
        ((-25, 0), {"eyeLookIn_L": 1, "eyeLookOut_R": 1}),
        ((0, 12.5), {"eyeLookDown_L": 0.5, "eyeLookDown_R": 0.5}),
        ((0, -25), {"eyeLookUp_L": 1, "eyeLookUp_R": 1}),
        ((0, 0), {}),
    ],
)
def test_lids_follow_the_gaze(head: MorphableHead, gaze: tuple[float, float], lids: dict[str, float]) -> None:
    assert head.lid_coupling(gaze) == pytest.approx(lids)


def test_the_optical_axis_is_the_front_of_the_eyeball(head: MorphableHead) -> None:
    angle = optical_angle(head.neutral)
    eye = REGIONS["eye_L"]
    front = eye.start + int(np.argmax(head.neutral[eye, 2]))
    assert angle[front] < 2
    assert angle[REGIONS["skin"]].max() == 0


def test_another_file_is_refused_with_the_place_to_get_the_right_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", neutral=np.zeros((5, 3)))
    with pytest.raises(DataError, match="ICT-FaceKit"):
        MorphableHead.load(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(DataError, match=r"text\.npz"):
        MorphableHead.load(tmp_path / "text.npz")
    with pytest.raises(DataError, match="nowhere"):
        MorphableHead.load(tmp_path / "nowhere")


def test_an_obj_is_read_as_ict_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "quad.obj"
    path.write_text(
        "# licence\nusemtl M_Face\nv 0 0 0\nv 1 0 0\nv 1 1 0.5\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
        "f 1/1 2/2 3/3 4/4\nusemtl M_Teeth\nf 1/4 2/3 3/2\n"
    )
    assert facexmodel.read_vertices(path)[2] == pytest.approx([1, 1, 0.5])
    topology = facexmodel.read_topology(path)
    assert topology["triangles"].tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]
    assert topology["triangles_uv"].tolist() == [[0, 1, 2], [0, 2, 3], [3, 2, 1]]
    assert topology["material_names"][topology["triangle_material"]].tolist() == ["M_Face", "M_Face", "M_Teeth"]


def test_a_folder_of_objs_becomes_displacements(tmp_path: Path) -> None:
    def write(name: str, x: float) -> None:
        text = f"usemtl M_Face\nv {x} 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf 1/1 2/1 3/1\n"
        (tmp_path / f"{name}.obj").write_text(text)

    for name, x in (("generic_neutral_mesh", 0.0), ("identity000", 0.25), ("jawOpen", -2.0)):
        write(name, x)
    with pytest.raises(DataError, match="vertex_indices"):
        facexmodel.read_folder(tmp_path)
    (tmp_path / "vertex_indices.json").write_text('{"idx_to_landmark_verts": [0, 2]}')
    arrays = facexmodel.read_folder(tmp_path)
    assert arrays["identity"][0, 0].tolist() == [0.25, 0, 0]
    assert arrays["expression"][0, 0].tolist() == [-2, 0, 0]
    assert arrays["expression_names"].tolist() == ["jawOpen"]
    (tmp_path / "jawOpen.obj").write_text("v 0 0 0\n")
    with pytest.raises(DataError, match="1 vertices"):
        facexmodel.read_folder(tmp_path)
