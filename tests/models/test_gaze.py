from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import vgg16

from megaportraits.config import GazeConfig
from megaportraits.errors import ShapeError, WeightsError
from megaportraits.losses.gaze import mae_mse
from megaportraits.models.base import BaseModel
from megaportraits.models.gaze import EYES_CM, KEYPOINTS_CM, GazeNet, eye_crops, head_keypoints
from megaportraits.models.storage import load_base, load_gaze, load_head_pose, save_gaze
from megaportraits.ops.geometry import HeadPose, euler_to_matrix
from megaportraits.ops.warping import Pose, project
from megaportraits.training.gaze import load_imagenet

SMALL = GazeConfig(eye_size=16, widths=((4,), (6, 6)), eyes=8, keypoints=16, hidden=16, pretrained=False)


def one_pose(yaw: float = 15, scale: float = 1.1) -> Pose:
    rotation = torch.tensor(euler_to_matrix(yaw, -5, 10), dtype=torch.float32)[None]
    return Pose(rotation, torch.tensor([[0.05, -0.1]]), torch.tensor([scale]))


def test_project_is_the_numpy_poses_projection() -> None:
    pose, points = one_pose(), np.random.default_rng(0).normal(size=(7, 3)) * 5
    reference = HeadPose(pose.rotation[0].double().numpy(), np.array([0.05, -0.1]), 1.1).project(points)
    np.testing.assert_allclose(project(torch.tensor(points), pose)[0].numpy(), reference[:, :2], atol=1e-6)


def test_the_papers_eye_encoder_is_vgg16_and_starts_from_imagenets(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = vgg16(weights=None).features.eval()
    torch.save({f"features.{k}": v for k, v in reference.state_dict().items()}, tmp_path / "vgg16.pth")
    net = GazeNet(GazeConfig())
    load_imagenet(net.eye, tmp_path / "vgg16.pth")
    eye = torch.rand(1, 3, 64, 64)
    normalized = (eye - torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).reshape(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(net.eye.features(normalized), reference(normalized))
        torch.testing.assert_close(net.eye.maps(eye)[-1], reference[:30](normalized))
    assert net.eye(eye).shape == (1, 256)
    with pytest.raises(WeightsError, match=r"features|layer"):
        load_imagenet(GazeNet(SMALL).eye, tmp_path / "vgg16.pth")


def test_blink_depends_on_the_eyes_alone_and_gaze_on_the_keypoints_too() -> None:
    torch.manual_seed(0)
    net = GazeNet(SMALL)
    eyes, points = torch.rand(2, 2, 3, 16, 16), torch.rand(2, len(KEYPOINTS_CM), 2)
    a, b = net(eyes, points), net(eyes, points + 1)
    assert torch.equal(a.blink, b.blink) and not torch.equal(a.gaze, b.gaze)
    swapped = net(eyes.flip(1), points)  # the eyes' vectors are summed
    torch.testing.assert_close(swapped.gaze, a.gaze)


def test_every_parameter_of_the_gaze_network_learns() -> None:
    torch.manual_seed(0)
    net = GazeNet(SMALL)
    look = net(torch.rand(8, 2, 3, 16, 16), torch.rand(8, len(KEYPOINTS_CM), 2))
    (look.gaze.square().sum() + look.blink.square().sum()).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_eye_crops_show_the_eyes_the_subjects_left_first() -> None:
    pose, size = one_pose(), 128
    image = torch.zeros(1, 3, size, size)
    for channel, eye in enumerate(project(torch.tensor(EYES_CM), pose)[0]):
        x, y = ((eye + 1) / 2 * size).long()
        image[0, channel, y - 1 : y + 2, x - 1 : x + 2] = 1
    crops = eye_crops(image, pose, centimetres=4.8, size=32)[0]
    for eye in range(2):
        y, x = np.unravel_index(int(crops[eye, eye].argmax()), (32, 32))
        assert abs(x - 15.5) < 3 and abs(y - 15.5) < 3
        assert crops[eye, 1 - eye].max() == 0


def test_keypoints_tell_the_rotation_and_not_place_or_size() -> None:
    a, b, c = one_pose(), one_pose(scale=0.8), one_pose(yaw=-15)
    moved = Pose(b.rotation, b.translation + 0.3, b.scale)
    torch.testing.assert_close(head_keypoints(a), head_keypoints(moved))
    assert (head_keypoints(a) - head_keypoints(c)).abs().max() > 0.05


def test_the_gaze_loss_is_15_mae_plus_10_mse_of_the_known() -> None:
    predicted = torch.tensor([[0.5, 0.0], [9.0, 0.25]], requires_grad=True)
    label = torch.tensor([[0.0, 0.0], [float("nan"), 0.0]])
    loss = mae_mse(predicted, label)
    expected = 15 * (0.5 + 0.25) / 3 + 10 * (0.25 + 0.0625) / 3
    assert float(loss.detach()) == pytest.approx(expected)
    loss.backward()
    assert predicted.grad is not None and predicted.grad[1, 0] == 0 and predicted.grad.isfinite().all()


def test_a_gaze_file_loads_again_and_is_no_base_model(tmp_path: Path) -> None:
    net = GazeNet(SMALL)
    save_gaze(tmp_path / "gaze.safetensors", net)
    again = load_gaze(tmp_path / "gaze.safetensors")
    eyes, points = torch.rand(1, 2, 3, 16, 16), torch.rand(1, len(KEYPOINTS_CM), 2)
    with torch.no_grad():
        torch.testing.assert_close(again(eyes, points).gaze, net(eyes, points).gaze, atol=1e-3, rtol=0)
    with pytest.raises(WeightsError, match="holds 'gaze', expected a base model"):
        load_base(tmp_path / "gaze.safetensors")


def test_eyes_of_another_size_are_refused() -> None:
    with pytest.raises(ShapeError, match="eyes: expected"):
        GazeNet(SMALL)(torch.rand(1, 2, 3, 20, 20), torch.rand(1, len(KEYPOINTS_CM), 2))


def test_the_shipped_networks_load_by_name() -> None:
    assert load_gaze("nano").config.name == "nano"
    base = BaseModel(load_base("nano").config)
    load_head_pose("nano", base)
    shipped = load_base("nano").motion.head_pose.state_dict()
    for name, value in base.motion.head_pose.state_dict().items():
        assert torch.equal(value, shipped[name]), name


def test_a_network_that_does_not_ship_is_named() -> None:
    with pytest.raises(WeightsError, match="no gaze named 'huge'") as caught:
        load_gaze("huge")
    assert "use nano, or set loss.gaze=0" in str(caught.value.fix)
