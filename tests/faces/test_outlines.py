"""Outlines of a face by landmark numbers."""

from __future__ import annotations

import numpy as np

from megaportraits.faces.canonical import canonical_mesh
from megaportraits.faces.landmarks import LEFT_IRIS, MESH_COUNT, RIGHT_IRIS
from megaportraits.faces.outlines import FEATURES, LEFT_EYE, MIRRORED, RIGHT_EYE


def test_the_mean_face_mirrored_has_every_feature_where_its_mirror_image_is() -> None:
    vertices = canonical_mesh().vertices
    own = np.array([point for point in FEATURES if point < MESH_COUNT])
    mirrored = np.array(FEATURES)[list(MIRRORED)][: len(own)]
    assert np.abs(vertices[own] * (-1, 1, 1) - vertices[mirrored]).max() < 0.01  # centimetres
    assert [FEATURES[i] for i in MIRRORED[-2:]] == [LEFT_IRIS, RIGHT_IRIS]


def test_mirroring_twice_changes_nothing() -> None:
    assert [MIRRORED[i] for i in MIRRORED] == list(range(len(FEATURES)))


def test_an_eye_begins_at_its_outer_corner_and_has_its_lids_a_quarter_on() -> None:
    vertices = canonical_mesh().vertices
    for eye, side in ((RIGHT_EYE, -1), (LEFT_EYE, 1)):
        outer, upper, inner, lower = vertices[[eye[0], eye[4], eye[8], eye[12]]]
        assert side * outer[0] > side * inner[0] > 0
        assert upper[1] > lower[1]
