"""G_base of the paper: Figure 2, top to bottom.

source x_s ── E_app ──> v_s, e_s ──┐
source x_s ── E_mtn ──> R, t, z ───┴ W_s-> ── canonical volume ── G_3D ──┐      once per source: `encode`
driver x_d ── E_mtn ──> R, t, z ───── W_->d ─────────────────── driven ──┴ P ── G_2D ──> image      per frame: `drive`

v_s->d = w_->d o G_3D(w_s-> o v_s)      (eq. 1)
x_s->d = G_2D(P(v_s->d))                (eq. 2)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from megaportraits.config import ModelConfig
from megaportraits.models.appearance import AppearanceEncoder
from megaportraits.models.generators import Generator2D, Generator3D, Projection
from megaportraits.models.motion import Expression, Motion, MotionEncoder, infer_motion
from megaportraits.models.source_skip import Origins, SourceView
from megaportraits.models.warp_generator import WarpGenerator
from megaportraits.nn.blocks import BlockStyle
from megaportraits.ops.resample import shrink
from megaportraits.ops.shapes import check_shape
from megaportraits.ops.warping import (
    canonical_to_driver,
    canonical_to_image,
    sample,
    sample_field,
    source_to_canonical,
)


@dataclass(frozen=True)
class Identity:
    """A source person, encoded once.

    Attributes:
        volume: canonical features after G_3D, (B, C, D, H, W).
        descriptor: e_s, (B, K, 4, 4); None in the ablation without it.
        motion: the source's own pose and expression.
        displacement: W_s->'s field, (B, 3, D, H, W); zero in the ablation without it.
        source: the photograph itself, (B, 3, S, S); None without a source skip.
        surface: depth of what it shows, (B, H, W), grid units; None without `mirror_hidden`.
    """

    volume: Tensor
    descriptor: Tensor | None
    motion: Motion
    displacement: Tensor
    source: Tensor | None = None
    surface: Tensor | None = None

    @staticmethod
    def cat(people: Sequence[Identity]) -> Identity:
        """Several people of one model in one batch."""

        def joined(name: str) -> Tensor | None:
            values = [getattr(person, name) for person in people]
            return None if values[0] is None else torch.cat(values)

        motion = Motion.cat([person.motion for person in people])
        volume, displacement = (torch.cat([getattr(p, n) for p in people]) for n in ("volume", "displacement"))
        return Identity(volume, joined("descriptor"), motion, displacement, joined("source"), joined("surface"))

    def __getitem__(self, index: slice | Tensor) -> Identity:
        def at(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[index]

        return Identity(
            self.volume[index],
            at(self.descriptor),
            self.motion[index],
            self.displacement[index],
            at(self.source),
            at(self.surface),
        )


@dataclass(frozen=True)
class Output:
    """A driven image.

    Attributes:
        image: (B, 3, S, S) in [0, 1]; straight colours when there is an alpha.
        alpha: (B, 1, S, S) in [0, 1], or None when the model predicts no matte.
        displacement: W_->d's field, (B, 3, D, H, W).
        view: what was copied from the source; None without a source skip.
    """

    image: Tensor
    alpha: Tensor | None
    displacement: Tensor
    view: SourceView | None = None

    def __getitem__(self, index: slice) -> Output:
        alpha, view = self.alpha, self.view
        return Output(
            self.image[index],
            None if alpha is None else alpha[index],
            self.displacement[index],
            None if view is None else view[index],
        )

    def over(self, color: Tensor) -> Tensor:
        """The image over a flat colour (B, 3, 1, 1); unchanged without alpha."""
        if self.alpha is None:
            return self.image
        return self.image * self.alpha + color * (1 - self.alpha)


class BaseModel(nn.Module):
    """The one-shot avatar model; `config` decides every width, depth and count.

    Attributes:
        checkpoint_3d: in training, recompute the 3D parts in the backward pass instead of keeping their activations.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        style = BlockStyle(config.groups, config.weight_standardization)
        self.checkpoint_3d = False
        self.appearance = AppearanceEncoder(config, style)
        self.motion = MotionEncoder(config, style)
        self.embed_z = nn.Linear(config.motion.expression_size, config.descriptor * config.descriptor_grid**2)
        self.warp_source = WarpGenerator(config, style) if config.use_source_warp else None
        self.generator_3d = Generator3D(config, style)
        self.warp_driver = WarpGenerator(config, style)
        self.projection = Projection(config, style)
        self.generator_2d = Generator2D(config, style)

    def encode(self, source: Tensor, motion: Motion | None = None) -> Identity:
        """Everything that depends on the source alone; run it once per source.

        Args:
            source: (B, 3, S, S) in [0, 1], a head crop.
            motion: the source's motion where it is already known; E_mtn(source) otherwise.
        """
        check_shape(source, "source", "B", 3, "S", "S")
        motion = infer_motion(self, source) if motion is None else motion
        volume, descriptor = self.appearance(self._coarse(source))  # v_s, e_s
        size = (volume.shape[2], volume.shape[3], volume.shape[4])
        displacement = (
            self._no_displacement(volume)
            if self.warp_source is None
            else self._heavy(self.warp_source, self.embed(motion.expression, descriptor))
        )
        canonical = sample(volume, source_to_canonical(displacement, motion.pose, size))  # w_s-> o v_s
        kept = source if self.config.source_skip else None
        identity = Identity(self._heavy(self.generator_3d, canonical), descriptor, motion, displacement, kept)
        return replace(identity, surface=self._own_surface(identity)) if self.config.mirror_hidden else identity

    def render(self, identity: Identity, motion: Motion) -> Output:
        """The encoded person with a given motion; run it once per frame."""
        driven, warp, displacement = self._driven(identity, motion)
        origins = None if identity.source is None else self._origins(identity, warp)
        z, change = motion.expression.vector, (motion.expression - identity.motion.expression).vector
        image, view = self.generator_2d(self.projection(driven), z, identity.source, origins, change)  # eq. 2
        return Output(image[:, :3], image[:, 3:] if self.config.predict_matte else None, displacement, view)

    def drive(self, identity: Identity, driver: Tensor) -> Output:
        """The encoded person moving like the driver frame (B, 3, S, S) in [0, 1], a head crop."""
        check_shape(driver, "driver", len(identity.volume), 3, "S", "S")
        return self.render(identity, infer_motion(self, driver))

    def displacements(self, source: Tensor, source_face: Expression, driver_face: Expression) -> tuple[Tensor, Tensor]:
        """W_s->'s and W_->d's fields alone, (B, 3, D, H, W) each, as `encode` and `render` make them on the way."""
        check_shape(source, "source", "B", 3, "S", "S")
        descriptor = self.appearance.describe(self._coarse(source))
        driver = self.warp_driver(self.embed(driver_face, descriptor))
        if self.warp_source is None:
            return torch.zeros_like(driver), driver
        return self.warp_source(self.embed(source_face, descriptor)), driver

    def forward(self, source: Tensor, driver: Tensor) -> Output:
        """G_base(x_s, x_d), eq. 3."""
        return self.drive(self.encode(source), driver)

    def embed(self, expression: Expression, descriptor: Tensor | None) -> Tensor:
        """An expression as a map, plus e_s: "as inputs we use sums z_s + e_s and z_d + e_s" (A.1)."""
        grid = self.config.descriptor_grid
        embedding = self.embed_z(expression.vector).unflatten(1, (-1, grid, grid))
        return embedding if descriptor is None else embedding + descriptor

    def _coarse(self, image: Tensor) -> Tensor:
        """What all parts but G_2D's fine blocks see of an image (B, 3, S, S)."""
        return shrink(image, self.config.coarse_side(image.shape[-1]))

    def _driven(self, identity: Identity, motion: Motion) -> tuple[Tensor, Tensor, Tensor]:
        """v_s->d (B, C, D, H, W), w_->d (B, D, H, W, 3), and W_->d's field."""
        volume = identity.volume
        displacement = self._heavy(self.warp_driver, self.embed(motion.expression, identity.descriptor))
        warp = canonical_to_driver(displacement, motion.pose, (volume.shape[2], volume.shape[3], volume.shape[4]))
        return sample(volume, warp), warp, displacement  # eq. 1

    def _origins(self, identity: Identity, warp: Tensor) -> Origins:
        """w_s-> o w_->d: where in the source the voxels of the driver's view come from."""
        size = (warp.shape[1], warp.shape[2], warp.shape[3])

        def origin(canonical: Tensor) -> Tensor:
            moved = canonical + sample_field(identity.displacement, canonical)
            return canonical_to_image(moved, identity.motion.pose, size)

        if identity.surface is None:
            return Origins(origin(warp))
        return Origins(origin(warp), origin(warp * warp.new_tensor([-1.0, 1.0, 1.0])), identity.surface)

    @torch.no_grad()
    def _own_surface(self, identity: Identity) -> Tensor:
        driven, _, _ = self._driven(identity, identity.motion)
        return self.generator_2d.visible_depth(self.projection(driven), identity.motion.expression.vector)

    def _heavy(self, part: nn.Module, x: Tensor) -> Tensor:
        if self.checkpoint_3d and self.training and torch.is_grad_enabled():
            rewound = _Rewound(part)
            return checkpoint(part, x, use_reentrant=False, context_fn=lambda: (nullcontext(), rewound))
        return part(x)

    @staticmethod
    def _no_displacement(volume: Tensor) -> Tensor:
        return torch.zeros(len(volume), 3, 1, 1, 1, device=volume.device).expand(-1, -1, *volume.shape[2:])


class _Rewound:
    """Inside, a part's buffers are what they were when this was made; afterwards they are again what they have become.

    A spectral norm's vectors move on with every pass in training. Recomputation has to start where the first pass did:
    else it divides by another norm, and its gradients are those of other weights.
    """

    def __init__(self, part: nn.Module) -> None:
        self.buffers = list(part.buffers())
        self.before = [buffer.clone() for buffer in self.buffers]
        self.after: list[Tensor] = []

    def __enter__(self) -> None:
        self.after = [buffer.clone() for buffer in self.buffers]
        self._set(self.before)

    def __exit__(self, *_: object) -> None:
        self._set(self.after)

    def _set(self, values: list[Tensor]) -> None:
        for buffer, value in zip(self.buffers, values, strict=True):
            buffer.copy_(value)
