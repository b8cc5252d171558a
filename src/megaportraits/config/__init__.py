"""Configuration: frozen pydantic models, strict YAML, `--set a.b=c` overrides.

Named configs ship in `megaportraits/configs`. No torch here.
"""

from __future__ import annotations

from megaportraits.config.base import Config
from megaportraits.config.baselines import (
    BaselineLossConfig,
    BaselineModelConfig,
    BaselineOptimConfig,
    FaceVid2VidConfig,
    FommConfig,
    HiFaceGanConfig,
    HourglassConfig,
    TrainBaselineConfig,
    TrainHiFaceGanConfig,
)
from megaportraits.config.enhancer import (
    EnhancerConfig,
    EnhancerDataConfig,
    EnhancerLossConfig,
    TrainEnhancerConfig,
)
from megaportraits.config.loading import Override, config_names, differences, load_config, parse_config
from megaportraits.config.model import (
    AppearanceConfig,
    ComponentLandmarkConfig,
    DiscriminatorConfig,
    GazeConfig,
    Generator2DConfig,
    Generator3DConfig,
    HeadPoseConfig,
    ModelConfig,
    MotionConfig,
    WarpConfig,
)
from megaportraits.config.one_stage import PhotoObjectiveConfig, TrainOneStageConfig
from megaportraits.config.student import StudentConfig, StudentDataConfig, StudentLossConfig, TrainStudentConfig
from megaportraits.config.training import (
    DataConfig,
    FrameConfig,
    FrameOptimConfig,
    GazeOptimConfig,
    LossConfig,
    OptimConfig,
    PictureLossConfig,
    RunConfig,
    TrainBaseConfig,
    TrainComponentLandmarksConfig,
    TrainGazeConfig,
    TrainHeadPoseConfig,
)
from megaportraits.errors import ConfigError

__all__ = [
    "AppearanceConfig",
    "BaselineLossConfig",
    "BaselineModelConfig",
    "BaselineOptimConfig",
    "ComponentLandmarkConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "DiscriminatorConfig",
    "EnhancerConfig",
    "EnhancerDataConfig",
    "EnhancerLossConfig",
    "FaceVid2VidConfig",
    "FommConfig",
    "FrameConfig",
    "FrameOptimConfig",
    "GazeConfig",
    "GazeOptimConfig",
    "Generator2DConfig",
    "Generator3DConfig",
    "HeadPoseConfig",
    "HiFaceGanConfig",
    "HourglassConfig",
    "LossConfig",
    "ModelConfig",
    "MotionConfig",
    "OptimConfig",
    "Override",
    "PhotoObjectiveConfig",
    "PictureLossConfig",
    "RunConfig",
    "StudentConfig",
    "StudentDataConfig",
    "StudentLossConfig",
    "TrainBaseConfig",
    "TrainBaselineConfig",
    "TrainComponentLandmarksConfig",
    "TrainEnhancerConfig",
    "TrainGazeConfig",
    "TrainHeadPoseConfig",
    "TrainHiFaceGanConfig",
    "TrainOneStageConfig",
    "TrainStudentConfig",
    "WarpConfig",
    "config_names",
    "differences",
    "load_config",
    "parse_config",
]
