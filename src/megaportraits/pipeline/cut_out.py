"""Mattes for the output of base models that predict no alpha, such as the paper's (3.1)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.faces.matting import Matting
from megaportraits.ops.geometry import Crop


def cut_out(images: Tensor, *, analyzer: FaceAnalyzer, matting: Matting, size: int) -> Tensor:
    """Mattes (B, 1, size, size) in [0, 1] of rendered head crops (B, 3, S, S) in [0, 1].

    An image in which no face is found is kept whole: its matte is 1 everywhere.
    """
    side = images.shape[-1]
    mattes = []
    for pixels in (images.permute(0, 2, 3, 1).float().cpu().numpy() * 255).round().astype(np.uint8):
        face = next(iter(analyzer.detect(pixels)), None)
        whole = Crop(side / 2, side / 2, side)
        found = np.ones((size, size), np.float32) if face is None else matting.matte(pixels, face, whole, size)
        mattes.append(torch.from_numpy(found))
    return torch.stack(mattes)[:, None].to(images)
