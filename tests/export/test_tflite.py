from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from megaportraits.errors import ExportError
from megaportraits.export.page import face_networks
from megaportraits.export.tflite import face_graph
from megaportraits.faces.networks import Network, task_member
from megaportraits.media import VideoReader
from megaportraits.pipeline.demo import demo_driver


@pytest.mark.parametrize(
    ("file", "member", "low"),
    [("face_detector.onnx", "face_detector.tflite", -1), ("face_landmarks.onnx", "face_landmarks_detector.tflite", 0)],
)
def test_face_networks_compute_in_onnx_what_they_compute_in_tflite(
    face_landmarker: Path, file: str, member: str, low: float
) -> None:
    session = onnxruntime.InferenceSession(face_networks()[file])
    (value,) = session.get_inputs()
    size = value.shape[-1]
    assert value.name == "image" and value.shape == [1, 3, size, size]
    frame = next(iter(VideoReader(demo_driver()))).image
    picture = cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    expected = Network(task_member(face_landmarker, member))(picture[None] * (1 - low) + low)
    got = session.run(None, {"image": picture.transpose(2, 0, 1)[None]})
    assert [array.shape for array in got] == [array.shape for array in expected]
    for ours, theirs in zip(got, expected, strict=True):
        assert np.abs(ours - theirs).max() < 1e-5 * max(1.0, float(np.abs(theirs).max()))


def test_a_network_that_takes_no_picture_is_refused(face_landmarker: Path) -> None:
    blendshapes = task_member(face_landmarker, "face_blendshapes.tflite")
    with pytest.raises(ExportError, match="one picture"):
        face_graph(blendshapes, ("weights",))
