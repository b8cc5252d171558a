"""VGG networks, on generated files with the keys and shapes of the published ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.models import vgg16, vgg19

from megaportraits.errors import WeightsError
from megaportraits.nn.vgg import FACE_MEAN, MEAN, STD, VGG19Features, VGGFaceFeatures

# Layers of vgg_face_dag.pth, in VGG-16's order.
FACE_LAYERS = [f"conv{s}_{i}" for s, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)]


@pytest.fixture(scope="module")
def face_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Sequential]:
    """A random VGG-16 under VGGFace's names, and the same network from torchvision."""
    torch.manual_seed(0)
    with torch.device("cpu"):
        features = vgg16(weights=None).features
    convs = [layer for layer in features if isinstance(layer, torch.nn.Conv2d)]
    state = {
        f"{name}.{k}": v for name, conv in zip(FACE_LAYERS, convs, strict=True) for k, v in conv.state_dict().items()
    }
    state |= {"fc8.weight": torch.zeros(2622, 1), "fc8.bias": torch.zeros(2622)}
    path = tmp_path_factory.mktemp("vgg") / "vgg_face_dag.pth"
    torch.save(state, path)
    return path, features.eval()


def test_vggface_gives_conv1_1_to_conv5_1_of_vgg16(face_file: tuple[Path, torch.nn.Sequential]) -> None:
    path, reference = face_file
    net = VGGFaceFeatures.from_file(path)
    image = torch.rand(1, 3, 32, 32)
    taps, x = [], image * 255 - torch.tensor(FACE_MEAN).reshape(1, 3, 1, 1)
    with torch.no_grad():
        for index, layer in enumerate(reference[:25]):
            x = layer(x)
            if index in (0, 5, 10, 17, 24):
                taps.append(x.clone())  # the reference's ReLU works in place
        for got, expected in zip(net(image), taps, strict=True):
            torch.testing.assert_close(got, expected)


def test_the_measuring_networks_take_no_gradient_but_pass_it_on(face_file: tuple[Path, torch.nn.Sequential]) -> None:
    net = VGGFaceFeatures.from_file(face_file[0])
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    net(image)[-1].sum().backward()
    assert image.grad is not None and image.grad.any()
    assert not any(p.requires_grad for p in net.parameters())


def test_a_file_of_something_else_is_refused(face_file: tuple[Path, torch.nn.Sequential], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"does not hold torchvision's VGG19: features\.0\.weight is missing"):
        VGG19Features.from_file(face_file[0])
    torch.save({"conv1_1.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"conv1_1\.weight is \(1,\), expected \(64, 3, 3, 3\)"):
        VGGFaceFeatures.from_file(tmp_path / "x.pth")


def test_vgg19_gives_relu1_1_to_relu5_1(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = vgg19(weights=None)
    torch.save({k: v for k, v in reference.state_dict().items() if k.startswith("features")}, tmp_path / "vgg19.pth")
    net = VGG19Features.from_file(tmp_path / "vgg19.pth")
    image = torch.rand(1, 3, 32, 32)
    x = (image - torch.tensor(MEAN).reshape(1, 3, 1, 1)) / torch.tensor(STD).reshape(1, 3, 1, 1)
    with torch.no_grad():
        taps = net(image)
        torch.testing.assert_close(taps[-1], reference.features[:30](x))
    assert [t.shape[1] for t in taps] == [64, 128, 256, 512, 512]
