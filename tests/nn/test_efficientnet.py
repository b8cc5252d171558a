"""EfficientNet-Lite0: the published weights load strictly and classify; feature maps have the documented sizes."""

from __future__ import annotations

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
