from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from megaportraits.evaluation.methods.base import AlignedCopy, Animated, TrueCrops
from megaportraits.evaluation.metrics.face_signals import BLENDSHAPES
from megaportraits.evaluation.metrics.measure import measure, redetect
from megaportraits.evaluation.metrics.metric_networks import MetricNetworks
from megaportraits.evaluation.samples import EvaluationSample
from megaportraits.faces import FaceAnalyzer
from megaportraits.faces.matting import Matting
from tests.evaluation.conftest import Frozen, Nothing, Perfect


def truth_of(sample: EvaluationSample) -> list[np.ndarray]:
    return [true.square for true in sample.frames]


def test_a_perfect_copy_has_full_marks(
    sample: EvaluationSample, networks: MetricNetworks, analyzer: FaceAnalyzer, matting: Matting
) -> None:
    method = Animated("perfect", Perfect(), {}, matting)
    found = measure(method, sample, networks, analyzer, truth=truth_of(sample)).metrics
    for name in ("psnr", "psnr_masked", "psnr_face", "psnr_mouth", "psnr_eyes"):
        assert found[name] == math.inf
    for name in ("ssim", "ssim_masked", "detected_mediapipe478"):
        assert found[name] == pytest.approx(1, abs=1e-6)
    for name in (networks.perceptual, f"{networks.perceptual}_masked", "flicker_dis"):
        assert found[name] == pytest.approx(0, abs=1e-5)
    assert found["csim_sface"] > 0.6
    for signal in ("lip_gap", "yaw", "pitch"):
        assert found[f"corr_{signal}_mediapipe478"] > 0.9
    assert found["error_yaw_mediapipe478"] < 1 < 2 < found["gain_yaw_mediapipe478"] + 1.5
    assert found["corr_blendshapes_mediapipe52"] > 0.8
    assert {f"corr_{name}_mediapipe52" for name in BLENDSHAPES} <= set(found)
    # It is what the true crops reach, which are not compared with themselves.
    true = measure(TrueCrops(), sample, networks, analyzer, truth=truth_of(sample)).metrics
    assert "psnr" not in true
    for name, value in true.items():
        np.testing.assert_equal(found[name], value)


def test_a_frozen_picture_is_the_person_but_does_not_follow(
    sample: EvaluationSample, networks: MetricNetworks, analyzer: FaceAnalyzer, matting: Matting
) -> None:
    result = measure(
        Animated("frozen", Frozen(analyzer), {}, matting), sample, networks, analyzer, truth=truth_of(sample)
    )
    found = result.metrics
    assert found["psnr_mouth"] < 30
    assert abs(found["gain_yaw_mediapipe478"]) < 0.05
    assert abs(found["gain_lip_gap_mediapipe478"]) < 0.05
    assert found["csim_sface"] > 0.9
    assert found["csim_sface_neighbours"] == pytest.approx(1, abs=1e-4)
    assert found["warp_error_dis"] == 0 and found["flicker_dis"] < 0
    assert len(result.thumbnails) == 5 and result.features.shape[0] == result.curves.shape[0] == 12


def test_outputs_without_a_face_give_a_reason_instead_of_a_number(
    short: EvaluationSample, networks: MetricNetworks, analyzer: FaceAnalyzer, matting: Matting
) -> None:
    result = measure(Animated("nothing", Nothing(), {}, matting), short, networks, analyzer, truth=None)
    assert result.metrics["detected_mediapipe478"] == 0
    assert math.isnan(result.metrics["corr_yaw_mediapipe478"])
    assert result.reasons["corr_yaw_mediapipe478"] == "0 common frames, at least 8 needed"
    assert math.isnan(result.metrics["csim_sface"]) and math.isnan(result.metrics["error_yaw_mediapipe478"])
    assert not any(name.startswith(("psnr", "ssim")) for name in result.metrics)


def test_masked_metrics_do_not_see_the_background(
    short: EvaluationSample, networks: MetricNetworks, analyzer: FaceAnalyzer
) -> None:
    class OtherWall(TrueCrops):
        name = "other wall"

        def perform(self, sample: EvaluationSample, /):  # type: ignore[no-untyped-def]
            for true in sample.frames:
                yield np.where(true.head[..., None], true.square, 255 - true.square)

    found = measure(OtherWall(), short, networks, analyzer, truth=truth_of(short)).metrics
    assert found["psnr_masked"] == math.inf > 12 > found["psnr"]
    assert found["ssim_masked"] == pytest.approx(1, abs=1e-6)


def test_the_aligned_copy_is_below_perfect_and_above_nothing(
    short: EvaluationSample, networks: MetricNetworks, analyzer: FaceAnalyzer
) -> None:
    found = measure(AlignedCopy(), short, networks, analyzer, truth=truth_of(short)).metrics
    assert 15 < found["psnr_face"] < 45
    assert found["csim_sface"] > 0.9


def test_faces_come_back_in_the_outputs_own_pixels(short: EvaluationSample, analyzer: FaceAnalyzer) -> None:
    true = short.frames[0]
    (face,) = redetect([true.square], analyzer)
    assert face is not None
    pixels = (true.points + 1) * (true.square.shape[0] / 2)
    assert np.abs(face.landmarks[:, :2] - pixels).mean() < 1


def test_measuring_twice_gives_the_same_numbers(
    short: EvaluationSample, networks: MetricNetworks, analyzer: FaceAnalyzer, matting: Matting
) -> None:
    first, second = (
        measure(AlignedCopy(), replace(short), networks, analyzer, truth=truth_of(short)) for _ in range(2)
    )
    np.testing.assert_equal(first.metrics, second.metrics)
    np.testing.assert_array_equal(first.features, second.features)
