"""Adversarial losses of the base model (3.1, B.1): hinge and feature matching.

The functions take the output of `models.discriminator.Discriminator`: for each scale a score map and its features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Judgements = Sequence[tuple[Tensor, Sequence[Tensor]]]


def discriminator_hinge(real: Judgements, fake: Judgements) -> Tensor:
    """The discriminator's hinge loss (Lim and Ye, 2017): real patches above 1, fake patches below -1.

    Returns:
        Scalar, the mean over patches and scales; 2 for a discriminator whose scores are all 0.
    """
    terms = [
        F.relu(1 - r.float()).mean() + F.relu(1 + f.float()).mean() for (r, _), (f, _) in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).mean()


def generator_hinge(fake: Judgements) -> Tensor:
    """The generator's hinge loss: minus the mean score of its images, over patches and scales."""
    return -torch.stack([score.float().mean() for score, _ in fake]).mean()


def feature_matching(real: Judgements, fake: Judgements) -> Tensor:
    """Mean absolute difference of the discriminator's features (Wang et al., 2018); no gradient goes to `real`.

    Returns:
        Scalar, the mean over scales and layers.
    """
    terms = [
        F.l1_loss(f.float(), r.detach().float())
        for (_, wanted), (_, got) in zip(real, fake, strict=True)
        for r, f in zip(wanted, got, strict=True)
    ]
    return torch.stack(terms).mean()


def judge(discriminator: Callable[[Tensor], Judgements], real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's hinge loss on images (B, 3, S, S) and (C, 3, S, S), as one batch."""
    count, both = len(real), discriminator(torch.cat([real, fake]))
    return discriminator_hinge([(s[:count], []) for s, _ in both], [(s[count:], []) for s, _ in both])


def generator_terms(
    discriminator: Callable[[Tensor], Judgements], prediction: Tensor, target: Tensor, crossed: Tensor | None = None
) -> dict[str, Tensor]:
    """The generator's losses, with gradient through the discriminator to the images.

    Args:
        discriminator: maps images (B, 3, S, S) to scores and features.
        prediction: (B, 3, S, S), images with a known target.
        target: (B, 3, S, S), their targets.
        crossed: (C, 3, S, S), images of cross-driving, which have no target. C may be 0; None is the same.

    Returns:
        `adversarial` and `feature_matching` of the predictions, and `cross_adversarial` where there are crossed images.
    """
    count, crosses = len(prediction), crossed is not None and len(crossed) > 0
    with torch.no_grad():
        real = discriminator(target)
    fake = discriminator(prediction if crossed is None else torch.cat([prediction, crossed]))
    own = [(score[:count], [f[:count] for f in features]) for score, features in fake]
    terms = {"adversarial": generator_hinge(own), "feature_matching": feature_matching(real, own)}
    if crosses:
        terms["cross_adversarial"] = generator_hinge([(score[count:], []) for score, _ in fake])
    return terms
