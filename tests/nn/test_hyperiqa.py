from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from megaportraits.errors import ShapeError, WeightsError
from megaportraits.nn.hyperiqa import HyperIQA


@pytest.fixture(scope="module")
def network() -> HyperIQA:
    torch.manual_seed(0)
    return HyperIQA().eval()


def test_the_checkpoints_names_and_shapes_are_the_authors(network: HyperIQA) -> None:
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    expected = {
        "res.conv1.weight": (64, 3, 7, 7),
        "res.layer4.2.conv3.weight": (2048, 512, 1, 1),
        "res.lda1_pool.0.weight": (16, 256, 1, 1),
        "res.lda1_fc.weight": (16, 1024),
        "res.lda3_fc.weight": (16, 256),
        "res.lda4_fc.weight": (176, 2048),
        "conv1.4.weight": (112, 512, 1, 1),
        "fc1w_conv.weight": (512, 112, 3, 3),
        "fc1b_fc.weight": (112, 112),
        "fc4w_conv.weight": (8, 112, 3, 3),
        "fc5w_fc.weight": (14, 112),
        "fc5b_fc.weight": (1, 112),
    }
    assert {name: shapes[name] for name in expected} == expected
    assert not any(name.startswith(("res.fc", "mean", "std")) for name in shapes)


def test_the_judge_is_the_network_that_the_hypernetwork_wrote(network: HyperIQA) -> None:
    """Against the authors' formulation: one grouped convolution per layer, each picture a group."""
    image = torch.rand(3, 3, 224, 224)
    with torch.inference_mode():
        x, deep = network.res.features((image - network.mean) / network.std)
        hyper = network.conv1(deep)
        pooled = F.adaptive_avg_pool2d(hyper, 1)[..., 0, 0]
        x = x.reshape(1, 3 * 224, 1, 1)
        for layer, (inputs, outputs) in enumerate([(224, 112), (112, 56), (56, 28), (28, 14), (14, 1)], 1):
            weight = network.fc5w_fc(pooled) if layer == 5 else getattr(network, f"fc{layer}w_conv")(hyper)
            bias = getattr(network, f"fc{layer}b_fc")(pooled)
            x = F.conv2d(x, weight.reshape(3 * outputs, inputs, 1, 1), bias.reshape(-1), groups=3)
            x = x if layer == 5 else x.sigmoid()
        assert torch.allclose(network(image), x.reshape(3), atol=1e-5)


def test_a_file_of_that_shape_loads_and_any_other_is_refused(network: HyperIQA, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "good.pkl")
    again = HyperIQA.from_file(tmp_path / "good.pkl")
    picture = np.random.default_rng(0).integers(0, 256, (260, 300, 3), dtype=np.uint8)
    assert again.score(picture) == pytest.approx(network.score(picture), abs=1e-5)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pkl")
    (tmp_path / "text.pkl").write_text("no pickle")
    for name, problem in (("other.pkl", "does not hold HyperIQA"), ("text.pkl", "not a checkpoint of torch")):
        with pytest.raises(WeightsError, match=problem):
            HyperIQA.from_file(tmp_path / name)


def test_small_pictures_are_judged_and_other_tensors_refused(network: HyperIQA) -> None:
    assert np.isfinite(network.score(np.zeros((40, 60, 3), np.uint8)))
    with pytest.raises(ShapeError, match="224"):
        network(torch.zeros(1, 3, 64, 64))


def test_a_picture_is_judged_as_published_by_ten_crops_of_the_whole(
    network: HyperIQA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five crops of 224 px saw a quarter of a 1024 px picture."""
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(network, "forward", lambda views: seen.append(views) or views.mean((1, 2, 3)))
    where = np.zeros((1024, 1024, 3), np.uint8)
    rows, columns = np.mgrid[:1024, :1024]
    where[..., 0], where[..., 1] = rows // 4, columns // 4
    scores = [network.score(where) for _ in range(2)]
    assert scores[0] == scores[1] and seen[0].shape == (10, 3, 224, 224)
    across = seen[0][:, :2].flatten(2)
    spans = (across.max(2).values - across.min(2).values).mean(0)
    assert spans[0] == pytest.approx(224 / 512, abs=0.01) and spans[1] == pytest.approx(224 / 384, abs=0.01)
    covered = {(int(y * 10), int(x * 10)) for y, x in across.transpose(0, 1).flatten(1).T.tolist()}
    assert len(covered) > 85  # of 100 tenths by tenths of the picture
