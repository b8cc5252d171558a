"""Discriminators of single facial components: crops of both eyes and of the mouth, at the image's own resolution.

Eyes and mouth are 3 % of a head crop. A discriminator of the whole image has little signal from them, and an L1 loss
makes uncertain areas grey. Component discriminators are common in face restoration (GFPGAN, Wang et al., 2021); the
paper has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from megaportraits.config import DiscriminatorConfig
from megaportraits.losses.adversarial import generator_terms, judge
from megaportraits.models.component_crops import crop_components
from megaportraits.models.discriminator import Discriminator
from megaportraits.ops.geometry import HEAD_CROP_CM
from megaportraits.ops.warping import Pose

SIDE_CM = {"eyes": 6.0, "mouth": 8.0}
"""Side of each component's crop on the head, in centimetres."""


def component_crops(images: Tensor, pose: Pose) -> dict[str, Tensor]:
    """Crop every component.

    Args:
        images: (B, C, S, S), head crops.
        pose: pose of the heads in them.

    Returns:
        `eyes` (2 B, C, n, n): the left eyes, then the mirrored right eyes; `mouth` (B, C, m, m). The sides are
        `SIDE_CM` at the images' resolution for a head of scale 1, rounded to multiples of 16 pixels.
    """
    sizes = [max(16, round(images.shape[-1] * side / HEAD_CROP_CM / 16) * 16) for side in SIDE_CM.values()]
    eye_cm, mouth_cm = SIDE_CM.values()
    eyes, mouth = crop_components(
        images, pose, eye_cm=eye_cm, mouth_cm=mouth_cm, eye_size=sizes[0], mouth_size=sizes[1]
    )
    return {"eyes": eyes, "mouth": mouth}


@dataclass(frozen=True)
class ComponentCrops:
    """The crops of a step, made once for all losses that use them; see `component_crops`.

    Attributes:
        made: crops of the predictions.
        wanted: crops of the targets.
    """

    made: dict[str, Tensor]
    wanted: dict[str, Tensor]

    @classmethod
    def cut(cls, prediction: Tensor, target: Tensor, pose: Pose) -> Self:
        """Crop `prediction` and `target`, (B, 3, S, S) in [0, 1]; `pose` is the target's head pose."""
        return cls(component_crops(prediction, pose), component_crops(target, pose))

    def detach(self) -> ComponentCrops:
        """The same crops without gradient."""
        return ComponentCrops(*({k: v.detach() for k, v in crops.items()} for crops in (self.made, self.wanted)))


class ComponentDiscriminator(nn.Module):
    """One discriminator for eyes and one for mouths."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.components = nn.ModuleDict({name: Discriminator(config) for name in SIDE_CM})

    def generator_terms(self, crops: ComponentCrops) -> dict[str, Tensor]:
        """The generator's losses, as means over components: `component_adversarial`, `component_matching`.

        Gradients reach the predictions only.
        """
        terms = [generator_terms(net, crops.made[name], crops.wanted[name]) for name, net in self.components.items()]
        names = {"adversarial": "component_adversarial", "feature_matching": "component_matching"}
        return {new: torch.stack([term[old] for term in terms]).mean() for old, new in names.items()}

    def judge(self, crops: ComponentCrops) -> Tensor:
        """The discriminators' hinge loss, as mean over components; `crops` must be detached."""
        losses = [judge(net, crops.wanted[name], crops.made[name]) for name, net in self.components.items()]
        return torch.stack(losses).mean()
