"""G_DT of the paper, the student (3.3, A.3): a driver frame and an avatar's index to an image of that avatar.

driver x_d ── ResNet-18 ──> features ───────> SPADE residual blocks ──> image
                  └── finer stages (encoder_skips) ──^      ^
index i ──> identity tensors of avatar i ───────────────────┘   once per avatar: `identity`

"In each SPADE block a tensor used for normalization is fixed for a specific avatar [...] we force our model to store
all the identity-specific information into SPADE blocks" (A.3). All avatars share all other weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.config import StudentConfig, parse_config
from megaportraits.errors import WeightsError
from megaportraits.nn.adaptive import SpatiallyAdaptiveNorm
from megaportraits.nn.backbones import ResNet
from megaportraits.nn.blocks import BlockStyle, add_branch, make_conv
from megaportraits.ops.compositing import composite
from megaportraits.ops.resample import fit_input
from megaportraits.ops.shapes import check_shape

StudentIdentity = tuple[Tensor, ...]
"""For each SPADE norm gamma and beta, (B or 1, 2 C, H, W), at the resolution of the features that they modulate."""


@dataclass(frozen=True)
class StudentOutput:
    """An image of an avatar.

    Attributes:
        image: (B, 3, S, S) in [0, 1]; straight colours when there is an alpha.
        alpha: (B, 1, S, S) in [0, 1], or None when the student predicts no matte.
    """

    image: Tensor
    alpha: Tensor | None

    def over(self, color: Tensor) -> Tensor:
        """Composite the image over a flat colour (B, 3, 1, 1); unchanged without alpha."""
        if self.alpha is None:
            return self.image
        return composite(self.image, self.alpha, color)


class SpadeBlock(nn.Module):
    """SPADE, ReLU, (x2), 3x3 convolution, SPADE, ReLU, 3x3 convolution, plus skip (Figure 11 a)."""

    def __init__(self, inputs: int, outputs: int, size: int, *, doubles: bool) -> None:
        super().__init__()
        self.doubles = doubles
        self.norm1 = SpatiallyAdaptiveNorm(inputs, size)
        self.conv1 = make_conv(2, inputs, outputs, 3)
        self.norm2 = SpatiallyAdaptiveNorm(outputs, size * 2 if doubles else size)
        self.conv2 = make_conv(2, outputs, outputs, 3)
        self.skip = nn.Identity() if inputs == outputs else make_conv(2, inputs, outputs, 1)

    def forward(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Features x (B, C, H, W), and the modulation of the first and the second norm."""
        h, skip = F.relu(self.norm1(x, first), inplace=True), self.skip(x)
        if self.doubles:
            h, skip = (F.interpolate(t, scale_factor=2, mode="nearest") for t in (h, skip))
        h = self.conv1(h)
        return add_branch(skip, self.conv2(F.relu(self.norm2(h, second), inplace=True)))


class Student(nn.Module):
    """A student for a list of avatars; `config` has its widths and counts.

    Args:
        config: widths and sizes.
        avatars: a name for each avatar, in the order of their indices.

    Attributes:
        tensors: for each norm the identity tensors of all avatars, (N, C, h, w), h and w at most
            `config.identity_size`. Row i of each tensor belongs to avatar i; no other weights depend on the avatar.
    """

    def __init__(self, config: StudentConfig, avatars: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.avatars = tuple(avatars)
        style = BlockStyle(config.groups, config.weight_standardization)
        self.encoder = ResNet(18, config.encoder_width, style)
        self.entry = make_conv(2, self.encoder.channels, config.widths[0], 1)
        blocks, inputs, size = [], config.widths[0], config.start_size
        stages = {config.start_size * 2 ** (3 - k): n for k, n in enumerate(self.encoder.stage_channels[:-1])}
        self.skips = nn.ModuleDict()
        for index, width in enumerate(config.widths):
            doubles = index >= len(config.widths) - config.doublings
            blocks.append(SpadeBlock(inputs, width, size, doubles=doubles))
            inputs, size = width, size * 2 if doubles else size
            if config.encoder_skips and doubles and size in stages:
                project = make_conv(2, stages[size], width, 1)
                self.skips[str(index)] = nn.Sequential(style.norm(stages[size]), nn.ReLU(), project)
        self.blocks = nn.ModuleList(blocks)
        self.exit = make_conv(2, inputs, (4 if config.predict_matte else 3) * config.shuffle**2, 3)
        # Initialised constant over the image, for smooth first outputs, and different for each avatar.
        self.tensors = nn.ParameterList(
            0.5
            * torch.randn(len(self.avatars), n.channels, 1, 1).repeat(1, 1, *[min(n.size, config.identity_size)] * 2)
            for n in self.norms()
        )

    def norms(self) -> list[SpatiallyAdaptiveNorm]:
        """Every SPADE norm, in the order of `tensors`."""
        return [module for module in self.blocks.modules() if isinstance(module, SpatiallyAdaptiveNorm)]

    def bytes_per_avatar(self) -> int:
        """Bytes that each avatar adds to a float16 file."""
        return 2 * sum(rows[0].numel() for rows in self.tensors)

    def bytes_shared(self) -> int:
        """Bytes of a float16 file that all avatars share."""
        return 2 * sum(p.numel() for p in self.parameters()) - len(self.avatars) * self.bytes_per_avatar()

    def find(self, avatar: str) -> int:
        """The index of an avatar by name.

        Raises:
            WeightsError: the student has no such avatar.
        """
        if avatar not in self.avatars:
            raise WeightsError(f"the student has no avatar {avatar!r}", fix="It has: " + ", ".join(self.avatars) + ".")
        return self.avatars.index(avatar)

    def identity(self, index: Tensor) -> StudentIdentity:
        """The modulation of all norms for avatars (B,) int64; called once for each avatar, not for each driver."""
        check_shape(index, "index", "B")
        return tuple(norm.modulation(rows[index]) for norm, rows in zip(self.norms(), self.tensors, strict=True))

    def render(self, driver: Tensor, identity: StudentIdentity) -> StudentOutput:
        """The avatar with the driver's motion; called once for each frame.

        Args:
            driver: (B, 3, S, S) in [0, 1], head crops.
            identity: of B avatars, or of one for all drivers.
        """
        check_shape(driver, "driver", "B", 3, "S", "S")
        driver = fit_input(driver, self.config.input_size)
        stages: list[Tensor] = []
        x = self.entry(self.encoder(driver, stages))
        for index, block in enumerate(self.blocks):
            x = block(x, identity[2 * index], identity[2 * index + 1])
            if str(index) in self.skips:  # coarse to fine, in the order of the blocks
                x = x + self.skips[str(index)](stages.pop())
        image = F.pixel_shuffle(self.exit(F.relu(x)), self.config.shuffle).float().sigmoid()
        return StudentOutput(image[:, :3], image[:, 3:] if self.config.predict_matte else None)

    def forward(self, driver: Tensor, index: Tensor) -> StudentOutput:
        """G_DT(x_d, i), eq. 11: drivers (B, 3, S, S) in [0, 1] and avatars (B,) int64."""
        check_shape(index, "index", len(driver))
        return self.render(driver, self.identity(index))


def resized(student: Student, image_size: int) -> Student:
    """The same student for another image size: each pixel becomes a block of equal pixels, or each block its mean.

    Only the last layer depends on the image size, so only its weights change. Use it to train at a small size first and
    continue at a larger one: training is several times cheaper at 128 px than at 256.

    Raises:
        ConfigError: the resolution of the last block does not divide `image_size`.
    """
    config = parse_config(StudentConfig, {**student.config.model_dump(), "image_size": image_size}, "student")
    other = Student(config, student.avatars)
    state = student.state_dict()
    before, after = student.config.shuffle, config.shuffle
    for name in ("exit.weight", "exit.bias"):
        shape = (-1, before, before, state[name][0].numel())
        blocks = F.interpolate(state[name].reshape(shape).permute(0, 3, 1, 2), (after, after), mode="area")
        state[name] = blocks.permute(0, 2, 3, 1).reshape(-1, *state[name].shape[1:])
    other.load_state_dict(state)
    return other
