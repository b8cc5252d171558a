"""EfficientNet-Lite0: the published weights load and classify; feature maps have the documented sizes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import skimage.data
import torch
import torch.nn.functional as F

from megaportraits import weights
from megaportraits.errors import WeightsError
from megaportraits.nn.efficientnet import EfficientNetLite0, _SameConv


def test_taps_have_the_documented_channels_and_sizes() -> None:
    maps = EfficientNetLite0().eval()(torch.rand(2, 3, 96, 64))
    assert [tuple(m.shape) for m in maps] == [
        (2, 16, 48, 32),
        (2, 24, 24, 16),
        (2, 40, 12, 8),
        (2, 112, 6, 4),
    ]


def test_same_padding_puts_the_odd_pixel_right_and_below() -> None:
    conv = _SameConv(1, 1, 3, 2, bias=False)
    x = torch.rand(1, 1, 6, 6)
    torch.testing.assert_close(conv(x), F.conv2d(F.pad(x, (0, 1, 0, 1)), conv.weight, stride=2))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_every_padding_is_the_explicit_one(stride: int, kernel: int) -> None:
    conv = _SameConv(2, 2, kernel, stride, groups=2)
    x = torch.rand(1, 2, 7, 9)
    pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in (9, 9, 7, 7)]
    padded = F.pad(x, (pads[0] // 2, pads[1] - pads[1] // 2, pads[2] // 2, pads[3] - pads[3] // 2))
    torch.testing.assert_close(conv(x), F.conv2d(padded, conv.weight, conv.bias, stride, groups=2))


def test_folded_batch_norms_change_neither_features_nor_gradients() -> None:
    torch.manual_seed(0)
    plain = EfficientNetLite0().eval().requires_grad_(False)
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                values.data.uniform_(0.5, 1.5)
    folded = copy.deepcopy(plain)
    folded.fold()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    sums = [sum(m.square().mean() for m in net(image)) for net in (plain, folded)]
    gradients = [torch.autograd.grad(value, image)[0] for value in sums]
    for expected, found in zip(plain(image), folded(image), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(folded.classify(image), plain.classify(image), atol=1e-4, rtol=1e-4)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(WeightsError, match="is not a checkpoint of torch"):
        EfficientNetLite0.from_file(tmp_path / "page.pth")
    torch.save({"_fc.bias": torch.zeros(1000)}, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match=r"does not hold EfficientNet-Lite0: _conv_stem\.weight is missing"):
        EfficientNetLite0.from_file(tmp_path / "part.pth")


def test_the_published_weights_know_a_tabby_cat() -> None:
    try:
        path = weights.fetch("efficientnet_lite0")
    except WeightsError as error:
        pytest.skip(f"weights cannot be had: {error}")
    net = EfficientNetLite0.from_file(path)
    assert not any(parameter.requires_grad for parameter in net.parameters())
    image = torch.from_numpy(skimage.data.chelsea()[:, 75:375].copy()).permute(2, 0, 1)[None] / 255
    image = F.interpolate(image, (224, 224), mode="bilinear", antialias=True, align_corners=False)
    # 281 tabby, 282 tiger cat, 285 Egyptian cat.
    assert net.classify(image).argmax().item() in (281, 282, 285)
