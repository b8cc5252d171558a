"""The cycle-consistency loss on motion descriptors (3.1, eq. 6-7; CosFace, Wang et al., 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    positives: Tensor,
    z_driver: Tensor,
    z_other: Tensor,
    *,
    scale: float = 5.0,
    margin: float = 0.2,
) -> Tensor:
    """Large-margin cosine loss over the pairs P and N of the paper.

    Args:
        positives: (K, B, n), motion descriptors of K predictions driven by the same driver:
            z_s->d and z_s*->d in the paper.
        z_driver: (B, n), z_d; the positives should align with it.
        z_other: (B, n), z_d*, the motion of a driver from another video.
        scale: s of eq. 6.
        margin: m of eq. 6. The printed equation subtracts it from positives and negatives alike, so that it cancels.
            CosFace, which the paper cites, subtracts it from the positives only, and so does this function.

    Returns:
        Scalar: the sum over the K positive pairs, the mean over the batch.
    """
    similar = F.cosine_similarity(positives, z_driver[None], dim=-1)  # (K, B)
    different = F.cosine_similarity(positives, z_other[None], dim=-1)
    positive = scale * (similar - margin)
    negatives = torch.logsumexp(scale * different, dim=0, keepdim=True)  # sum over N
    return -(positive - torch.logaddexp(positive, negatives)).sum(0).mean()
