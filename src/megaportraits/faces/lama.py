"""LaMa, the paper's inpainting network (Suvorov et al., WACV 2022), from its published TorchScript file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from megaportraits.errors import WeightsError
from megaportraits.faces.networks import Image
from megaportraits.ops.pictures import resize

_MULTIPLE = 8
"""The network halves its input three times."""


class Lama:
    """An inpainter for `inpainting.background_plate`; `inpainting.open_inpainting("lama")` opens the registered file.

    Args:
        network: image (1, 3, H, W) in [0, 1] and mask (1, 1, H, W), 1 where to inpaint, to image in [0, 1].
        max_side: larger images are inpainted at this longer side and enlarged, to limit memory; holes are smooth.
        device: where the network runs.
    """

    def __init__(self, network: nn.Module, *, max_side: int = 1024, device: str = "cpu") -> None:
        self._network = network.eval().to(device)
        self._max_side = max_side
        self._device = device

    @classmethod
    def from_file(cls, path: Path, *, max_side: int = 1024, device: str = "cpu") -> Lama:
        """Load `big-lama.pt`. TorchScript can run code: only pass files that `weights.fetch` has verified.

        Raises:
            WeightsError: the file is not TorchScript.
        """
        try:
            network = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise WeightsError(
                f"Expected a TorchScript file, got {path} ({str(error).splitlines()[0]}).",
                fix="Run `megaportraits weights pull lama`.",
            ) from error
        return cls(network, max_side=max_side, device=device)

    @torch.inference_mode()
    def __call__(self, image: Image, hole: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Image uint8 (H, W, 3) and hole (H, W), 1 inside, to the inpainted image (H, W, 3) in [0, 255]."""
        height, width = hole.shape
        scale = min(self._max_side / max(height, width), 1.0)
        if scale < 1:
            small = (max(round(width * scale), 1), max(round(height * scale), 1))
            pixels = resize(image, small)
            mask = (resize(hole.astype(np.float32), small) > 0).astype(np.float32)
        else:
            pixels, mask = image, hole.astype(np.float32)
        rows, columns = mask.shape
        pad = (0, -columns % _MULTIPLE, 0, -rows % _MULTIPLE)
        picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self._device, torch.float32) / 255
        picture = F.pad(picture, pad, mode="replicate")
        where = F.pad(torch.from_numpy(mask)[None, None].to(self._device), pad, mode="replicate")
        painted = self._network(picture, where)[0, :, :rows, :columns].permute(1, 2, 0)
        result = painted.float().clamp(0, 1).mul(255).cpu().numpy()
        if scale < 1:
            result = resize(result, (width, height))
        return np.ascontiguousarray(result, np.float32)
