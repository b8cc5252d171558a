from __future__ import annotations

from pathlib import Path

import pytest
import torch

from megaportraits.config import GazeConfig, LossConfig
from megaportraits.errors import WeightsError
from megaportraits.models.gaze import GazeNet
from megaportraits.models.storage import save_gaze
from megaportraits.nn.efficientnet import EfficientNetLite0
from megaportraits.nn.vgg import VGGFaceFeatures
from megaportraits.ops.warping import Pose
from megaportraits.training.perceptual import PerceptualTerms

SMALL_GAZE = GazeConfig(eye_size=16, widths=((4,), (6,)), eyes=8, keypoints=4, hidden=4, pretrained=False)
FRONTAL = Pose(torch.eye(3)[None], torch.zeros(1, 2), torch.ones(1))


@pytest.fixture
def every_term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PerceptualTerms:
    """EfficientNet-Lite0, VGGFace and the gaze network, each with random weights in a file like the real one."""
    torch.manual_seed(0)
    files = {"efficientnet_lite0": tmp_path / "lite.pth", "vggface": tmp_path / "vgg_face_dag.pth"}
    torch.save(EfficientNetLite0().state_dict(), files["efficientnet_lite0"])
    torch.save(VGGFaceFeatures().state_dict(), files["vggface"])
    save_gaze(tmp_path / "gaze.safetensors", GazeNet(SMALL_GAZE))
    monkeypatch.setattr("megaportraits.training.perceptual.weights.fetch", files.__getitem__)
    return PerceptualTerms(
        LossConfig(
            perceptual_network="effnet-lite0", perceptual_scales=2, gaze_network=str(tmp_path / "gaze.safetensors")
        )
    )


def test_the_papers_weights_and_the_stand_ins_name_are_in_the_logs(every_term: PerceptualTerms) -> None:
    assert every_term.weights == {"perceptual_effnet_lite0": 20, "face": 4, "gaze": 5}


def test_equal_images_cost_nothing_and_others_pull_the_prediction(every_term: PerceptualTerms) -> None:
    target = torch.rand(1, 3, 64, 64)
    assert all(float(v) == 0 for v in every_term(target, target, FRONTAL).values())
    prediction = torch.rand(1, 3, 64, 64, requires_grad=True)
    for name, loss in every_term(prediction, target, FRONTAL).items():
        (gradient,) = torch.autograd.grad(loss, prediction, retain_graph=True)
        assert gradient.any(), name


def test_the_gaze_loss_looks_at_the_eyes_only(every_term: PerceptualTerms) -> None:
    prediction = torch.rand(1, 3, 64, 64, requires_grad=True)
    loss = every_term(prediction, torch.rand(1, 3, 64, 64), FRONTAL)["gaze"]
    (gradient,) = torch.autograd.grad(loss, prediction)
    touched = gradient.abs().sum((0, 1)) > 0
    rows, columns = touched.nonzero().unbind(1)
    # Eyes at x = +-3.1 and y = 3.6 cm in a crop of 32 cm and 64 px: columns 32 +- 6, row 25; crops of 4.8 cm.
    assert rows.min() >= 19 and rows.max() <= 30
    assert columns.min() >= 20 and columns.max() <= 43 and not touched[:, 31:33].any()


def test_a_missing_gaze_network_says_how_to_get_one() -> None:
    with pytest.raises(WeightsError, match="train gaze"):
        PerceptualTerms(LossConfig(perceptual=0, face=0))


def test_the_memory_layout_changes_no_loss(every_term: PerceptualTerms) -> None:
    laid = PerceptualTerms(every_term.config, channels_last=True)
    prediction, target = torch.rand(2, 1, 3, 64, 64)
    (feature, *_) = laid._features(target)
    assert feature.is_contiguous(memory_format=torch.channels_last) and not feature.is_contiguous()
    expected, found = (terms(prediction, target, FRONTAL) for terms in (every_term, laid))
    torch.testing.assert_close(found, expected)
