from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from megaportraits.baselines.base import Baseline
from megaportraits.baselines.storage import make_baseline
from megaportraits.config import FaceVid2VidConfig, FommConfig, parse_config
from megaportraits.evaluation.methods.trained import BaselineMethod
from megaportraits.evaluation.samples import EvaluationSample
from megaportraits.faces.matting import Matting
from tests.conftest import TINY_FACE_VID2VID, TINY_FOMM

CONFIGS = {"fomm": (FommConfig, TINY_FOMM), "face-vid2vid": (FaceVid2VidConfig, TINY_FACE_VID2VID)}


def model_of(kind: str, **changes: Any) -> Baseline[Any, Any]:
    torch.manual_seed(0)
    schema, values = CONFIGS[kind]
    return make_baseline(parse_config(schema, {**values, **changes}, kind)).eval()  # type: ignore[type-var]


def crossed(sample: EvaluationSample) -> EvaluationSample:
    return replace(sample, pair=replace(sample.pair, protocol="cross"))


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_baseline_yields_an_image_for_each_driver_frame(kind: str, short: EvaluationSample, matting: Matting) -> None:
    method = BaselineMethod("b", model_of(kind), {"weights": "b.safetensors"}, matting)
    made = list(method.perform(short))
    assert [image.shape for image in made] == [(32, 32, 3)] * 3 and made[0].dtype == np.uint8
    assert method.settings["transfer"] == "protocol" and method.settings["parameters"].endswith(" M")
    assert float(method.settings["GMAC per frame"]) >= 0


def test_relative_motion_of_the_first_frame_is_the_sources_own(short: EvaluationSample, matting: Matting) -> None:
    """Whatever the driver: its first frame gives the source's own motion. Absolute motion differs."""
    model = model_of("fomm")
    other = replace(short, frames=short.frames[1:])
    relative, absolute = (
        [next(BaselineMethod("b", model, {}, matting, transfer).perform(sample)) for sample in (short, other)]
        for transfer in ("relative", "absolute")
    )
    np.testing.assert_array_equal(relative[0], relative[1])
    assert not np.array_equal(absolute[0], absolute[1])


def test_by_default_motion_is_absolute_for_self_and_relative_for_others(
    short: EvaluationSample, matting: Matting
) -> None:
    model = model_of("face-vid2vid")
    for sample, transfer in ((short, "absolute"), (crossed(short), "relative")):
        got, wanted = (list(BaselineMethod("b", model, {}, matting, t).perform(sample)) for t in ("protocol", transfer))
        np.testing.assert_array_equal(got, wanted)


def test_transparent_images_show_the_sources_background_and_opaque_ones_do_not(
    short: EvaluationSample, matting: Matting
) -> None:
    images = {}
    for matte in (True, False):
        model = model_of("fomm", predict_matte=matte)
        with torch.no_grad():
            model.generator.output.weight.zero_()  # type: ignore[union-attr]
            model.generator.output.bias.fill_(-50)  # type: ignore[union-attr]
        images[matte] = next(BaselineMethod("b", model, {}, matting).perform(short))
    plate = short.plate(matting)
    assert (images[False] == 0).all()
    assert abs(float(images[True].mean()) - float(plate.mean())) < 3
