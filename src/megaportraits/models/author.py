"""Imports the first author's public checkpoint (EMOPortraits, Drobyshev et al., 2024) into our base model.

Its networks are those of MegaPortraits with changes. Modules that compute the same are imported (`SAME`). Modules with
the same shapes but in another place or order are imported as a start for training (`START`). The table lists everything
else with the reason why it is not imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.config import ModelConfig, parse_config
from megaportraits.errors import ConfigError, WeightsError
from megaportraits.models.author_file import AGAIN, STEM, AuthorFile
from megaportraits.models.base import BaseModel

SAME, START, SHAPE, NONE = "same", "start only", "shape differs", "no counterpart"
_ENCODER = re.compile(r"local_encoder_nw\.enc_(\d+)_block=\d+px\.")
_SECOND = "a second block at this resolution, where ours has one"
_WHY = {
    "idt_embedder_nw": "a ResNet whose norms follow the convolutions; ours precede them (A.1)",
    "expression_embedder_nw": "a ResNet whose norms follow the convolutions; ours precede them (A.1)",
    "pose_unsqueeze_nw": "embeds z of expression_embedder_nw, which is not taken",
    "warp_embed_head_orig_nw": "a further layer between z + e_s and the warps",
    "volume_process_nw.input_tensor": "the decoder of their G_3D starts from a learned tensor",
    "volume_pred_nw": "3D blocks before the projection; the paper has none",
    "volume_renderer_nw": "volume rendering; the paper projects (A.1)",
    "local_encoder_back_nw": "background of the source; the paper's base has none",
    "backgroung_adding_nw": "background of the source; the paper's base has none",
    "background_process_nw": "background of the source; the paper's base has none",
    "avarage_tensor_ts": "a learned mean person; the paper has none",
    "discriminator_ds": "a discriminator, which only training needs",
    "discriminator2_ds": "a discriminator, which only training needs",
    "stylegan_discriminator_ds": "a discriminator, which only training needs",
    "head_pose_regressor": "a third-party network, trained separately",
    "get_face_vector": "a third-party network, trained separately",
    "get_face_vector_resnet": "a third-party network, trained separately",
    "face_idt": "a third-party network, trained separately",
    "face_parsing_bug": "a third-party network, trained separately",
    "get_mask": "a third-party network, trained separately",
}
_UNKNOWN = "unknown to this version of megaportraits"
_WARP = "their blocks follow the upsampling, ours precede it (Figure 9b)"
_VOLUME = "theirs begins the way up with a learned tensor and resamples at other places"


@dataclass(frozen=True)
class Line:
    """A line of the table of modules.

    Attributes:
        theirs: module in the file.
        ours: module of the base model; "" for none.
        status: one of `SAME`, `START`, `SHAPE`, `NONE`.
        numbers: how many numbers the file has for this module.
        reason: why it is not imported, or imported only as a start for training; "" for `SAME`.
    """

    theirs: str
    ours: str
    status: str
    numbers: int
    reason: str = ""


@dataclass
class Import:
    """The result of an import.

    Attributes:
        model: a base model with the imported weights; all other weights are newly initialised.
        table: a line for each module of the file.
        fresh: submodules of the model without imported weights.
    """

    model: BaseModel
    table: list[Line] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)

    def numbers(self, *statuses: str) -> int:
        """How many numbers of the file have one of these statuses."""
        return sum(line.numbers for line in self.table if line.status in statuses)


def import_author(state: Mapping[str, Tensor], like: ModelConfig, path: str = "the checkpoint") -> Import:
    """A base model with all weights of a checkpoint that have a counterpart in it.

    Args:
        state: the result of `author_file.read_author`.
        like: a config with the paper's structure. Sizes in the file replace its sizes.
        path: the name of the file in messages.

    Raises:
        WeightsError: no base model can have the file's sizes, or its weights are not finite.
    """
    file = AuthorFile(state)
    config = _config_of(file, like, path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BaseModel(config)
    own = model.state_dict()
    found = Import(model)
    taken: dict[str, Tensor] = {}
    for part in _counterparts(file, config):
        shapes = {name: tuple(own[name].shape) for name in part.tensors if name in own}
        wrong = {n: tuple(t.shape) for n, t in part.tensors.items() if shapes.get(n) != tuple(t.shape)}
        numbers = sum(state[key].numel() for key in part.keys)
        if wrong:
            name, shape = max(wrong.items(), key=lambda item: len(item[1]))  # a convolution before its norms
            reason = f"{name.removeprefix(part.ours + '.')}: {shape}, ours {shapes.get(name, 'has none')}"
            found.table.append(Line(part.theirs, part.ours, SHAPE, numbers, reason))
            continue
        for name, tensor in part.tensors.items():
            if not tensor.isfinite().all():
                raise WeightsError(f"{path}: {part.theirs} has weights that are not finite", fix=AGAIN)
            taken[name] = tensor
        found.table.append(Line(part.theirs, part.ours, START if part.reason else SAME, numbers, part.reason))
    found.table += _leftover(file)
    model.load_state_dict({**own, **taken})
    parts = {".".join(name.split(".")[:2]) if name.startswith("appearance") else name.split(".")[0] for name in own}
    covered = {part for part in parts if any(name.startswith(f"{part}.") for name in taken)}
    found.fresh = sorted(parts - covered)
    return found


@dataclass(frozen=True)
class _Part:
    theirs: str
    ours: str
    tensors: dict[str, Tensor]
    keys: list[str]
    reason: str = ""


def _config_of(file: AuthorFile, like: ModelConfig, path: str) -> ModelConfig:
    """The config `like` with the sizes that the file's tensors have."""
    match = next(m for name in file.state if (m := STEM.match(name)))
    size = int(match.group(1))
    widths = [file.shape(f"{name}.block_feats.2")[0] for name in _encoder_blocks(file)]
    grid = size >> len(widths)
    volume = file.shape("volume_source_nw.net.net.0.block_feats.2")
    down = file.shape("volume_process_nw.blocks_3d_down.0.block_feats.2")
    channels = volume[0] if volume else down[1] if down else like.volume_channels
    total = (file.shape("local_encoder_nw.finale_layers.2") or (like.volume_channels * like.volume_depth,))[0]
    ups = _upsampling_blocks(file, size, grid)
    data = like.model_dump()
    data["name"] = "author"
    data["weight_standardization"] = "none"
    data["image_size"] = size
    data["volume_channels"], data["volume_depth"] = channels, total // max(channels, 1)
    stem = file.shape(match.group(0).removesuffix("."))[0]
    data["appearance"] |= {"stem": stem, "widths": widths, "pool": [True] * len(widths)}
    if volume:
        data["appearance"]["blocks_3d"] = file.count("volume_source_nw.net.net", "block_feats.2")
    if projection := file.shape("decoder_nw.res_decoder.0"):
        blocks = sum(file.has(f"decoder_nw.res_decoder.{i}.block_feats.2") for i in range(1, 200))
        data["generator_2d"] |= {"channels": projection[0], "blocks": blocks}
    if ups:
        data["generator_2d"]["widths"] = [file.shape(f"{name}.block_feats.2")[0] for name in ups]
    try:
        return parse_config(ModelConfig, data, path)
    except ConfigError as error:
        raise WeightsError(f"{path}: no base model can have its sizes: {error.message}") from error


def _encoder_blocks(file: AuthorFile) -> list[str]:
    found = {int(m.group(1)): m.group(0)[:-1] for name in file.state if (m := _ENCODER.match(name))}
    return [found[number] for number in sorted(found)]


def _upsampling_blocks(file: AuthorFile, size: int, grid: int) -> list[str]:
    """The decoder's blocks that double the resolution: the first block at each resolution."""
    prefix = "decoder_nw.img_decoder.dec_img_blocks"
    count, doublings = file.count(prefix, "block_feats.2"), max((size // max(grid, 1)).bit_length() - 1, 1)
    step = max(count // doublings, 1)
    return [f"{prefix}.{i}" for i in range(0, count, step)][:doublings]


def _counterparts(file: AuthorFile, config: ModelConfig) -> Iterator[_Part]:
    """Every module of the file with a counterpart in our model, with its tensors under our names."""
    parts = _Parts(file)
    stem = next(m.group(0)[:-1] for name in file.state if (m := STEM.match(name)))
    yield parts.stem(stem, "appearance.volume.stem")
    for index, name in enumerate(_encoder_blocks(file)):
        yield parts.block(name, f"appearance.volume.blocks.{index}")
    yield from parts.head("local_encoder_nw.finale_layers", "appearance.volume", norm="norm", conv="to_volume")
    for index in range(file.count("volume_source_nw.net.net", "block_feats.2")):
        yield parts.block(f"volume_source_nw.net.net.{index}", f"appearance.volume.blocks_3d.{index}")
    for theirs, ours in (("xy_generator_nw", "warp_source"), ("uv_generator_nw", "warp_driver")):
        yield from _warp(parts, theirs, ours)
    yield from _generator_3d(parts)
    if file.has("decoder_nw.res_decoder.0"):
        yield parts.conv("decoder_nw.res_decoder.0", "projection.conv")
    for index in range(config.generator_2d.blocks):
        if file.has(f"decoder_nw.res_decoder.{index + 1}.block_feats.2"):
            yield parts.block(f"decoder_nw.res_decoder.{index + 1}", f"generator_2d.blocks.{index}")
    for index, name in enumerate(_upsampling_blocks(file, config.image_size, config.volume_size)):
        yield parts.block(name, f"generator_2d.up.{index}")
    last = "decoder_nw.img_decoder.dec_img_head"
    yield from parts.head(last, "generator_2d.output", norm="norm", conv="conv", kernel=3)


def _warp(parts: _Parts, theirs: str, ours: str) -> Iterator[_Part]:
    file = parts.file
    if not file.has(f"{theirs}.first_conv"):
        return
    yield parts.conv(f"{theirs}.first_conv", f"{ours}.to_volume", reason=_WARP)
    for index in range(file.count(f"{theirs}.blocks_3d", "block_feats.2")):
        part = parts.block(f"{theirs}.blocks_3d.{index}", f"{ours}.blocks.{index}", reason=_WARP)
        for number, norm in enumerate(("norm1", "norm2"), 2 * index):
            for matrix in ("u", "v"):
                key = f"{theirs}.projector.{matrix}.{number}"
                if key in file.state:
                    part.tensors[f"{ours}.blocks.{index}.{norm}.{matrix}"] = file.plain(key)
                    part.keys.append(key)
        yield part
    if file.has(f"{theirs}.pre_head.0"):
        yield parts.norm(f"{theirs}.pre_head.0", f"{ours}.output.norm", reason=_WARP)
    if file.has(f"{theirs}.head.0.0"):
        yield parts.conv(f"{theirs}.head.0.0", f"{ours}.output.conv", reason=_WARP)


def _generator_3d(parts: _Parts) -> Iterator[_Part]:
    """G_3D. Its decoder is numbered from the coarsest level, ours from the finest; its first skip is our bottleneck."""
    file, prefix = parts.file, "volume_process_nw"
    levels = file.count(f"{prefix}.blocks_3d_down", "block_feats.2")
    for index in range(levels):
        yield parts.block(f"{prefix}.blocks_3d_down.{index}", f"generator_3d.down.{index}", reason=_VOLUME)
    for index in range(file.count(f"{prefix}.blocks_3d_up", "block_feats.2")):
        yield parts.block(f"{prefix}.blocks_3d_up.{index}", f"generator_3d.up.{levels - 1 - index}", reason=_VOLUME)
    for index in range(file.count(f"{prefix}.skip_blocks_3d_up", "block_feats.2")):
        ours = "generator_3d.bottleneck.0" if index == 0 else f"generator_3d.skips.{levels - 1 - index}"
        yield parts.block(f"{prefix}.skip_blocks_3d_up.{index}", ours, reason=_VOLUME)
    if file.has(f"{prefix}.head.2"):
        yield from parts.head(
            f"{prefix}.head", "generator_3d.output", norm="norm", conv="conv", kernel=3, reason=_VOLUME
        )


class _Parts:
    """Reads modules of the file and returns them under our names."""

    def __init__(self, file: AuthorFile) -> None:
        self.file = file

    def conv(self, theirs: str, ours: str, *, standardized: bool = False, kernel: int = 0, reason: str = "") -> _Part:
        """A convolution or linear layer. A 1x1 kernel is zero-padded to `kernel`, which computes the same."""
        before = set(self.file.used)
        weight = self.file.weight(theirs, standardized=standardized)
        bias = self.file.bias(theirs, weight)
        if kernel > 1 and set(weight.shape[2:]) == {1}:
            weight = F.pad(weight, [kernel // 2] * 2 * (weight.ndim - 2))
        return _Part(theirs, ours, {f"{ours}.weight": weight, f"{ours}.bias": bias}, self._since(before), reason)

    def stem(self, theirs: str, ours: str) -> _Part:
        """The first convolution. Its input is in [0, 1], ours in [-1, 1]: W x = W/2 (2 x - 1) + sum(W)/2."""
        part = self.conv(theirs, ours)
        weight, bias = part.tensors[f"{ours}.weight"], part.tensors[f"{ours}.bias"]
        tensors = {f"{ours}.weight": weight / 2, f"{ours}.bias": bias + weight.flatten(1).sum(1) / 2}
        return _Part(part.theirs, part.ours, tensors, part.keys)

    def norm(self, theirs: str, ours: str, *, reason: str = "") -> _Part:
        """A GroupNorm, adaptive or not."""
        before = set(self.file.used)
        tensors = {f"{ours}.{name}": self.file.plain(f"{theirs}.{name}") for name in ("weight", "bias")}
        return _Part(theirs, ours, tensors, self._since(before), reason)

    def block(self, theirs: str, ours: str, *, reason: str = "") -> _Part:
        """A residual block. Those of its convolutions that have a bias are weight-standardised."""
        file, tensors, keys = self.file, dict[str, Tensor](), list[str]()
        for norm, name in (("block_feats.0", "norm1"), ("block_feats.3", "norm2")):
            if f"{theirs}.{norm}.weight" in file.state:
                part = self.norm(f"{theirs}.{norm}", f"{ours}.{name}")
                tensors |= part.tensors
                keys += part.keys
        for layer, name in (("block_feats.2", "conv1"), ("block.0", "conv2"), ("skip.0", "skip")):
            if file.has(f"{theirs}.{layer}"):
                standardized = f"{theirs}.{layer}.bias" in file.state
                part = self.conv(f"{theirs}.{layer}", f"{ours}.{name}", standardized=standardized)
                tensors |= part.tensors
                keys += part.keys
        return _Part(theirs, ours, tensors, keys, reason)

    def head(
        self, theirs: str, ours: str, *, norm: str, conv: str, kernel: int = 0, reason: str = ""
    ) -> Iterator[_Part]:
        """A sequence of GroupNorm, ReLU and convolution (its third module)."""
        if f"{theirs}.0.weight" in self.file.state:
            yield self.norm(f"{theirs}.0", f"{ours}.{norm}", reason=reason)
        if self.file.has(f"{theirs}.2"):
            three = len(self.file.shape(f"{theirs}.2")) == 5  # 3D convolutions are standardised in adaptive blocks only
            standardized = self.file.standardizes and not three
            yield self.conv(f"{theirs}.2", f"{ours}.{conv}", standardized=standardized, kernel=kernel, reason=reason)

    def _since(self, before: set[str]) -> list[str]:
        return sorted(self.file.used - before)


def _leftover(file: AuthorFile) -> Iterator[Line]:
    """Lines for all tensors that were not read, grouped by module."""
    groups: dict[tuple[str, str], int] = {}
    for name, tensor in file.state.items():
        if name in file.used:
            continue
        if name.endswith(".identity_grid"):
            module, why = name, "a constant"
        elif name.startswith("decoder_nw.img_decoder.dec_img_blocks."):
            module, why = ".".join(name.split(".")[:4]), _SECOND
        else:
            module = next((known for known in _WHY if name == known or name.startswith(f"{known}.")), "")
            why = _WHY.get(module, _UNKNOWN)
            module = module or ".".join(name.split(".")[:2])
        groups[module, why] = groups.get((module, why), 0) + tensor.numel()
    for (module, why), numbers in groups.items():
        yield Line(module, "", NONE, numbers, why)
