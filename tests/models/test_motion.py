"""The blendshape correction: what it changes in z, in which direction, and the residuals that follow z."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from megaportraits.config import ModelConfig
from megaportraits.errors import ShapeError
from megaportraits.models.base import BaseModel
from megaportraits.models.motion import MAX_RESIDUAL_SIGMA, BlendshapeCorrection, Expression, infer_motion
from megaportraits.ops.warping import Pose


def some_correction() -> BlendshapeCorrection:
    torch.manual_seed(0)
    correction = BlendshapeCorrection(6, 3)
    for buffer in correction.buffers():
        buffer.copy_(torch.randn_like(buffer))
    return correction


def test_z_that_agrees_with_the_blendshapes_is_unchanged() -> None:
    correction, z = some_correction(), torch.randn(4, 6)
    torch.testing.assert_close(correction(z, z @ correction.readout.T + correction.offset).z, z)


def test_unknown_blendshapes_change_nothing_and_each_known_one_moves_z_along_its_own_column() -> None:
    correction, z, unknown = some_correction(), torch.randn(2, 6), torch.full((2, 3), torch.nan)
    torch.testing.assert_close(correction(z, unknown).z, z, atol=0, rtol=0)
    for score in range(3):
        measured = unknown.clone()
        measured[:, score] = z @ correction.readout[score] + correction.offset[score] + 0.5
        torch.testing.assert_close(correction(z, measured).z, z + 0.5 * correction.gain[:, score])


def test_before_it_is_found_the_correction_is_none() -> None:
    z = torch.randn(2, 6)
    assert torch.equal(BlendshapeCorrection(6, 3)(z, torch.rand(2, 3)).z, z)


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


def test_residuals_are_differences_from_the_corrected_zs_prediction_in_sigmas(
    tiny_config: ModelConfig,
) -> None:
    model, image = seeing_model(tiny_config), torch.rand(1, 3, 32, 32)
    correction, n = model.motion.correction, tiny_config.motion.z
    assert correction is not None

    def infer(*blendshapes: float) -> Expression:
        with torch.no_grad():
            return infer_motion(model, image, None, torch.tensor([blendshapes]) if blendshapes else None).expression

    unknown = torch.nan
    alone = infer()
    assert alone.z.shape == (1, n) and alone.residual is not None and alone.residual.shape == (1, 2)
    assert not alone.residual.any()
    torch.testing.assert_close(infer(unknown, unknown).vector, alone.vector)
    both = infer(0.7, unknown)
    before = 0.7 - alone.z[0] @ correction.readout[0] - correction.offset[0]
    torch.testing.assert_close(both.z[0], alone.z[0] + before * correction.gain[:, 0])
    after = 0.7 - both.z[0] @ correction.readout[0] - correction.offset[0]
    assert both.residual is not None
    torch.testing.assert_close(both.residual[0, 0], 2 * after)
    assert both.residual[0, 1] == 0
    assert torch.equal(both.vector, torch.cat([both.z, both.residual], 1)), "what the generators read"
    correction.offset[1] -= 100
    far = infer(unknown, 0.7).residual
    assert far is not None and far[0, 1] == MAX_RESIDUAL_SIGMA


def test_expressions_of_different_models_are_not_mixed() -> None:
    plain, seeing = Expression(torch.zeros(1, 4)), Expression(torch.zeros(1, 4), torch.zeros(1, 2))
    with pytest.raises(ShapeError, match="one with blendshape residuals and one without"):
        plain - seeing
    with pytest.raises(ShapeError):
        seeing.lerp(plain, 0.5)


def test_blendshapes_reach_the_pictures_and_the_warps(tiny_config: ModelConfig) -> None:
    model, (source, driver) = seeing_model(tiny_config), torch.rand(2, 1, 3, 32, 32)
    for parameter in model.parameters():
        if not parameter.any():  # what changes nothing at the start
            torch.nn.init.normal_(parameter, std=0.1)
    identity, motion = model.encode(source), infer_motion(model, driver)
    changed = replace(motion.expression, residual=torch.tensor([[1.0, 0.0]]))
    other = replace(motion, expression=changed)
    one, two = model.render(identity, motion), model.render(identity, other)
    assert (one.displacement - two.displacement).abs().max() > 1e-5
    assert (one.image - two.image).abs().max() > 1e-4


def test_a_known_pose_is_taken_over_and_places_the_face_crop(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    model, image = BaseModel(tiny_config).eval(), torch.rand(1, 3, 32, 32)
    known = Pose(torch.eye(3)[None], torch.tensor([[0.4, 0.0]]), torch.tensor([0.7]))
    told, own = infer_motion(model, image, known), infer_motion(model, image)
    assert told.pose is known
    crop = model.motion.face_crop(image, known)
    z = model.motion.to_z(model.motion.expression(crop).mean((2, 3)))
    torch.testing.assert_close(told.expression.z, z)
    assert not torch.allclose(told.expression.z, own.expression.z, atol=1e-4)
