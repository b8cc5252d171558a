"""G_base of the paper: Figure 2, top to bottom.

source x_s ── E_app ──> v_s, e_s ──┐
source x_s ── E_mtn ──> R, t, z ───┴ W_s-> ── canonical volume ── G_3D ──┐      once per source: `encode`
driver x_d ── E_mtn ──> R, t, z ───── W_->d ─────────────────── driven ──┴ P ── G_2D ──> image      per frame: `drive`

v_s->d = w_->d o G_3D(w_s-> o v_s)      (eq. 1)
x_s->d = G_2D(P(v_s->d))                (eq. 2)
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from megaportraits.config import ModelConfig
from megaportraits.models.appearance import AppearanceEncoder
from megaportraits.models.generators import Generator2D, Generator3D, Projection
from megaportraits.models.identity import Identity, Output
from megaportraits.models.motion import Expression, Motion, MotionEncoder, infer_motion
from megaportraits.models.source_skip import Origins, trace_origins
from megaportraits.models.warp_generator import NoWarp, WarpGenerator
from megaportraits.nn.blocks import BlockStyle
from megaportraits.nn.recompute import recomputed
from megaportraits.ops.resample import shrink
from megaportraits.ops.shapes import check_shape
from megaportraits.ops.warping import canonical_to_driver, sample, source_to_canonical


class BaseModel(nn.Module):
    """The one-shot avatar model; `config` has its widths, depths and counts.

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
        self.warp_source = WarpGenerator(config, style) if config.use_source_warp else NoWarp(config)
        self.generator_3d = Generator3D(config, style)
        self.warp_driver = WarpGenerator(config, style)
        self.projection = Projection(config, style)
        self.generator_2d = Generator2D(config, style)

    def forward(self, source: Tensor, driver: Tensor) -> Output:
        """G_base(x_s, x_d), eq. 3."""
        return self.drive(self.encode(source), driver)

    def encode(self, source: Tensor, motion: Motion | None = None) -> Identity:
        """Compute everything that depends on the source alone; called once for each source.

        Args:
            source: (B, 3, S, S) in [0, 1], a head crop.
            motion: the source's motion if it is known; None computes E_mtn(source).
        """
        check_shape(source, "source", "B", 3, "S", "S")
        motion = infer_motion(self, source) if motion is None else motion
        volume, descriptor = self.appearance(self._coarse(source))  # v_s, e_s
        displacement = self._heavy(self.warp_source, self.embed(motion.expression, descriptor))
        canonical = sample(volume, source_to_canonical(displacement, motion.pose, _size(volume)))  # w_s-> o v_s
        identity = Identity(self._heavy(self.generator_3d, canonical), descriptor, motion, displacement)
        return self._remember(identity, source)

    def drive(self, identity: Identity, driver: Tensor) -> Output:
        """The encoded person with the motion of a driver frame (B, 3, S, S) in [0, 1], a head crop."""
        check_shape(driver, "driver", len(identity.volume), 3, "S", "S")
        return self.render(identity, infer_motion(self, driver))

    def render(self, identity: Identity, motion: Motion) -> Output:
        """The encoded person with a given motion; called once for each frame."""
        driven, warp, displacement = self.driven_volume(identity, motion)  # eq. 1
        z, change = motion.expression.vector, (motion.expression - identity.motion.expression).vector
        origins = self._origins(identity, warp)
        image, view = self.generator_2d(self.projection(driven), z, identity.source, origins, change)  # eq. 2
        return Output(image[:, :3], image[:, 3:] if self.config.predict_matte else None, displacement, view)

    def driven_volume(self, identity: Identity, motion: Motion) -> tuple[Tensor, Tensor, Tensor]:
        """v_s->d (B, C, D, H, W), w_->d (B, D, H, W, 3), and the field of W_->d (B, 3, D, H, W)."""
        displacement = self._heavy(self.warp_driver, self.embed(motion.expression, identity.descriptor))
        warp = canonical_to_driver(displacement, motion.pose, _size(identity.volume))
        return sample(identity.volume, warp), warp, displacement

    def embed(self, expression: Expression, descriptor: Tensor | None) -> Tensor:
        """The embedded expression plus e_s, (B, K, 4, 4): "as inputs we use sums z_s + e_s and z_d + e_s" (A.1)."""
        grid = self.config.descriptor_grid
        embedding = self.embed_z(expression.vector).unflatten(1, (-1, grid, grid))
        return embedding if descriptor is None else embedding + descriptor

    def displacements(
        self, source: Tensor, source_expression: Expression, driver_expression: Expression
    ) -> tuple[Tensor, Tensor]:
        """The fields of W_s-> and W_->d alone, (B, 3, D, H, W) each, as `encode` and `render` compute them."""
        check_shape(source, "source", "B", 3, "S", "S")
        descriptor = self.appearance.describe(self._coarse(source))
        expressions = (source_expression, self.warp_source), (driver_expression, self.warp_driver)
        fields = [warp(self.embed(expression, descriptor)) for expression, warp in expressions]
        return fields[0], fields[1]

    def _coarse(self, image: Tensor) -> Tensor:
        """An image (B, 3, S, S) at the resolution that all parts except G_2D's fine blocks use."""
        return shrink(image, self.config.coarse_side(image.shape[-1]))

    def _heavy(self, part: nn.Module, x: Tensor) -> Tensor:
        recomputes = self.checkpoint_3d and self.training and torch.is_grad_enabled()
        return recomputed(part, x) if recomputes else part(x)

    # Ours, not in Figure 2: the source skip stores the source and traces where its pixels go.

    def _remember(self, identity: Identity, source: Tensor) -> Identity:
        identity = replace(identity, source=self.generator_2d.skip.remembered(source))
        return replace(identity, surface=self._own_surface(identity)) if self.config.mirror_hidden else identity

    def _origins(self, identity: Identity, warp: Tensor) -> Origins | None:
        if identity.source is None:
            return None
        return trace_origins(warp, identity.displacement, identity.motion.pose, identity.surface)

    @torch.no_grad()
    def _own_surface(self, identity: Identity) -> Tensor:
        driven, _, _ = self.driven_volume(identity, identity.motion)
        return self.generator_2d.visible_depth(self.projection(driven), identity.motion.expression.vector)


def _size(volume: Tensor) -> tuple[int, int, int]:
    """(D, H, W) of a volume (B, C, D, H, W)."""
    return volume.shape[2], volume.shape[3], volume.shape[4]
