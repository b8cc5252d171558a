"""Configs of the one-stage variants of B.2: both objectives train one model that outputs the large image."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from megaportraits.config.base import Config
from megaportraits.config.enhancer import EnhancerDataConfig
from megaportraits.config.training import TrainBaseConfig


class PhotoObjectiveConfig(Config):
    """L_enh (eq. 10) on photographs at the image size, added to L_base on videos.

    There is no cycle loss (eq. 9): it needs the image of a separate base model, and one stage has none.
    """

    weight: float = Field(default=1.0, gt=0)
    """Weight of the whole objective. B.2 tried three values of "some weighting coefficient" and gives none."""
    data: EnhancerDataConfig = EnhancerDataConfig()
    reconstruction: float = 100.0
    adversarial: float = 1.0
    feature_matching: float = 100.0
    cross_adversarial: float = 1.0
    """Adversarial loss on images with another person as driver, which have no target."""

    @property
    def adversarials(self) -> bool:
        """Whether a discriminator of photographs is needed."""
        return bool(self.adversarial or self.feature_matching or self.cross_adversarial)


class TrainOneStageConfig(TrainBaseConfig):
    """`megaportraits train one-stage`."""

    photos: PhotoObjectiveConfig = PhotoObjectiveConfig()

    @model_validator(mode="after")
    def _draws_as_the_paper(self) -> Self:
        if self.model.predict_matte or self.model.source_skip:
            raise ValueError("one-stage training needs model.predict_matte and model.source_skip switched off")
        if not self.model.generator_2d.fine:
            raise ValueError('give generator_2d.fine, the "additional upsampling block" of B.2, for example [32]')
        return self
