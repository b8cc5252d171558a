"""Checks and loads the weights that a run of the base model starts from."""

from __future__ import annotations

from megaportraits.config import TrainBaseConfig, differences
from megaportraits.errors import TrainingError, WeightsError
from megaportraits.models.base import BaseModel

FRESH_PARTS = {
    "expression_in_generator": "generator_2d.modulations.",
    "expression_change": "generator_2d.changes.",
    "refine_flow": "generator_2d.refinement.",
    "generator_2d.fine": "generator_2d.fine.",
}
"""Options that add layers without effect at initialisation, and the names of these layers.

A run with such an option can start from weights without the layers.
"""


CORRECTION = "motion.correction."
"""Name prefix of the blendshape correction. Training does not change it; if E_mtn is trained, it becomes outdated."""


def start_from(model: BaseModel, init: BaseModel) -> None:
    """Load the weights of `init` into `model`.

    The blendshape correction is only taken over if both configs name the same blendshapes. Layers that an option of
    `FRESH_PARTS` adds keep their initial weights, which do not change the images.

    Raises:
        WeightsError: the models do not fit; the message names the config values that differ.
    """
    kept = init.config.motion.blendshapes == model.config.motion.blendshapes
    weights = {k: v for k, v in init.state_dict().items() if kept or not k.startswith(CORRECTION)}
    own = model.state_dict()
    fresh = {k: v for k, v in own.items() if k not in weights and k.startswith((CORRECTION, *FRESH_PARTS.values()))}
    wanted = {k: v.shape for k, v in own.items() if k not in fresh}
    if wanted != {k: v.shape for k, v in weights.items()}:
        free = () if model.config.motion.append_blendshapes else ("motion.blendshapes",)
        ignored = ("name", *free, *(FRESH_PARTS if fresh else ()))
        differing = differences(init.config, model.config, ignore=ignored)
        raise WeightsError(
            f"the weights to start from are of another model than the config (theirs -> its): {'; '.join(differing)}",
            fix="Set these values of the model section as the weights have them, or start without --init.",
        )
    model.load_state_dict({**weights, **fresh})


def require_head_pose(config: TrainBaseConfig, model: BaseModel | None) -> None:
    """Refuse a run that would use an untrained head-pose network without training it.

    An untrained network predicts the identity rotation for every image, and with `loss.pose` 0 it gets no gradients.

    Args:
        config: config of the run.
        model: the model with its initial weights; None: random weights.

    Raises:
        TrainingError: see above.
    """
    parts = config.optim.parts
    learns = config.loss.pose > 0 and (not parts or "motion" in parts)
    if config.run.teacher_pose or learns or (model is not None and model.motion.head_pose.is_trained):
        return
    raise TrainingError(
        "the head-pose network is untrained and this config does not train it (loss.pose is 0 or optim.parts leaves "
        "it out): every head would keep the identity rotation",
        fix="Train one with `megaportraits train head-pose --config head-pose` and give it as --head-pose FILE, or use "
        "the labelled poses: --set run.teacher_pose=true --set loss.pose=1.",
    )
