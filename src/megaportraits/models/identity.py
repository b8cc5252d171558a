"""The base model's encoding of a source, and its output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from megaportraits.models.motion import Motion
from megaportraits.models.source_skip import SourceView
from megaportraits.ops.compositing import composite


@dataclass(frozen=True)
class Identity:
    """A source person, encoded once.

    Attributes:
        volume: canonical features after G_3D, (B, C, D, H, W).
        descriptor: e_s, (B, K, 4, 4); None in the ablation without e_s.
        motion: the source's own pose and expression.
        displacement: the field of W_s->, (B, 3, D, H, W); zero in the ablation without W_s->.
        source: the source image, (B, 3, S, S); None without a source skip.
        surface: depth of its visible surface, (B, H, W), grid units; None without `mirror_hidden`.
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
        displacement: the field of W_->d, (B, 3, D, H, W).
        view: what G_2D copied from the source; None without a source skip.
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
        """Composite the image over a flat colour (B, 3, 1, 1); unchanged without alpha."""
        if self.alpha is None:
            return self.image
        return composite(self.image, self.alpha, color)
