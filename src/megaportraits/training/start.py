"""What a base model's run may start from."""

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
"""Options whose layers change nothing at the start, and those layers: weights without them may go on with them."""


CORRECTION = "motion.correction."
"""Where the correction of z lies; training leaves it as it is, and makes it stale where E_mtn goes on learning."""


def start_from(model: BaseModel, init: BaseModel) -> None:
    """Take over all weights, the correction of z only where the config names the same scores.

    What an option of `FRESH_PARTS` adds keeps its own, which give the same pictures.

    Raises:
        WeightsError: the weights are of another model; it names the values that differ.
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
    """Refuse a run whose warps would use an untrained head-pose network that the run does not train either.

    An untrained network gives the identity rotation for every picture, and with `loss.pose` 0 no gradient reaches it.

    Args:
        config: of the run.
        model: as it starts; None: with fresh weights.

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
