"""The images that a discriminator's phase receives from the generator's phase of the same step."""

from __future__ import annotations

from torch import Tensor, nn

from megaportraits.losses.adversarial import judge


class ShownImages:
    """Generated and real images, kept from the generator's phase to the discriminator's phase of one step.

    Attributes:
        pair: generated images (C, 3, S, S) without gradient and real images (B, 3, S, S); None between steps.
    """

    def __init__(self) -> None:
        self.pair: tuple[Tensor, Tensor] | None = None

    def keep(self, generated: Tensor, real: Tensor) -> None:
        """Keep the images of a generator's phase."""
        self.pair = generated.detach(), real

    def judge(self, discriminator: nn.Module | None) -> Tensor:
        """The discriminator's hinge loss on the kept images, a scalar. They are forgotten afterwards."""
        pair, self.pair = self.pair, None
        assert discriminator is not None and pair is not None, "the generator's phase comes first"
        generated, real = pair
        return judge(discriminator, real, generated)
