"""Measured scores: what their correction of z leaves alone, which way it moves, and how they follow z."""

from __future__ import annotations

import torch

from megaportraits.config import ModelConfig
from megaportraits.models.base import BaseModel
from megaportraits.models.motion import FARTHEST, BlendshapeCorrection


def some_correction() -> BlendshapeCorrection:
    torch.manual_seed(0)
    correction = BlendshapeCorrection(6, 3)
    for buffer in correction.buffers():
        buffer.copy_(torch.randn_like(buffer))
    return correction


def test_z_that_says_what_was_measured_stays() -> None:
    correction, z = some_correction(), torch.randn(4, 6)
    torch.testing.assert_close(correction(z, z @ correction.readout.T + correction.offset), z)


def test_unknown_scores_change_nothing_and_each_known_one_moves_z_along_its_own_column() -> None:
    correction, z, unknown = some_correction(), torch.randn(2, 6), torch.full((2, 3), torch.nan)
    torch.testing.assert_close(correction(z, unknown), z, atol=0, rtol=0)
    for score in range(3):
        measured = unknown.clone()
        measured[:, score] = z @ correction.readout[score] + correction.offset[score] + 0.5
        torch.testing.assert_close(correction(z, measured), z + 0.5 * correction.gain[:, score])


def test_before_it_is_found_the_correction_is_none() -> None:
    z = torch.randn(2, 6)
    assert torch.equal(BlendshapeCorrection(6, 3)(z, torch.rand(2, 3)), z)


def seeing_model(config: ModelConfig) -> BaseModel:
    """A model that sees two scores beside z."""
    torch.manual_seed(0)
    motion = config.motion.model_copy(
        update={"blendshapes": ("jawOpen", "mouthUpperUpLeft"), "append_blendshapes": True}
    )
    model = BaseModel(config.model_copy(update={"motion": motion})).eval()
    assert model.motion.correction is not None
    for buffer in model.motion.correction.buffers():
        buffer.copy_(0.3 * torch.randn_like(buffer))
    model.motion.correction.deviation.fill_(0.5)
    return model


def test_what_scores_say_beyond_the_corrected_z_follows_it_in_deviations(tiny_config: ModelConfig) -> None:
    model, image = seeing_model(tiny_config), torch.rand(1, 3, 32, 32)
    correction, n = model.motion.correction, tiny_config.motion.z
    assert correction is not None
    alone = model.motion(image).z.detach()
    assert alone.shape == (1, n + 2) and not alone[:, n:].any()
    torch.testing.assert_close(model.motion(image, torch.full((1, 2), torch.nan)).z, alone)
    both = model.motion(image, torch.tensor([[0.7, torch.nan]])).z.detach()
    before = 0.7 - alone[0, :n] @ correction.readout[0] - correction.offset[0]
    torch.testing.assert_close(both[0, :n], alone[0, :n] + before * correction.gain[:, 0])
    after = 0.7 - both[0, :n] @ correction.readout[0] - correction.offset[0]
    torch.testing.assert_close(both[0, n], 2 * after)
    assert both[0, n + 1] == 0
    correction.offset[1] -= 100
    assert model.motion(image, torch.tensor([[torch.nan, 0.7]])).z[0, n + 1] == FARTHEST


def test_scores_reach_the_pictures_and_the_warps(tiny_config: ModelConfig) -> None:
    model, (source, driver) = seeing_model(tiny_config), torch.rand(2, 1, 3, 32, 32)
    for parameter in model.parameters():
        if not parameter.any():  # what changes nothing at the start
            torch.nn.init.normal_(parameter, std=0.1)
    identity, motion = model.encode(source), model.motion(driver)
    other = type(motion)(motion.pose, motion.z + torch.tensor([0.0] * tiny_config.motion.z + [1.0, 0.0]))
    one, two = model.render(identity, motion), model.render(identity, other)
    assert (one.displacement - two.displacement).abs().max() > 1e-5
    assert (one.image - two.image).abs().max() > 1e-4
