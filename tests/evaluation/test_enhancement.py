"""The comparison of an enhancer with bicubic enlargement, for methods with known results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from megaportraits.errors import DataError
from megaportraits.evaluation.enhancement import as_it_is, bicubic_from, compare, find_photos
from megaportraits.evaluation.samples import TrueFrame
from megaportraits.faces import FaceAnalyzer, head_crop
from megaportraits.faces.detector import Blendshapes
from megaportraits.media import write_image
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import HeadPose

SIZE = 128


@dataclass(frozen=True)
class RenderedPicture:
    premultiplied: np.ndarray


class Echo:
    """Answers every driver with the driver itself: the perfect animator of a photograph that drives itself."""

    def encode(self, source: UInt8, /) -> None:
        return None

    def drive(
        self, portrait: None, driver: UInt8, /, *, pose: HeadPose | None, blendshapes: Blendshapes | None
    ) -> RenderedPicture:
        return RenderedPicture(np.dstack([driver / 255, np.ones(driver.shape[:2])]).astype(np.float32))


@pytest.fixture(scope="module")
def analyzer() -> FaceAnalyzer:
    return FaceAnalyzer(reject_animals=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_image(tmp_path / "photos" / "astronaut.png", np.ascontiguousarray(skimage.data.astronaut()))
    return tmp_path / "photos"


def test_sharp_pictures_win_where_they_should_and_flicker_is_counted(
    folder: Path, analyzer: FaceAnalyzer, tmp_path: Path
) -> None:
    photos, _ = find_photos(folder, analyzer, size=SIZE, limit=4)
    square = cv2.resize(photos[0].image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    face = analyzer.detect(square)[0]
    drivers = [TrueFrame(i, square, head_crop(face), face) for i in range(3)]
    methods = {"bicubic": (Echo(), bicubic_from(32)), "perfect": (Echo(), as_it_is)}
    report = compare(methods, photos, drivers, size=SIZE, analyzer=analyzer)
    means = report.means()
    assert report.photos == 1
    assert means["perfect"]["own/psnr"] > means["bicubic"]["own/psnr"]
    assert means["perfect"]["own/sharpness_laplacian_of_truth"] == pytest.approx(1, abs=0.02)
    assert means["bicubic"]["own/sharpness_laplacian_of_truth"] < 0.5
    assert means["perfect"]["own/csim_sface"] > 0.99 > means["bicubic"]["own/csim_sface"]
    assert means["perfect"]["cross/flicker_dis"] < 0.01  # a still driver gives a still video
    paths = report.write(tmp_path / "out")
    assert [path.name for path in paths] == ["hr.json", "hr.md", "hr.png"]
    assert json.loads(paths[0].read_text())["means"]["perfect"].keys() == means["bicubic"].keys()
    picture = cv2.imread(str(paths[2]))
    assert picture.shape == (SIZE, SIZE * 6, 3) and len(report.columns) == 6


def test_photographs_that_are_too_small_are_named(folder: Path, analyzer: FaceAnalyzer) -> None:
    with pytest.raises(DataError, match=r"astronaut.png.*4096 px are compared"):
        find_photos(folder, analyzer, size=4096, limit=1)


def test_bicubic_keeps_nothing_finer_than_the_base() -> None:
    checks = np.indices((64, 64)).sum(0) % 2
    picture = np.dstack([checks] * 3 + [np.ones((64, 64))]).astype(np.float32)
    assert np.allclose(bicubic_from(32)(picture, 64)[..., :3], 0.5)
    assert np.array_equal(as_it_is(picture, 64), picture)
