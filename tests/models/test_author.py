"""Importing the author's checkpoint, on a file with the same keys and shapes: imported parts compute the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from typer.testing import CliRunner

from megaportraits.commands.importing import import_app
from megaportraits.config import ModelConfig, parse_config
from megaportraits.errors import MediaError, WeightsError
from megaportraits.models.author import NONE, SAME, SHAPE, START, import_author
from megaportraits.models.author_file import read_author
from megaportraits.models.storage import load_base
from megaportraits.nn.weights_file import read_notes
from tests.conftest import TINY

SIZE, GRID, CHANNELS, DEPTH = 32, 8, 32, 2
LIKE = {
    **{k: v for k, v in TINY.items() if k in ("descriptor", "motion", "appearance")},
    "name": "like",
    "image_size": SIZE,
    "volume_channels": CHANNELS,
    "volume_depth": DEPTH,
    "groups": 32,
    "warp": {"inputs": 32, "input_depth": 4, "widths": [32], "upsample": [[1, 2, 2]]},
    "generator_3d": {"widths": [64], "strides": [[1, 2, 2]]},
    "generator_2d": {"channels": 16, "blocks": 3, "widths": [8, 8]},
}


class Writer:
    """Tensors under the author's names: spectral norms on convolutions, standardised ones with plain weights."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}
        torch.manual_seed(0)

    def spectral(self, name: str, *shape: int, bias: bool = False) -> None:
        weight = torch.randn(shape)
        u = F.normalize(torch.randn(shape[0]), dim=0)
        v = F.normalize(weight.flatten(1).T @ u, dim=0)
        self.state |= {f"{name}.weight_orig": weight, f"{name}.weight_u": u, f"{name}.weight_v": v}
        if bias:
            self.state[f"{name}.bias"] = torch.randn(shape[0])

    def plain(self, name: str, *shape: int, bias: bool = True) -> None:
        self.state[f"{name}.weight"] = torch.randn(shape)
        if bias:
            self.state[f"{name}.bias"] = torch.randn(shape[0])

    def block(self, name: str, inputs: int, outputs: int, dim: int, *, standardized: bool) -> None:
        kernel = [3] * dim
        self.plain(f"{name}.block_feats.0", inputs)
        (self.plain if standardized else self.spectral)(f"{name}.block_feats.2", outputs, inputs, *kernel)
        self.plain(f"{name}.block_feats.3", outputs)
        self.spectral(f"{name}.block.0", outputs, outputs, *kernel)
        if inputs != outputs:
            self.spectral(f"{name}.skip.0", outputs, inputs, *[1] * dim)


def checkpoint(*, per_resolution: int = 1) -> dict[str, Tensor]:
    """All networks of the author's base model, small."""
    w = Writer()
    w.spectral("local_encoder_nw.from_rgb_32px", 32, 3, 7, 7, bias=True)
    w.block("local_encoder_nw.enc_0_block=32px", 32, 64, 2, standardized=True)
    w.block("local_encoder_nw.enc_1_block=16px", 64, 64, 2, standardized=True)
    w.plain("local_encoder_nw.finale_layers.0", 64)
    w.plain("local_encoder_nw.finale_layers.2", CHANNELS * DEPTH, 64, 1, 1)
    w.block("volume_source_nw.net.net.0", CHANNELS, CHANNELS, 3, standardized=False)
    for name in ("xy_generator_nw", "uv_generator_nw"):
        w.plain(f"{name}.first_conv", 128, 8, 1, 1, bias=False)
        w.block(f"{name}.blocks_3d.0", 32, 32, 3, standardized=True)
        for number in range(2):
            w.state[f"{name}.projector.u.{number}"] = torch.randn(32, 8)
            w.state[f"{name}.projector.v.{number}"] = torch.randn(16, 2)
        w.plain(f"{name}.pre_head.0", 32)
        w.spectral(f"{name}.head.0.0", 3, 32, 3, 3, 3, bias=True)
        w.state[f"{name}.identity_grid"] = torch.zeros(1, 3, 2, 8, 8)
    w.block("volume_process_nw.blocks_3d_down.0", CHANNELS, 64, 3, standardized=False)
    w.block("volume_process_nw.blocks_3d_up.0", 64, CHANNELS, 3, standardized=False)
    w.block("volume_process_nw.skip_blocks_3d_up.0", 64, 64, 3, standardized=False)
    w.state["volume_process_nw.input_tensor"] = torch.randn(1, 64, 4, 4, 4)
    w.plain("volume_process_nw.head.0", CHANNELS)
    w.spectral("volume_process_nw.head.2", CHANNELS, CHANNELS, 1, 1, 1, bias=True)
    w.spectral("decoder_nw.res_decoder.0", 64, CHANNELS * DEPTH, 1, 1)
    w.block("decoder_nw.res_decoder.1", 64, 64, 2, standardized=True)
    inputs = 64
    for number in range(2 * per_resolution):
        w.block(f"decoder_nw.img_decoder.dec_img_blocks.{number}", inputs, 32, 2, standardized=True)
        inputs = 32
    w.plain("decoder_nw.img_decoder.dec_img_head.0", 32)
    w.plain("decoder_nw.img_decoder.dec_img_head.2", 3, 32, 1, 1)
    w.spectral("idt_embedder_nw.net.conv1", 8, 3, 7, 7)
    w.plain("expression_embedder_nw.net_face.pose_head", 12, 12, bias=False)
    w.plain("pose_unsqueeze_nw", 128, 12, bias=False)
    w.plain("discriminator_ds.nets.0", 4, 3, 3, 3)
    w.plain("something_new", 5)
    return w.state


class Theirs:
    """Their forward pass from its description, with functions alone."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def weight(self, name: str, *, standardized: bool) -> Tensor:
        if f"{name}.weight_orig" in self.state:
            weight = self.state[f"{name}.weight_orig"]
            return weight / (self.state[f"{name}.weight_u"] @ weight.flatten(1) @ self.state[f"{name}.weight_v"])
        weight = self.state[f"{name}.weight"]
        if not standardized:
            return weight
        flat = weight.flatten(1)
        flat = flat - flat.mean(1, keepdim=True)
        return (flat / (flat.std(1, keepdim=True) + 1e-5)).reshape(weight.shape)

    def conv(self, x: Tensor, name: str, *, standardized: bool = False, pad: int | None = None) -> Tensor:
        weight, bias = self.weight(name, standardized=standardized), self.state.get(f"{name}.bias")
        act = F.conv2d if weight.ndim == 4 else F.conv3d
        return act(x, weight, bias, padding=weight.shape[-1] // 2 if pad is None else pad)

    def norm(self, x: Tensor, name: str) -> Tensor:
        return F.relu(F.group_norm(x, 32, self.state[f"{name}.weight"], self.state[f"{name}.bias"]))

    def block(self, x: Tensor, name: str) -> Tensor:
        standardized = f"{name}.block_feats.2.bias" in self.state
        h = self.conv(self.norm(x, f"{name}.block_feats.0"), f"{name}.block_feats.2", standardized=standardized)
        h = self.conv(self.norm(h, f"{name}.block_feats.3"), f"{name}.block.0")
        skip = self.conv(x, f"{name}.skip.0") if f"{name}.skip.0.weight_orig" in self.state else x
        return h + skip

    def volume(self, image: Tensor) -> Tensor:
        x = F.pad(image, (3, 3, 3, 3), value=0.5)  # theirs is black outside, ours grey: nothing else differs
        x = self.conv(x, "local_encoder_nw.from_rgb_32px", pad=0)
        for name in ("enc_0_block=32px", "enc_1_block=16px"):
            x = F.avg_pool2d(self.block(x, f"local_encoder_nw.{name}"), 2)
        x = self.norm(x, "local_encoder_nw.finale_layers.0")
        x = self.conv(x, "local_encoder_nw.finale_layers.2", standardized=True)
        return self.block(x.view(len(x), CHANNELS, DEPTH, GRID, GRID), "volume_source_nw.net.net.0")

    def picture(self, volume: Tensor) -> Tensor:
        x = self.conv(volume.flatten(1, 2), "decoder_nw.res_decoder.0")
        x = self.block(x, "decoder_nw.res_decoder.1")
        for number in range(2):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = self.block(x, f"decoder_nw.img_decoder.dec_img_blocks.{number}")
        x = self.norm(x, "decoder_nw.img_decoder.dec_img_head.0")
        return self.conv(x, "decoder_nw.img_decoder.dec_img_head.2", standardized=True).sigmoid()


def like(**changes: Any) -> ModelConfig:
    return parse_config(ModelConfig, LIKE | changes, "like")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return checkpoint()


def test_what_is_taken_as_the_same_computes_what_their_networks_compute(state: dict[str, Tensor]) -> None:
    found = import_author(state, like())
    model = found.model.eval()
    config = model.config
    assert (config.appearance.stem, config.appearance.widths, config.appearance.blocks_3d) == (32, (64, 64), 1)
    assert (config.generator_2d.channels, config.generator_2d.blocks, config.generator_2d.widths) == (64, 1, (32, 32))
    image = torch.rand(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        volume = model.appearance.volume(image)
        torch.testing.assert_close(volume, Theirs(state).volume(image), rtol=1e-3, atol=1e-3)
        picture, _ = model.generator_2d(model.projection(volume), torch.zeros(2, 12))
        torch.testing.assert_close(picture, Theirs(state).picture(volume), rtol=1e-3, atol=1e-3)


def test_every_tensor_of_the_file_stands_in_the_table_once_with_a_reason_if_it_is_not_the_same(
    state: dict[str, Tensor],
) -> None:
    found = import_author(state, like())
    assert sum(line.numbers for line in found.table) == sum(t.numel() for t in state.values())
    assert all(line.reason for line in found.table if line.status != SAME)
    status = {line.theirs: (line.status, line.ours) for line in found.table}
    assert status["local_encoder_nw.from_rgb_32px"] == (SAME, "appearance.volume.stem")
    assert status["xy_generator_nw.blocks_3d.0"] == (START, "warp_source.blocks.0")
    assert status["volume_process_nw.skip_blocks_3d_up.0"] == (START, "generator_3d.bottleneck.0")
    for name in ("idt_embedder_nw", "pose_unsqueeze_nw", "discriminator_ds", "volume_process_nw.input_tensor"):
        assert status[name] == (NONE, "")
    assert {line.reason for line in found.table if line.theirs.startswith("something_new")} == {
        "unknown to this version of megaportraits"
    }
    assert found.fresh == ["appearance.descriptor", "embed_z", "motion"]
    uv = state["uv_generator_nw.projector.u.1"]
    assert torch.equal(found.model.state_dict()["warp_driver.blocks.0.norm2.u"], uv)
    assert found.numbers(SAME, START, SHAPE, NONE) == sum(t.numel() for t in state.values())


def test_modules_of_another_shape_or_number_are_named(state: dict[str, Tensor]) -> None:
    other = like(generator_3d={"widths": [96], "strides": [[1, 2, 2]]})
    found = import_author(state, other)
    (line,) = (line for line in found.table if line.theirs == "volume_process_nw.blocks_3d_down.0")
    assert line.status == SHAPE and "(64, 32, 3, 3, 3), ours (96, 32, 3, 3, 3)" in line.reason
    two = import_author(checkpoint(per_resolution=2), like())
    seconds = [line for line in two.table if line.theirs.startswith("decoder_nw.img_decoder.dec_img_blocks")]
    assert [(line.theirs[-1], line.status) for line in seconds] == [("0", SAME), ("2", SAME), ("1", NONE), ("3", NONE)]
    assert seconds[2].reason == "a second block at this resolution, where ours has one"


def test_files_are_read_without_running_code_and_others_are_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "author.pth"
    torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}, "step": 3}, path)
    assert read_author(path).keys() == state.keys()
    with pytest.raises(WeightsError, match="does not exist"):
        read_author(tmp_path / "none.pth")
    ran = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(ran),))

    torch.save({"local_encoder_nw.from_rgb_32px.weight": Bomb()}, path)
    with pytest.raises(WeightsError, match=r"holds objects of \w+\.mkdir, and loading them would run code") as error:
        read_author(path)
    assert "state dict alone" in error.value.fix and not ran.exists()
    path.write_bytes(b"some text")
    with pytest.raises(WeightsError, match="is not a checkpoint of torch"):
        read_author(path)
    path.write_bytes(b"\x80torn")
    with pytest.raises(WeightsError, match="is damaged"):
        read_author(path)
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="not the author's base model"):
        read_author(path)
    torn = {name: tensor for name, tensor in state.items() if name != "decoder_nw.res_decoder.0.weight_u"}
    with pytest.raises(WeightsError, match=r"no tensor decoder_nw\.res_decoder\.0\.weight_u"):
        import_author(torn, like())
    name = "decoder_nw.img_decoder.dec_img_head.0.bias"
    with pytest.raises(WeightsError, match="not finite"):
        import_author({**state, name: state[name] * torch.nan}, like())


def test_the_command_shows_the_table_and_writes_a_start_for_training(state: dict[str, Tensor], tmp_path: Path) -> None:
    import yaml

    path, out = tmp_path / "author.pth", tmp_path / "base.safetensors"
    torch.save(state, path)
    (tmp_path / "like.yaml").write_text(yaml.safe_dump({"extends": "paper-256", "model": LIKE}))
    line = ["author", str(path), "--config", str(tmp_path / "like.yaml")]
    shown = CliRunner().invoke(import_app, line)
    assert shown.exit_code == 0 and not out.exists()
    assert "same            decoder_nw.res_decoder.0 -> projection.conv" in shown.output
    made = CliRunner().invoke(import_app, [*line, "-o", str(out)])
    assert made.exit_code == 0 and "not a model to animate with" in made.output
    assert "--set 'model.appearance.widths=[64, 64]'" in made.output and "--head-pose HEAD_POSE" in made.output
    assert read_notes(out)["imported"] == "author.pth" and "motion" in read_notes(out)["fresh"]
    model = load_base(out)
    assert model.config.weight_standardization == "none"
    norm = state["local_encoder_nw.finale_layers.0.weight"]
    torch.testing.assert_close(model.appearance.volume.norm.weight, norm, rtol=1e-3, atol=1e-3)
    again = CliRunner().invoke(import_app, [*line, "-o", str(out)])
    assert isinstance(again.exception, MediaError)
