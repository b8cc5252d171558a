"""Reference statistics: computed from head crops, restored from a file, and refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from megaportraits.errors import DataError, ShapeError
from megaportraits.evaluation.methods.base import AlignedCopy
from megaportraits.evaluation.metrics.frechet import frechet_distance, moments
from megaportraits.evaluation.metrics.metric_networks import MetricNetworks
from megaportraits.evaluation.metrics.reference import (
    Reference,
    find_pictures,
    load_reference,
    measure_reference,
    save_reference,
)
from megaportraits.evaluation.pairs import Pair
from megaportraits.evaluation.run import Evaluation
from megaportraits.faces import FaceAnalyzer, extract, head_crop
from megaportraits.media import write_image

SIZE = 128


def features(count: int = 40, width: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + 3).astype(np.float32)


@pytest.fixture
def reference() -> Reference:
    return Reference("ffhq", "fd_effnetlite0", SIZE, moments([features(width=1280)]), {"no face": 2})


def test_moments_in_blocks_are_those_of_the_whole() -> None:
    rows = features()
    found = moments([rows[:7], rows[7:8], rows[8:]])
    assert found.count == 40
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.root.T @ found.root, np.cov(rows, rowvar=False), rtol=1e-6)
    other = features() * 2
    assert frechet_distance(found, other) == pytest.approx(frechet_distance(rows, other), rel=1e-9)
    with pytest.raises(ShapeError, match=r"\(n, 12\)"):
        moments([rows, rows[:, :3]])
    with pytest.raises(ShapeError, match="got none"):
        moments([])


def test_pictures_are_measured_as_head_crops_and_others_are_counted(
    networks: MetricNetworks, analyzer: FaceAnalyzer, talking: Path, tmp_path: Path
) -> None:
    face = skimage.data.astronaut()
    write_image(tmp_path / "a" / "face.png", face)
    write_image(tmp_path / "wall.png", np.full((300, 300, 3), 90, np.uint8))
    write_image(tmp_path / "small.png", face[::4, ::4])
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "talking.mp4").write_bytes(talking.read_bytes())
    files = find_pictures([tmp_path])
    assert [path.name for path in files] == ["face.png", "broken.jpg", "small.png", "talking.mp4", "wall.png"]
    found = measure_reference("set", files, networks, analyzer, size=SIZE, per_video=2)
    assert found.left_out == {"unreadable": 1, "no face": 1, "the head crop has less than 96 px": 1}
    assert (found.moments.count, found.network, found.size) == (3, networks.frechet, SIZE)
    crop = extract(face, head_crop(analyzer.detect(face)[0]), SIZE)
    alone = measure_reference("set", [files[0], files[0]], networks, analyzer, size=SIZE)
    np.testing.assert_allclose(alone.moments.mean, networks.features([crop])[0], atol=1e-4)
    with pytest.raises(DataError, match="1 no face"):
        measure_reference("set", [files[-1]], networks, analyzer, size=SIZE)
    with pytest.raises(DataError, match="found none"):
        (tmp_path / "empty").mkdir()
        find_pictures([tmp_path / "empty"])


def test_a_file_gives_back_what_was_measured_and_other_files_are_refused(reference: Reference, tmp_path: Path) -> None:
    path = tmp_path / "ffhq.npz"
    save_reference(path, reference)
    again = load_reference(path)
    assert replace(again, moments=reference.moments) == reference
    np.testing.assert_array_equal(again.moments.root, reference.moments.root)
    with pytest.raises(DataError, match="no such file"):
        load_reference(tmp_path / "none.npz")
    path.write_bytes(b"torn")
    with pytest.raises(DataError, match="not a file of reference statistics"):
        load_reference(path)
    np.savez(path, meta=np.array('{"format": 1}'), mean=np.zeros(3), root=np.zeros((3, 3)))
    with pytest.raises(DataError, match="not a file of reference statistics"):
        load_reference(path)
    save_reference(path, replace(reference, moments=moments([features() * np.nan])), overwrite=True)
    with pytest.raises(DataError, match="finite"):
        load_reference(path)
    np.savez_compressed(path, meta=np.array("{}"), mean=np.zeros(3), root=np.zeros((9, 1 << 20)))
    with pytest.raises(DataError, match="64 MB of memory"):
        load_reference(path)


def test_a_report_compares_with_the_reference_of_its_size(
    networks: MetricNetworks, analyzer: FaceAnalyzer, pair: Pair, reference: Reference, tmp_path: Path
) -> None:
    few = replace(pair, frames=2, protocol="cross")

    def run(**settings: object) -> Evaluation:
        return Evaluation(
            [AlignedCopy()], [few], tmp_path, SIZE, make_analyzer=lambda **_: analyzer, networks=networks, **settings
        )

    mine = replace(reference, network=networks.frechet, moments=moments([features(width=_width(networks))]))
    report = run(references=[replace(mine, size=1024), mine]).run()
    assert report.settings["real pictures of cross"] == "ffhq, 40 pictures of 128 px"
    made = report.rows[0].results["aligned copy"].features
    expected = frechet_distance(made, mine.moments)
    assert report.estimate("cross", "aligned copy", networks.frechet).value == pytest.approx(expected)
    assert run().run().estimate("cross", "aligned copy", networks.frechet).value != pytest.approx(expected)
    with pytest.raises(DataError, match=r"reference of 128 px for the protocol 'cross', got 256 px"):
        run(references=[replace(mine, size=256)]).run()
    with pytest.raises(DataError, match="of another_network, and this machine"):
        run(references=[replace(mine, network="another_network")]).run()


def _width(networks: MetricNetworks) -> int:
    return networks.features([np.zeros((32, 32, 3), np.uint8)]).shape[1]
