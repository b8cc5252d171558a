from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from megaportraits.errors import WeightsError
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import load_motion, save_base
from megaportraits.training.base import train_base
from megaportraits.training.motion import train_motion
from tests.training.test_training import tiny_run


@pytest.mark.parametrize("appends", [False, True])
def test_a_pre_trained_encoder_goes_into_the_base_model(clips: Path, tmp_path: Path, appends: bool) -> None:
    config = tiny_run(clips, steps=2)
    if appends:  # scores that follow z: it is not trained on any
        motion = config.model.motion.model_copy(update={"blendshapes": ("jawOpen",), "append_blendshapes": True})
        config = config.model_copy(update={"model": config.model.model_copy(update={"motion": motion})})
    assert train_motion(config, tmp_path / "motion") == 2
    path = tmp_path / "motion/motion.safetensors"
    base = BaseModel(config.model)
    load_motion(path, base)
    saved = load_file(path)
    assert set(saved) == set(base.motion.state_dict())
    assert all(torch.equal(saved[k].float(), v) for k, v in base.motion.state_dict().items())


def test_both_halves_of_e_mtn_learn_and_training_the_base_can_start_there(clips: Path, tmp_path: Path) -> None:
    config = tiny_run(clips, steps=1)
    train_motion(config, tmp_path / "motion")
    train_base(config, tmp_path / "base", motion=tmp_path / "motion/motion.safetensors")
    train_base(config, tmp_path / "scratch")
    started, scratch = (load_file(tmp_path / name / "base.safetensors") for name in ("base", "scratch"))
    for part in ("motion.head_pose.head.weight", "motion.to_z.weight"):
        assert not torch.equal(started[part], scratch[part])


def test_other_files_are_refused(clips: Path, tmp_path: Path) -> None:
    base = BaseModel(tiny_run(clips).model)
    with pytest.raises(WeightsError, match="does not exist"):
        load_motion(tmp_path / "none.safetensors", base)
    save_base(tmp_path / "base.safetensors", base)
    with pytest.raises(WeightsError, match="expected a motion model"):
        load_motion(tmp_path / "base.safetensors", base)
