"""Shared fixtures: one thread per process, a tiny model, a tiny data set."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from benchmarks import tiny

from megaportraits.config import ModelConfig, parse_config
from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ShardWriter
from megaportraits.ops import precision
from megaportraits.ops.geometry import euler_to_matrix

cv2.setNumThreads(1)
# A shell's background job ignores Ctrl-C, and so would every process that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
# "auto" is float32 in all tests, so that they see the same numbers on every processor.
precision._INSTRUCTIONS = ()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `posix` on Windows."""
    for item in items:
        if sys.platform == "win32" and item.get_closest_marker("posix"):
            item.add_marker(pytest.mark.skip(reason="needs a POSIX system"))


TINY = tiny.TINY_BASE | {
    "predict_matte": True,
    "source_skip": True,
    "refine_flow": True,
    "expression_in_generator": True,
    "expression_change": True,
    "mirror_hidden": True,
}
TINY_STUDENT = tiny.TINY_STUDENT | {"encoder_skips": True, "predict_matte": True}

_TINY_BASELINE = {
    "image_size": 32,
    "predict_matte": True,
    "groups": 2,
    "detector_shrink": 2,
    "detector": {"width": 4, "most": 8, "levels": 2},
    "kernel": 3,
    "width": 4,
    "most": 8,
    "halvings": 2,
    "blocks": 1,
}
TINY_FOMM = {
    "kind": "fomm",
    "name": "tiny-fomm",
    "keypoints": 4,
    "motion_shrink": 4,
    "motion": {"width": 4, "most": 8, "levels": 2},
    **_TINY_BASELINE,
}
TINY_FACE_VID2VID = {
    "kind": "face-vid2vid",
    "name": "tiny-face-vid2vid",
    "keypoints": 4,
    "volume_channels": 4,
    "volume_depth": 3,
    "blocks_3d": 1,
    "detector_depth": 3,
    "pose_width": 4,
    "compressed": 2,
    "motion": {"width": 4, "most": 8, "levels": 2},
    **_TINY_BASELINE,
}
TINY_HIFACEGAN = {"image_size": 32, "matte": True, "groups": 2, "width": 2, "halvings": 3, "hidden": 4}
TINY_DISCRIMINATOR = {"widths": [4, 6, 8], "strides": [2, 2, 1], "scales": 2}
TINY_RUN = {"accelerator": "cpu", "log_every": 1, "sample_every": 2, "checkpoint_minutes": 0, "tensorboard": False}
"""The `run` section of short runs, which log every step."""


@pytest.fixture
def tiny_config() -> ModelConfig:
    """A base model of 32 px and a few thousand parameters, every part present."""
    return parse_config(ModelConfig, TINY, "tiny")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """The folder of `write_clips`."""
    return write_clips(tmp_path / "clips")


def write_clips(folder: Path) -> Path:
    """A folder with one shard: six people in three motion groups, four noisy frames of 32 px each."""
    rng = np.random.default_rng(0)
    names = ("jawOpen", "eyeBlink_L", "eyeBlink_R")
    with ShardWriter(folder, 0) as shard:
        for number in range(6):
            frames = []
            for _ in range(4):
                labels = FrameLabels(
                    euler_to_matrix(*rng.normal(size=3) * 8),
                    rng.normal(size=2) * 0.05,
                    float(rng.uniform(0.9, 1.1)),
                    expression=rng.random(3).astype(np.float32),
                    gaze=rng.normal(size=2).astype(np.float32),
                )
                frames.append(
                    ClipFrame(
                        rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
                        rng.integers(0, 256, (32, 32), dtype=np.uint8),
                        labels,
                        rng.uniform(-0.5, 0.5, (64, 64, 4)).astype(np.float32),
                        rng.random((64, 64)) < 0.7,
                    )
                )
            labelled = tuple(frame.labels for frame in frames)
            record = ClipRecord(f"c{number}", "cg", f"p{number}", f"g{number // 2}", 32, 25.0, names, labelled)
            shard.write(record, frames)
    return folder
