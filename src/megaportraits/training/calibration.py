"""Calibration: fits `models.motion.BlendshapeCorrection` after training. Not in the paper.

z and the blendshapes s are assumed to be jointly Gaussian: s = A z + b + noise. A and b are fitted by ridge regression
on frames of people of the training data, where z is accurate. For other people, z is assumed to have an error with the
covariance P = z_error_ratio cov(z). With R the variances of the noise, G = P A^T (A P A^T + R)^-1 is the Kalman gain
under this assumption.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.data.batches import collate
from megaportraits.data.frames import FrameDataset
from megaportraits.errors import DataError, WeightsError
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.faces.landmarks import MEASURED_SIZE, select_blendshapes
from megaportraits.models.base import BaseModel
from megaportraits.models.motion import BlendshapeCorrection, infer_motion
from megaportraits.models.storage import find_base, load_base, save_base
from megaportraits.nn.weights_file import read_notes
from megaportraits.ops.compositing import composite
from megaportraits.ops.resample import resize_images

SCORES = (
    "jawOpen",
    "browInnerUp",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "eyeLookInLeft",
    "eyeLookInRight",
    "eyeLookOutLeft",
    "eyeLookOutRight",
    "eyeLookUpLeft",
    "eyeLookDownLeft",
)
"""Blendshapes that correct z by default: MediaPipe estimates them well, and viewers notice them first.

Using all 25 blendshapes that z explains partly made mouths worse.
"""
APPENDED_BLENDSHAPES = (
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthRollLower",
    "mouthRollUpper",
    "browDownLeft",
    "browDownRight",
    "browOuterUpLeft",
    "browOuterUpRight",
    "eyeSquintLeft",
    "eyeSquintRight",
    "eyeLookUpRight",
    "eyeLookDownRight",
)
"""Blendshapes that do not correct z, but whose residuals may be appended to it (`MotionConfig.append_blendshapes`).

Above all they tell whether teeth are visible.
"""
READERS = ("embed_z.", "generator_2d.modulations.", "generator_2d.changes.")
"""Layers of a base model whose input is the expression: their weights have one column for each of its values."""
RIDGE = 1e-3
"""Ridge term: this fraction of the mean variance of z is added to the diagonal of its covariance."""
FEWEST = 4
"""Fewest frames per dimension of z; with fewer, the estimated covariance is unreliable."""

OnProgress = Callable[[int, int | None], None]


def calibrate(
    weights: str | Path,
    data: str,
    out: Path,
    *,
    frames: int,
    z_error_ratio: float,
    names: tuple[str, ...] = SCORES,
    more: tuple[str, ...] = (),
    overwrite: bool = False,
    progress: OnProgress = lambda done, expected: None,
) -> dict[str, float]:
    """Write a base model whose z is corrected by blendshapes.

    Args:
        weights: see `load_base`; an existing correction is replaced.
        data: a folder of clips, or a mixture (`data.mixture`), of the kind that the model was trained on.
        out: the .safetensors file to write.
        frames: number of frames to read.
        z_error_ratio: see the module; 0 leaves z unchanged.
        names: ARKit's names of the blendshapes that correct z.
        more: ARKit's names of further blendshapes, which do not correct z. If there are any, the residuals of all
            blendshapes are appended to z (`append_blendshapes`). They have no effect until the model is trained with
            them. If the model already appends blendshapes, they are kept, and this may be empty.
        overwrite: whether an existing file may be replaced.
        progress: called with the number of frames done and in total.

    Returns:
        For every blendshape, the fraction of its variance that z explains on these frames.

    Raises:
        WeightsError: the weights do not exist, or the model was trained with other blendshapes.
        DataError: there are no clips, or faces are found in too few frames.
    """
    before = load_base(weights)
    config = before.config
    if config.motion.append_blendshapes:
        more = more or config.motion.blendshapes[len(names) :]
    every = (*names, *more)
    if config.motion.append_blendshapes and every != config.motion.blendshapes:
        raise WeightsError(
            f"{weights}: expected the blendshapes that it was trained with, {', '.join(config.motion.blendshapes)}, "
            f"got {', '.join(every)}",
            fix="Calibrate the weights that its training started from, and train them anew.",
        )
    z, blendshapes = observe(before, data, every, frames, progress)
    appends = bool(more)
    correction, explained = fit_correction(
        z, blendshapes, z_error_ratio=z_error_ratio, correcting=len(names), appends=appends
    )
    motion = config.motion.model_copy(update={"blendshapes": every, "append_blendshapes": appends})
    model = BaseModel(config.model_copy(update={"motion": motion}))
    kept = {k: v for k, v in before.state_dict().items() if not k.startswith("motion.correction.")}
    if appends and not config.motion.append_blendshapes:
        kept = {
            k: F.pad(v, (0, len(every))) if k.startswith(READERS) and k.endswith("weight") else v
            for k, v in kept.items()
        }
    found = {f"motion.correction.{k}": v for k, v in correction.state_dict().items()}
    model.load_state_dict(kept | found)
    notes = {k: v for k, v in read_notes(find_base(weights)).items() if k not in ("kind", "config")}
    save_base(out, model, notes=notes | {"trust": str(z_error_ratio)}, overwrite=overwrite)
    return dict(zip(every, explained.tolist(), strict=True))


def observe(
    model: BaseModel, data: str, names: tuple[str, ...], count: int, progress: OnProgress
) -> tuple[Tensor, Tensor]:
    """Z (N, n) without correction, and MediaPipe's blendshapes (N, m) of the same frames; N is at most `count`.

    Frames of synthetic clips are composited over a flat colour.
    """
    size, analyzer = max(model.config.image_size, MEASURED_SIZE), FaceAnalyzer(reject_animals=False)
    dataset = FrameDataset(data, length=count, size=size)
    rng = np.random.default_rng(0)
    found: list[tuple[Tensor, Tensor]] = []
    for done in range(count):
        item = dataset[done]
        color = torch.from_numpy(rng.uniform(0, 1, 3).astype(np.float32))[:, None, None]
        image = item.image / 255
        if not item.real:
            image = composite(image, item.matte / 255, color)
        pixels = (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        face = next(iter(analyzer.detect(pixels, thorough=False)), None)
        if face is not None:
            pose = collate([item]).pose
            side = model.config.image_size
            small = resize_images(image[None], side)
            with torch.inference_mode():
                z = infer_motion(model, small.clamp(0, 1), pose).expression.z[0]
            found.append((z.clone(), torch.from_numpy(select_blendshapes(face.blendshapes, names))))
        progress(done + 1, count)
    needed = FEWEST * model.config.motion.z
    if len(found) < needed:
        raise DataError(
            f"{data}: expected faces in {needed} frames at least, found them in {len(found)} of {count}.",
            fix="Raise --frames, or give clips of larger faces.",
        )
    return torch.stack([z for z, _ in found]), torch.stack([s for _, s in found])


def fit_correction(
    z: Tensor, blendshapes: Tensor, *, z_error_ratio: float, correcting: int | None = None, appends: bool = False
) -> tuple[BlendshapeCorrection, Tensor]:
    """Fit a correction to z and blendshapes.

    Args:
        z: (N, n).
        blendshapes: (N, m), of the same frames.
        z_error_ratio: see the module.
        correcting: only the first `correcting` blendshapes correct z; None: all.
        appends: see `BlendshapeCorrection`.

    Returns:
        The correction, and for each blendshape the fraction of its variance that z explains, (m,).
    """
    z, blendshapes = z.double(), blendshapes.double()
    z_mean, blendshape_mean = z.mean(0), blendshapes.mean(0)
    z_off, blendshape_off = z - z_mean, blendshapes - blendshape_mean
    covariance = z_off.T @ z_off / len(z)
    covariance = covariance + RIDGE * covariance.diagonal().mean() * torch.eye(z.shape[1], dtype=z.dtype)
    readout = torch.linalg.solve(covariance, z_off.T @ blendshape_off / len(z)).T  # A
    noise = (blendshape_off - z_off @ readout.T).square().mean(0)  # R
    error, gain = z_error_ratio * covariance, torch.zeros_like(readout).T  # P
    used, by = readout[:correcting], noise[:correcting].diag()
    gain[:, :correcting] = torch.linalg.solve(used @ error @ used.T + by, used @ error).T  # P A^T (A P A^T + R)^-1
    correction = BlendshapeCorrection(z.shape[1], blendshapes.shape[1], appends=appends)
    correction.readout.copy_(readout)
    correction.offset.copy_(blendshape_mean - readout @ z_mean)  # b
    correction.gain.copy_(gain)
    if appends:
        corrected = correction(z.float(), blendshapes.float()).z
        correction.deviation.copy_(correction.residual(corrected, blendshapes.float()).std(0))
    return correction, 1 - noise / blendshape_off.square().mean(0)
