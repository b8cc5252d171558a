"""The correction of z by measured scores: what it leaves alone, and which way it moves."""

from __future__ import annotations

import torch

from megaportraits.models.motion import BlendshapeCorrection


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
