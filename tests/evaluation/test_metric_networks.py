from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from skimage.metrics import structural_similarity
from torch import nn

from megaportraits import weights
from megaportraits.errors import ShapeError
from megaportraits.evaluation.metrics.metric_networks import MetricNetworks, feature_distance, lpips, sharpness, ssim
from megaportraits.evaluation.report import tables
from megaportraits.nn.hyperiqa import HyperIQA
from tests.faces.arcface_files import write_graph


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 256, (12, 12, 3)), np.ones((6, 6, 1))).astype(np.uint8)
    noisy = np.clip(smooth + rng.normal(0, 15, smooth.shape), 0, 255).astype(np.uint8)
    return smooth, noisy


def test_ssim_equals_scikit_images(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    expected = structural_similarity(
        *pictures, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
    )
    assert ssim(*pictures) == pytest.approx(expected, abs=1e-5)
    assert ssim(pictures[0], pictures[0]) == pytest.approx(1)
    with pytest.raises(ShapeError, match="11 pixels"):
        ssim(pictures[0][:8, :8], pictures[1][:8, :8])


def test_the_feature_distance_is_the_printed_formula(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Conv2d(3, 5, 3), nn.Conv2d(3, 7, 5, stride=2)])
    found = feature_distance(lambda x: [layer(x) for layer in layers], *pictures)
    total = 0.0
    for layer in layers:
        with torch.no_grad():
            a, b = (layer(torch.from_numpy(p).permute(2, 0, 1)[None].float() / 255)[0].numpy() for p in pictures)
        a, b = a / np.linalg.norm(a, axis=0), b / np.linalg.norm(b, axis=0)
        total += float(((a - b) ** 2).sum(0).mean()) / 2
    assert found == pytest.approx(total, rel=1e-5)


def test_the_stand_in_grows_with_blur_and_ignores_nothing(
    networks: MetricNetworks, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    smooth, noisy = pictures
    assert networks.distance(smooth, smooth) == pytest.approx(0, abs=1e-6)
    near = np.clip(smooth.astype(int) + 3, 0, 255).astype(np.uint8)
    assert 0 < networks.distance(near, smooth) < networks.distance(noisy, smooth) < 2


def test_names_say_which_network_judged(networks: MetricNetworks) -> None:
    assert networks.perceptual in ("lpips_alex", "perceptual_effnetlite0")
    assert ("LPIPS" in networks.absent()) == (networks.perceptual != "lpips_alex")
    assert ("FID" in networks.absent()) == (networks.frechet != "fid")
    assert ("IQA" in networks.absent()) == (networks.quality is None)
    assert networks.identity in ("csim_arcface", "csim_sface")
    assert ("CSIM (ArcFace)" in networks.absent()) == (networks.identity != "csim_arcface")
    assert tables.IDENTITY_TITLES.keys() == {"csim_arcface", "csim_sface"}


def test_a_users_arcface_takes_the_place_of_sface_and_results_depend_on_its_bytes(tmp_path: Path) -> None:
    paths = [write_graph(tmp_path / f"{seed}.onnx", seed)[0] for seed in (1, 2)]
    one, two = (MetricNetworks(arcface=path) for path in paths)
    assert one.identity == "csim_arcface" and "CSIM (ArcFace)" not in one.absent()
    assert one.settings["arcface"] == weights.sha256_of(paths[0]) != two.settings["arcface"]


def test_networks_under_torch_run_on_the_chosen_device(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    """On the meta device all of a network can run but nothing comes back: the error is that of copying out."""
    networks = MetricNetworks("meta")
    with pytest.raises(NotImplementedError, match="copy out of meta"):
        networks.features(pictures)
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta"):
        networks.distance(*pictures)
    with torch.device("meta"):
        quality = HyperIQA().eval()
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta"):
        quality.score(pictures[0])


def test_lpips_is_the_papers_formula_with_the_given_alexnet(
    pictures: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    alexnet = torchvision.models.alexnet(weights=None).eval()
    # The hub checks the hash that is part of the name: only a file of that name is taken as it is.
    path = tmp_path / weights.lookup("alexnet").file
    torch.save(alexnet.state_dict(), path)
    before = torch.hub.get_dir()
    with pytest.raises(RuntimeError, match="meta"):
        lpips(path, "meta")(*pictures)
    found = lpips(path)(*pictures)
    assert torch.hub.get_dir() == before
    assert found == pytest.approx(_lpips(alexnet, *pictures), rel=1e-4)
    assert lpips(path)(pictures[0], pictures[0]) == pytest.approx(0, abs=1e-7)


def _lpips(alexnet: nn.Module, *pictures: np.ndarray) -> float:
    """LPIPS 0.1 from its description: scaled input, features after each ReLU, unit length, learned linear layers."""
    import torchmetrics.functional.image as package

    file = Path(package.__file__).parent / "lpips_models" / "alex.pth"
    linear = torch.load(file, map_location="cpu", weights_only=True)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    features = []
    for picture in pictures:
        x = torch.from_numpy(picture).float() / 255 * 2 - 1
        x = ((x - shift) / scale).permute(2, 0, 1)[None]
        taps = []
        with torch.no_grad():
            for layer in alexnet.features:  # type: ignore[union-attr]
                x = layer(x)
                if isinstance(layer, nn.ReLU):
                    taps.append((x / x.norm(dim=1, keepdim=True)).clone())
        features.append(taps)
    total = 0.0
    for index, (a, b) in enumerate(zip(*features, strict=True)):
        weight = linear[f"lin{index}.model.1.weight"].reshape(1, -1, 1, 1)
        total += float((weight * (a - b) ** 2).sum(1).mean())
    return total


def test_sharpness_falls_with_blur(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    import cv2

    everywhere = np.ones(pictures[0].shape[:2], bool)
    values = [sharpness(cv2.GaussianBlur(pictures[1], (0, 0), sigma), everywhere) for sigma in (0.3, 1, 3)]
    assert values == sorted(values, reverse=True)
    assert np.isnan(sharpness(pictures[0], ~everywhere))


def test_features_do_not_depend_on_the_company(
    networks: MetricNetworks, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    together = networks.features([*pictures] * 5)
    alone = networks.features([pictures[1]])
    assert together.shape == (10, 1280)
    np.testing.assert_allclose(together[9], alone[0], atol=1e-4)
