"""Every number of a config that is called the paper's, with its place in the paper (Drobyshev et al., 2022)."""

from __future__ import annotations

import pytest

from megaportraits.config import (
    ModelConfig,
    OptimConfig,
    PictureLossConfig,
    TrainBaseConfig,
    TrainEnhancerConfig,
    TrainGazeConfig,
    TrainStudentConfig,
    load_config,
)
from megaportraits.models.storage import find_base
from megaportraits.nn.weights_file import read_notes


def is_the_papers_optimizer(optim: OptimConfig) -> bool:
    """4.1: AdamW, cosine, 2e-4 to 1e-6; B.1: betas, eps, weight decay. Nothing else of ours is on."""
    return (
        (optim.schedule, optim.learning_rate, optim.final_learning_rate) == ("cosine", 2e-4, 1e-6)
        and (optim.betas, optim.eps, optim.weight_decay) == ((0.5, 0.999), 1e-8, 1e-2)
        and (optim.warmup_steps, optim.clip_grad_norm, optim.parts) == (0, 0, ())
    )


def picture_weights(loss: PictureLossConfig) -> tuple[float, ...]:
    """w_IN, w_face, w_gaze, w_adv and w_FM of eq. 4 and 5."""
    return (loss.perceptual, loss.face, loss.gaze, loss.adversarial, loss.feature_matching)


@pytest.mark.parametrize(
    ("name", "steps", "batch", "pixels"),
    [  # 4.1: 256 px "for 200,000 iterations with the batch size of 24", 512 px "for 300,000 [...] with [...] 16"
        ("paper-256", 200_000, 24, 256),
        ("paper-512", 300_000, 16, 512),
    ],
)
def test_the_base_is_trained_as_in_4_1_and_b_1(name: str, steps: int, batch: int, pixels: int) -> None:
    config = load_config(TrainBaseConfig, name)
    optim, loss = config.optim, config.loss
    assert (optim.steps, optim.batch_size, config.model.image_size) == (steps, batch, pixels)
    assert is_the_papers_optimizer(optim) and optim.spectral_norm and optim.spectral_norm_standardized  # B.1
    assert picture_weights(loss) == (20, 4, 5, 1, 40) and loss.perceptual_network == "vgg19"  # 4.1
    assert (loss.contrastive, loss.contrastive_scale, loss.contrastive_margin) == (2, 5, 0.2)  # 4.1
    assert loss.contrastive_every == 1
    assert config.data.across_clips  # 3.1: two frames "from a random training video"
    assert config.data.flip and config.data.driver_augmentation and config.data.driver_warp == "thin-plate"  # B.1
    assert config.model.weight_standardization == "paper"  # A.1
    ours = (loss.reconstruction, loss.matte, loss.pose, loss.expression, loss.warp, float(config.model.predict_matte))
    assert not any(ours) and not config.run.teacher_pose
    assert config.data.random_background  # ours: as drivers are when animating


def test_a_shipped_config_reproduces_the_shipped_nano() -> None:
    notes = read_notes(find_base("nano"))
    assert load_config(TrainBaseConfig, notes["recipe"]).model == ModelConfig.model_validate_json(notes["config"])


def test_the_enhancer_is_trained_as_in_4_1_and_eq_9_and_10() -> None:
    config = load_config(TrainEnhancerConfig, "paper-hr")
    optim, loss = config.optim, config.loss
    assert (optim.steps, optim.batch_size) == (50_000, 16)  # 4.1
    assert is_the_papers_optimizer(optim) and optim.spectral_norm and optim.spectral_norm_standardized  # 4.1, B.1
    assert 2 * config.model.image_size == 1024  # 3.2
    assert (loss.reconstruction, loss.adversarial, loss.feature_matching) == (100, 1, 100)  # w_MAE, w_adv, w_FM
    assert (loss.cross_adversarial, loss.cycle, loss.cycle_factor) == (1, 10, 4)  # w_adv^c, w_cyc^c; DS_4 and DS_8
    assert not (loss.perceptual or loss.matte or loss.cross_from or config.data.aligned_truth)


def test_the_student_is_trained_as_in_4_1_and_b_1() -> None:
    config = load_config(TrainStudentConfig, "student")
    optim, loss = config.optim, config.loss
    assert (optim.steps, optim.batch_size) == (170_000, 8)  # 4.1
    assert is_the_papers_optimizer(optim) and not optim.spectral_norm  # B.1 has it on G_base and G_HR only
    assert config.model.image_size == 1024  # 3.3: the teacher is G_HR
    assert picture_weights(loss) == (20, 4, 5, 1, 40)  # B.1: "the same that were used to train teacher model"
    assert config.discriminator.scales == 4 and not (loss.reconstruction or loss.adversarial_from)  # B.1


def test_the_gaze_network_is_trained_as_in_b_5() -> None:
    config = load_config(TrainGazeConfig, "gaze")
    optim, model = config.optim, config.model
    assert (config.epochs, optim.batch_size, optim.learning_rate) == (60, 64, 0.8e-3)
    assert (optim.betas, optim.eps, optim.weight_decay) == ((0.9, 0.999), 1e-8, 0)
    assert (optim.schedule, optim.pct_start) == ("one-cycle", 0.1)
    assert (config.w_mae, config.w_mse) == (15, 10)
    assert (model.eyes, model.keypoints, model.keypoint_input) == (256, 64, "landmarks")
