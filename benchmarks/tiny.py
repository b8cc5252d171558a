"""Configs of networks with a few thousand parameters, for tests of the benchmarks and of the package."""

from __future__ import annotations

from typing import Any

TINY_BASE: dict[str, Any] = {
    "name": "tiny",
    "image_size": 32,
    "volume_channels": 4,
    "volume_depth": 6,
    "descriptor": 8,
    "groups": 2,
    "appearance": {
        "stem": 4,
        "widths": [6, 8],
        "pool": [True, True],
        "blocks_3d": 1,
        "descriptor_depth": 18,
        "descriptor_width": 4,
        "descriptor_size": 32,
    },
    "motion": {"z": 12, "width": 4, "face_size": 32, "pose_width": 4, "pose_size": 32},
    "warp": {"inputs": 8, "input_depth": 3, "widths": [8, 4], "upsample": [[2, 2, 2], [1, 1, 1]]},
    "generator_3d": {"widths": [6, 8], "strides": [[1, 2, 2], [2, 2, 2]]},
    "generator_2d": {"channels": 8, "blocks": 1, "widths": [6, 4]},
}
"""A base model with the paper's parts only."""
TINY_ENHANCER: dict[str, Any] = {
    "name": "tiny",
    "image_size": 32,
    "groups": 2,
    "upsample_input": True,
    "stem": 6,
    "kernel": 3,
    "widths": [6, 8],
    "pool": [True, True],
    "channels": 8,
    "blocks": 1,
    "up": [6, 6],
    "high": [6],
}
TINY_STUDENT: dict[str, Any] = {
    "name": "tiny-student",
    "image_size": 64,
    "input_size": 64,
    "encoder_width": 4,
    "groups": 2,
    "widths": [8, 8, 8, 6, 6],
    "doublings": 5,
    "identity_size": 16,
}
