"""Metric networks, and the names of their metrics. A stand-in network never gets the paper's metric name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from megaportraits import weights
from megaportraits.errors import ShapeError
from megaportraits.evaluation.metrics.flicker import FlowError
from megaportraits.extras import optional_dependency, require
from megaportraits.faces.recognition import FaceEmbedder
from megaportraits.faces.regions import Mask
from megaportraits.media.images import UInt8
from megaportraits.media.staging import link_or_copy
from megaportraits.nn.efficientnet import EfficientNetLite0
from megaportraits.ops.pictures import resize

Distance = Callable[[UInt8, UInt8], float]

SSIM = "ssim"
ARCFACE, IDENTITY_STAND_IN = "csim_arcface", "csim_sface"
IDENTITY_TITLES = {ARCFACE: "CSIM (ArcFace)", IDENTITY_STAND_IN: "CSIM (SFace)"}
"""Titles of the identity metrics in tables."""
LPIPS, PERCEPTUAL_STAND_IN = "lpips_alex", "perceptual_effnetlite0"
FID, FRECHET_STAND_IN = "fid", "fd_effnetlite0"
HYPERIQA, SHARPNESS = "iqa_hyperiqa", "sharpness_laplacian"

_BATCH = 8
_WINDOW = 11
_LITE_SIDE, _INCEPTION_SIDE = 224, 299


def require_packages() -> None:
    """Check that the packages for metrics and reports are installed, before hours of measuring.

    Raises:
        MissingPackageError: a package is not installed.
    """
    require("train", "Evaluation", "torchmetrics", "matplotlib")


class MetricNetworks:
    """The metric networks whose weights are on this machine. Not thread-safe.

    Args:
        device: device of networks that run with torch. SFace, .onnx files and the landmark network run on the CPU.
        arcface: weights of ArcFace; None: the weights in the cache, or SFace if there are none.

    Attributes:
        identity: name of the identity similarity: `csim_arcface`, or the stand-in `csim_sface`.
        perceptual: name of the perceptual distance: `lpips_alex`, or the stand-in `perceptual_effnetlite0`.
        frechet: name of the Frechet distance: `fid`, or the stand-in `fd_effnetlite0`.
        quality: name of the image quality, `iqa_hyperiqa`, or None without HyperIQA's weights.
        settings: names of the metrics above, and hashes of the user's own weights files; results depend on them.

    Raises:
        MissingPackageError: a package that metrics and reports need is not installed.
        WeightsError: `arcface` is not a file of ArcFace's weights.
    """

    def __init__(self, device: torch.device | str = "cpu", arcface: Path | None = None) -> None:
        require_packages()
        self.device = torch.device(device)
        if arcface is None and _present("arcface"):
            arcface = weights.fetch("arcface")
        self.identity = IDENTITY_STAND_IN if arcface is None else ARCFACE
        self.perceptual = LPIPS if _present("alexnet") else PERCEPTUAL_STAND_IN
        inception = _present("fid_inception") and find_spec("torch_fidelity") is not None
        self.frechet = FID if inception else FRECHET_STAND_IN
        self.quality = HYPERIQA if _present("hyperiqa") else None
        self.embedder = FaceEmbedder() if arcface is None else FaceEmbedder.arcface(arcface, self.device)
        self.flow = FlowError()
        files = {} if arcface is None else {"arcface": weights.sha256_of(arcface)}
        self.settings = {"identity": self.identity, "perceptual": self.perceptual, "frechet": self.frechet, **files}
        if self.quality is not None:
            self.settings["quality"] = self.quality

    def absent(self) -> dict[str, str]:
        """The paper's metrics that this machine cannot compute, and why."""
        missing = {}
        if self.identity != ARCFACE:
            why = "no --arcface, and the weights `arcface` are not in the cache"
            missing["CSIM (ArcFace)"] = f"{why}; `{IDENTITY_STAND_IN}` replaces it"
        if self.perceptual != LPIPS:
            missing["LPIPS"] = f"the weights `alexnet` are not in the cache; `{PERCEPTUAL_STAND_IN}` replaces it"
        if self.frechet != FID:
            why = "the weights `fid_inception` are not in the cache"
            if _present("fid_inception"):
                why = "the package torch-fidelity is not installed"
            missing["FID"] = f"{why}; `{FRECHET_STAND_IN}` replaces it"
        if self.quality is None:
            why = "the weights `hyperiqa` are not in the cache"
            missing["IQA"] = f"{why}; nothing replaces it, `{SHARPNESS}` is a different measure"
        return missing

    def distance(self, image: UInt8, truth: UInt8) -> float:
        """The perceptual distance of two images (n, n, 3)."""
        return self._distance(image, truth)

    def score(self, image: UInt8) -> float:
        """HyperIQA's score of an image; only if `quality` is not None."""
        return self._hyperiqa(image)

    def features(self, images: Sequence[UInt8]) -> npt.NDArray[np.float32]:
        """Features (n, d) of square images for the Frechet distance; images are resized to the network's input size."""
        extract, side = self._extractor
        rows = []
        with torch.inference_mode():
            for start in range(0, len(images), _BATCH):
                batch = np.stack([resize(image, side) for image in images[start : start + _BATCH]])
                pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).to(self.device)
                rows.append(extract(pixels).float().cpu().numpy())
        return np.concatenate(rows)

    @cached_property
    def _lite(self) -> EfficientNetLite0:
        return EfficientNetLite0.from_file(weights.fetch("efficientnet_lite0")).to(self.device)

    @cached_property
    def _distance(self) -> Distance:
        if self.perceptual == LPIPS:
            return lpips(weights.fetch("alexnet"), self.device)
        return lambda image, truth: feature_distance(self._lite, image, truth, self.device)

    @cached_property
    def _hyperiqa(self) -> Callable[[UInt8], float]:
        from megaportraits.nn.hyperiqa import HyperIQA

        return HyperIQA.from_file(weights.fetch("hyperiqa")).to(self.device).score

    @cached_property
    def _extractor(self) -> tuple[Callable[[Tensor], Tensor], int]:
        if self.frechet == FRECHET_STAND_IN:
            return lambda batch: self._lite.pooled(batch / 255), _LITE_SIDE
        with optional_dependency("train", "The Frechet inception distance"):
            from torchmetrics.image.fid import NoTrainInceptionV3

        path = str(weights.fetch("fid_inception"))
        return NoTrainInceptionV3("inception-v3-compat", ["2048"], path).to(self.device), _INCEPTION_SIDE


def ssim(image: UInt8, truth: UInt8) -> float:
    """Structural similarity (Wang et al., 2004) of two images (H, W, 3), by torchmetrics; [-1, 1].

    It is the mean over all positions where the 11-pixel window lies inside the image, as in the original method.

    Raises:
        ShapeError: the shapes differ, or the images are smaller than the window.
    """
    with optional_dependency("train", "Structural similarity"):
        from torchmetrics.functional.image import structural_similarity_index_measure

    if image.shape != truth.shape or image.ndim != 3 or min(image.shape[:2]) < _WINDOW:
        raise ShapeError(f"Expected two pictures (H, W, 3) of at least 11 pixels, got {image.shape}, {truth.shape}.")
    pair = [torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in (image, truth)]
    _, everywhere = structural_similarity_index_measure(*pair, data_range=255.0, return_full_image=True)
    rim = _WINDOW // 2
    return float(everywhere[..., rim:-rim, rim:-rim].mean())


def sharpness(image: UInt8, mask: Mask) -> float:
    """Standard deviation of the Laplacian under a mask, in grey levels; blur and enlargement reduce it."""
    if not mask.any():
        return float("nan")
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(cv2.Laplacian(grey, cv2.CV_32F)[mask].std())


@torch.inference_mode()
def feature_distance(
    network: Callable[[Tensor], list[Tensor]], image: UInt8, truth: UInt8, device: torch.device | str = "cpu"
) -> float:
    """LPIPS without learned weights (Zhang et al., 2018, eq. 1 with w = 1) on a network's feature maps.

    Features are scaled to unit length at every position; their squared distances are averaged over positions and maps.
    The result is 0 for equal images and 4 at most.
    """
    pair = torch.from_numpy(np.stack([image, truth])).to(device).permute(0, 3, 1, 2).float() / 255
    distances = []
    for features in network(pair):
        unit = features / features.square().sum(1, keepdim=True).sqrt().clamp_min(1e-8)
        distances.append((unit[0] - unit[1]).square().sum(0).mean())
    return float(torch.stack(distances).mean())


def lpips(alexnet: Path, device: torch.device | str = "cpu") -> Distance:
    """LPIPS (AlexNet, version 0.1) by torchmetrics, with AlexNet's weights from a file.

    torchmetrics loads the weights from torch's hub. While it loads, the hub is a temporary folder with this file.
    """
    with optional_dependency("train", "LPIPS"):
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder) / "checkpoints"
        checkpoints.mkdir()
        link_or_copy(alexnet.resolve(), checkpoints / weights.lookup("alexnet").file)
        torch.hub.set_dir(folder)
        try:
            metric = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).eval().to(device)
        finally:
            torch.hub.set_dir(before)

    @torch.inference_mode()
    def distance(image: UInt8, truth: UInt8) -> float:
        pair = [torch.from_numpy(x).to(device).permute(2, 0, 1)[None].float() / 255 for x in (image, truth)]
        value = float(metric(*pair))
        metric.reset()
        return value

    return distance


def _present(name: str) -> bool:
    return weights.state(weights.lookup(name)) == "present"
