from __future__ import annotations

import pytest
import torch

from megaportraits.config import DiscriminatorConfig
from megaportraits.errors import ShapeError
from megaportraits.losses.adversarial import discriminator_hinge, feature_matching, generator_hinge
from megaportraits.models.discriminator import Discriminator

SMALL = DiscriminatorConfig(widths=(4, 6, 8), strides=(2, 2, 1), scales=2)


def judged(value: float) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
    return [(torch.full((2, 1, 3, 3), value), [torch.full((2, 4, 5, 5), value)])]


@pytest.mark.parametrize(("real", "fake", "expected"), [(0, 0, 2), (1, -1, 0), (5, -7, 0), (-1, 1, 4), (0.5, -1, 0.5)])
def test_hinge_asks_for_real_above_1_and_fake_below_minus_1(real: float, fake: float, expected: float) -> None:
    assert float(discriminator_hinge(judged(real), judged(fake))) == expected


def test_the_generators_hinge_is_minus_the_mean_score_over_scales() -> None:
    assert float(generator_hinge(judged(3) + judged(-1))) == -1


def test_feature_matching_is_the_mean_l1_and_teaches_only_the_fake_side() -> None:
    real, fake = torch.ones(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    loss = feature_matching([(real, [real, 2 * real])], [(fake, [fake, fake])])
    assert float(loss.detach()) == 1.5
    loss.backward()
    assert real.grad is None and fake.grad is not None and fake.grad.all()


def test_every_scale_judges_patches_of_half_the_size_with_its_own_weights() -> None:
    net = Discriminator(SMALL)
    scores = [score.shape for score, _ in net(torch.rand(2, 3, 64, 64))]
    assert scores == [(2, 1, 16, 16), (2, 1, 8, 8)]
    assert not {id(p) for p in net.scales[0].parameters()} & {id(p) for p in net.scales[1].parameters()}


def test_a_patch_sees_no_further_than_its_receptive_field() -> None:
    torch.manual_seed(0)
    net = Discriminator(DiscriminatorConfig(widths=(4,), strides=(2,), scales=1))  # one layer: no instance norm
    image = torch.rand(1, 3, 32, 32)
    changed = image.clone()
    changed[..., 20:, :] = 0
    (before, _), (after, _) = net(image)[0], net(changed)[0]
    assert torch.equal(before[..., :9, :], after[..., :9, :]) and not torch.equal(before, after)


def test_every_weight_of_the_discriminator_learns() -> None:
    torch.manual_seed(0)
    net = Discriminator(SMALL)
    discriminator_hinge(net(torch.rand(2, 3, 32, 32)), net(torch.rand(2, 3, 32, 32))).backward()
    # A bias before an instance norm has no effect, hence no gradient.
    silent = [n for n, p in net.named_parameters() if p.ndim > 1 and (p.grad is None or not p.grad.any())]
    assert silent == []


def test_images_too_small_for_the_coarsest_scale_are_refused() -> None:
    with pytest.raises(ShapeError, match="at least 16 px"):
        Discriminator(SMALL)(torch.rand(1, 3, 8, 8))
