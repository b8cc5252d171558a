from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
import torch

from megaportraits.errors import ShapeError, WeightsError
from megaportraits.faces.detector import Face, FaceAnalyzer
from megaportraits.faces.recognition import SIZE, FaceEmbedder, align
from megaportraits.nn.iresnet import IResNet
from tests.faces.arcface_files import write_graph

Image = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def embedder(analyzer: FaceAnalyzer) -> FaceEmbedder:
    return FaceEmbedder()


def test_an_embedding_is_a_unit_vector_and_repeatable(embedder: FaceEmbedder, portrait: Image, face: Face) -> None:
    vector = embedder.embed(portrait, face.landmarks)
    assert vector.shape == (SIZE,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(vector, embedder.embed(portrait, face.landmarks))


def test_the_person_stays_the_same_in_other_light_size_and_turn(
    embedder: FaceEmbedder, analyzer: FaceAnalyzer, portrait: Image, face: Face
) -> None:
    vector = embedder.embed(portrait, face.landmarks)
    dark = (portrait * 0.6).astype(np.uint8)
    assert vector @ embedder.embed(dark, face.landmarks) > 0.9
    large = cv2.resize(portrait, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    assert vector @ embedder.embed(large, face.landmarks * 3) > 0.97
    turn = cv2.getRotationMatrix2D((226, 125), 25, 1.0)
    turned = cv2.warpAffine(portrait, turn, (512, 512))
    (again,) = analyzer.detect(turned)
    assert vector @ embedder.embed(turned, again.landmarks) > 0.75


def test_noise_is_somebody_else(embedder: FaceEmbedder, portrait: Image, face: Face) -> None:
    noise = np.random.default_rng(0).integers(0, 256, portrait.shape, dtype=np.uint8)
    cosine = embedder.embed(portrait, face.landmarks) @ embedder.embed(noise, face.landmarks)
    assert cosine < 0.363, "OpenCV Zoo's threshold for one person (its LFW protocol)"


def test_alignment_puts_eyes_nose_and_mouth_where_arcface_has_them(portrait: Image, face: Face) -> None:
    dots = np.zeros_like(portrait)
    places = [(face.landmarks[i, :2] - 0.5) for i in (468, 473)]
    for place in places:
        cv2.circle(dots, tuple(np.rint(place).astype(int)), 3, (255, 255, 255), -1)
    rows, columns = np.nonzero(align(dots, face.landmarks)[..., 0] > 128)
    left, right = columns < 56, columns >= 56
    assert (columns[left].mean(), rows[left].mean()) == pytest.approx((38.3, 51.7), abs=2.5)
    assert (columns[right].mean(), rows[right].mean()) == pytest.approx((73.5, 51.5), abs=2.5)


def test_other_landmarks_are_refused(embedder: FaceEmbedder) -> None:
    with pytest.raises(ShapeError, match="478"):
        embedder.embed(skimage.data.astronaut(), np.zeros((68, 2)))


def test_arcface_as_a_graph_sees_aligned_colours_between_minus_one_and_one(
    tmp_path: Path, portrait: Image, face: Face
) -> None:
    path, weight = write_graph(tmp_path / "arcface.onnx")
    mean = align(portrait, face.landmarks).reshape(-1, 3).mean(0) / 127.5 - 1
    expected = weight @ mean
    found = FaceEmbedder.arcface(path).embed(portrait, face.landmarks)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-4)


def test_arcface_as_a_checkpoint_runs_on_the_chosen_device(tmp_path: Path, portrait: Image, face: Face) -> None:
    torch.manual_seed(0)
    path = tmp_path / "backbone.pth"
    torch.save(IResNet((1, 1, 1, 1)).state_dict(), path)
    vector = FaceEmbedder.arcface(path).embed(portrait, face.landmarks)
    aligned = torch.from_numpy(align(portrait, face.landmarks)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(IResNet.from_file(path)(aligned))[0]
    np.testing.assert_allclose(vector, expected, atol=1e-5)
    with pytest.raises(NotImplementedError, match="copy out of meta"):
        FaceEmbedder.arcface(path, "meta").embed(portrait, face.landmarks)


def test_files_that_are_no_arcface_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="do not exist"):
        FaceEmbedder.arcface(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(WeightsError, match="not a readable"):
        FaceEmbedder.arcface(tmp_path / "text.onnx")
    with pytest.raises(WeightsError, match="gives 5 numbers"):
        FaceEmbedder.arcface(write_graph(tmp_path / "few.onnx", outputs=5)[0])
