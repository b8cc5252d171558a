"""The LaMa loader, on a small TorchScript file with the published one's signature."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from megaportraits.errors import WeightsError
from megaportraits.faces.inpainting import background_plate
from megaportraits.faces.lama import Lama


class _Red(nn.Module):
    """Paints the hole red; insists on the published network's input contract."""

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        assert image.shape[2] % 8 == 0 and image.shape[3] % 8 == 0
        assert float(image.max()) <= 1.0
        red = torch.zeros_like(image)
        red[:, 0] = 1.0
        return image * (1 - mask) + red * mask


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lama") / "big-lama.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer torch asks for torch.export; the file is older
        torch.jit.save(torch.jit.script(_Red()), str(path))
    return path


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("max_side", [1024, 50])
def test_the_hole_is_painted_by_the_network_and_the_rest_kept(file: Path, max_side: int) -> None:
    image = np.random.default_rng(0).integers(0, 200, (61, 83, 3), np.uint8)
    matte = np.zeros((61, 83))
    matte[20:40, 30:60] = 1
    plate = background_plate(image, matte, fill=Lama.from_file(file, max_side=max_side))
    np.testing.assert_allclose(plate[24:36, 34:56], np.broadcast_to((255, 0, 0), (12, 22, 3)), atol=2)
    np.testing.assert_array_equal(plate[:15], image[:15])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"not TorchScript")
    with pytest.raises(WeightsError, match="TorchScript"):
        Lama.from_file(tmp_path / "x.pt")
