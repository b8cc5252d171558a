"""`calibrate`: the gain is the Kalman gain, and a calibrated model is saved like any other."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.config import ModelConfig
from megaportraits.data.batches import MeasuredImage
from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ShardWriter
from megaportraits.errors import DataError, WeightsError
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES
from megaportraits.faces.pose import fit_pose
from megaportraits.models.base import BaseModel
from megaportraits.models.motion import infer_motion
from megaportraits.models.storage import load_base, save_base
from megaportraits.ops.geometry import Crop
from megaportraits.training.calibration import APPENDED_BLENDSHAPES, READERS, SCORES, calibrate, fit_correction
from megaportraits.training.readout import measured_blendshapes


def scene(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A linear-Gaussian world: its A, and z with noisy scores."""
    torch.manual_seed(seed)
    mix, readout = torch.linalg.qr(torch.randn(5, 5))[0], torch.randn(3, 5)
    z = torch.randn(count, 5) * torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0]) @ mix + 2
    return readout, z, z @ readout.T + 0.3 * torch.randn(count, 3) - 1


def test_the_read_out_of_a_linear_world_is_found() -> None:
    readout, z, scores = scene(20_000)
    correction, explained = fit_correction(z, scores, z_error_ratio=0.5)
    torch.testing.assert_close(correction.readout, readout, atol=0.03, rtol=0.02)
    residual = scores - z @ correction.readout.T - correction.offset
    torch.testing.assert_close(residual.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(1 - residual.var(0) / scores.var(0), explained.float(), atol=1e-3, rtol=0)


def test_the_gain_is_that_of_bayes_rule_in_information_form() -> None:
    _, z, scores = scene(5000)
    correction, _ = fit_correction(z, scores, z_error_ratio=0.3)
    readout = correction.readout.double().numpy()
    error = 0.3 * np.cov(z.numpy().T.astype(np.float64), bias=True)
    noise = np.linalg.inv(np.diag((scores - z @ correction.readout.T - correction.offset).var(0).numpy()))
    wanted = np.linalg.inv(np.linalg.inv(error) + readout.T @ noise @ readout) @ readout.T @ noise
    np.testing.assert_allclose(correction.gain.numpy(), wanted, rtol=0.02, atol=0.005)


def test_corrected_z_is_nearer_to_the_truth_where_the_network_errs_as_was_believed() -> None:
    _, z, scores = scene(8000)
    correction, _ = fit_correction(z[:4000], scores[:4000], z_error_ratio=0.5)
    seen = z[4000:] + 0.5**0.5 * (z[:4000] - z[:4000].mean(0))  # an error that varies like z
    before, after = (seen - z[4000:]).square().sum(1).mean(), (correction(seen, scores[4000:]).z - z[4000:]).square()
    assert after.sum(1).mean() < 0.7 * before


def test_without_trust_z_stays() -> None:
    _, z, scores = scene(500)
    assert not fit_correction(z, scores, z_error_ratio=0)[0].gain.any()


def test_blendshapes_that_do_not_correct_z_have_a_prediction_too() -> None:
    _, z, scores = scene(500)
    some, _ = fit_correction(z, scores, z_error_ratio=0.5, correcting=1)
    alone, _ = fit_correction(z, scores[:, :1], z_error_ratio=0.5)
    every, _ = fit_correction(z, scores, z_error_ratio=0.5)
    assert not some.gain[:, 1:].any()
    torch.testing.assert_close(some.gain[:, :1], alone.gain)
    torch.testing.assert_close(some.residual(z, scores), every.residual(z, scores))


def test_residuals_have_deviation_one_and_are_uncorrelated_with_z() -> None:
    _, z, scores = scene(500)
    correction, _ = fit_correction(z, scores, z_error_ratio=0, correcting=1, appends=True)
    told = correction(z.float(), scores.float()).residual
    assert told is not None
    torch.testing.assert_close(told.std(0), torch.ones(scores.shape[1]))
    together = torch.corrcoef(torch.cat([z.float(), told], 1).T)[: z.shape[1], z.shape[1] :]
    assert together.abs().max() < 0.02


def measured_image(blendshapes: torch.Tensor) -> MeasuredImage:
    zero = torch.zeros(len(blendshapes))
    return MeasuredImage(zero, zero, zero, zero, zero, blendshapes)


def test_training_takes_the_named_blendshapes_of_sources_and_then_of_targets() -> None:
    source, target = torch.rand(2, 2, len(BLENDSHAPE_NAMES))
    names = ("eyeBlinkLeft", "jawOpen")
    scores = measured_blendshapes([measured_image(source), measured_image(target)], names)
    assert scores is not None
    columns = [BLENDSHAPE_NAMES.index(name) for name in names]
    assert torch.equal(scores, torch.cat([source, target])[:, columns])
    assert measured_blendshapes([], ()) is None


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Clips of a real face in different light, as `prepare` writes them."""
    photo = np.ascontiguousarray(skimage.data.astronaut()[:256, 98:354])
    (face,) = FaceAnalyzer().detect(photo)
    pose = fit_pose(face.landmarks).to_crop_pose(Crop(128, 128, 256))
    label = FrameLabels(pose.rotation, pose.translation, pose.scale)
    rng = np.random.default_rng(0)
    folder = tmp_path / "clips"
    folder.mkdir()
    with ShardWriter(folder, 0) as shard:
        for clip in range(4):
            frames = []
            for _ in range(12):
                gain = rng.uniform(0.6, 1.2, 3)
                image = cv2.GaussianBlur(photo, (0, 0), float(rng.uniform(0.1, 3))) * gain
                image = np.clip(image, 0, 255).astype(np.uint8)
                frames.append(ClipFrame(image, np.full((256, 256), 255, np.uint8), label))
            record = ClipRecord(f"{clip:05d}", "real", "astronaut", None, 256, 25.0, (), (label,) * 12)
            shard.write(record, frames)
    return folder


def test_a_calibrated_model_corrects_by_blendshapes_and_is_unchanged_without_them(
    faces: Path, tmp_path: Path, tiny_config: ModelConfig
) -> None:
    torch.manual_seed(0)
    save_base(tmp_path / "base.safetensors", BaseModel(tiny_config), notes={"steps": "7"})
    out = tmp_path / "calibrated.safetensors"
    told: list[int] = []
    explained = calibrate(
        tmp_path / "base.safetensors",
        str(faces),
        out,
        frames=60,
        z_error_ratio=0.5,
        progress=lambda done, _: told.append(done),
    )
    assert set(explained) == set(SCORES) and told == list(range(1, 61))
    before, after = load_base(tmp_path / "base.safetensors"), load_base(out)
    assert after.config.motion.blendshapes == SCORES
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(infer_motion(after, image).expression.z, infer_motion(before, image).expression.z)
    moved = infer_motion(after, image, None, torch.rand(2, len(SCORES))).expression.z
    assert not torch.allclose(moved, infer_motion(before, image).expression.z, atol=1e-5)
    again = tmp_path / "again.safetensors"  # the network's own z is what counts, not the corrected one
    calibrate(out, str(faces), again, frames=60, z_error_ratio=0.5)
    kept, first = load_base(again).motion.correction, after.motion.correction
    assert kept is not None and first is not None
    torch.testing.assert_close(kept.gain, first.gain)


def test_a_model_with_appended_blendshapes_is_calibrated_with_the_same_ones(
    faces: Path, tmp_path: Path, tiny_config: ModelConfig
) -> None:
    motion = tiny_config.motion.model_copy(
        update={"blendshapes": (*SCORES, *APPENDED_BLENDSHAPES), "append_blendshapes": True}
    )
    seeing = tiny_config.model_copy(update={"motion": motion})
    base, out = tmp_path / "base.safetensors", tmp_path / "out.safetensors"
    save_base(base, BaseModel(seeing))
    with pytest.raises(WeightsError, match="expected the blendshapes that it was trained with"):
        calibrate(base, str(faces), out, frames=60, z_error_ratio=0.2, more=APPENDED_BLENDSHAPES[:-1])
    calibrate(base, str(faces), out, frames=60, z_error_ratio=0.2)
    assert load_base(out).config == seeing
    correction = load_base(out).motion.correction
    assert correction is not None and correction.gain[:, : len(SCORES)].any()
    assert not correction.gain[:, len(SCORES) :].any()


def test_appending_blendshapes_changes_no_image_before_training(
    faces: Path, tmp_path: Path, tiny_config: ModelConfig
) -> None:
    torch.manual_seed(0)
    old = BaseModel(tiny_config).eval()
    for name, weight in old.named_parameters():
        if name.startswith(READERS):
            torch.nn.init.normal_(weight, std=0.1)
    save_base(tmp_path / "base.safetensors", old)
    calibrate(
        tmp_path / "base.safetensors",
        str(faces),
        tmp_path / "out.safetensors",
        frames=60,
        z_error_ratio=0,
        more=APPENDED_BLENDSHAPES,
    )
    old, new = (load_base(tmp_path / f"{name}.safetensors").requires_grad_(True) for name in ("base", "out"))
    source, driver = torch.rand(2, 1, 3, 32, 32)
    scores = torch.rand(1, len(SCORES) + len(APPENDED_BLENDSHAPES))
    got = new.render(new.encode(source), infer_motion(new, driver, None, scores))
    torch.testing.assert_close(got.image, old.render(old.encode(source), old.motion(driver)).image)
    got.image.sum().backward()
    for layer in new.generator_2d.changes:
        gradient = layer.get_parameter("weight").grad
        assert gradient is not None and gradient[:, -scores.shape[1] :].abs().max(0).values.min() > 0  # and can learn


def test_clips_without_faces_and_files_that_exist_are_reported(
    clips: Path, tmp_path: Path, tiny_config: ModelConfig
) -> None:
    base = tmp_path / "base.safetensors"
    save_base(base, BaseModel(tiny_config))
    with pytest.raises(DataError, match=r"expected faces in 48 frames at least, found them in 0 of 5"):
        calibrate(base, str(clips), tmp_path / "out.safetensors", frames=5, z_error_ratio=0.2)
    assert not (tmp_path / "out.safetensors").exists()
    for out, said in ((base, "would replace its own input"), (tmp_path / "base.pt", "expected a .safetensors file")):
        line = ["calibrate", "--weights", str(base), "--data", str(clips), "-o", str(out)]
        result = CliRunner().invoke(app, line)
        assert result.exit_code and said in str(result.output) + str(result.exception)
