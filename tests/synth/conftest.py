"""A toy head with the layout of ICT-FaceKit, so that tests need no copy of the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from megaportraits.synth.head import REGIONS, VERTICES, MorphableHead

# A name without a side is one shape, `name_` stands for two, `_L` and `_R`.
_SHAPES = """
PupilDilate_ browDown_ browInnerUp_ browOuterUp_ cheekPuff_ cheekRaiser_ cheekSquint_ eyeBlink_ eyeLookDown_ eyeLookIn_
eyeLookOut_ eyeLookUp_ eyeSquint_ eyeWide_ jawForward jawLeft jawOpen jawRight mouthClose mouthDimple_ mouthFrown_
mouthFunnel mouthLeft mouthLowerDown_ mouthPress_ mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower
mouthShrugUpper mouthSmile_ mouthStretch_ mouthUpperUp_ noseSneer_
"""
NAMES = [name + side for name in _SHAPES.split() for side in ("LR" if name.endswith("_") else ("",))]
_MATERIALS = """
M_BackHead M_EyeBlend M_EyeLashes M_EyeOcclusion M_Face M_GumsTongue M_IrisLeft M_IrisRight M_LacrimalFluid
M_ScleraLeft M_ScleraRight M_Teeth
"""
MATERIALS = _MATERIALS.split()
EYE = np.array([3.116, 3.6])
MOUTH = np.array([0.0, -4.2])
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
LIDS = {1: (362, 385, 387, 263, 373, 380), -1: (33, 160, 158, 133, 153, 144)}


def _grid(rows: int, columns: int, *, closed: bool = False) -> np.ndarray:
    """Triangles of a grid whose columns run to the subject's left and whose rows run down."""
    index = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(index, -1, 1) if closed else index[:, 1:]
    left = index if closed else index[:, :-1]
    a, b, c, d = left[:-1], right[:-1], right[1:], left[1:]
    return np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, c, b), (a, d, c))])


def _skin() -> tuple[np.ndarray, np.ndarray]:
    """A bust of 76 x 148 points, front first, with holes for eyes and mouth."""
    y = np.linspace(13.4, -19, 76)
    radius = np.interp(y, [-19, -14, -9, -7, -3, 4, 9, 12, 13.4], [12, 8, 5.5, 6.5, 8, 8.6, 7.2, 4, 0.2])
    angle = np.linspace(-np.pi, np.pi, 148, endpoint=False)
    x = radius[:, None] * np.sin(angle) * 0.9
    z = radius[:, None] * np.cos(angle) * 1.05
    points = np.stack([x, np.repeat(y[:, None], 148, 1), z], -1).reshape(-1, 3)
    points[:, 2] += 1.5 * np.exp(-((points[:, 0] / 1.2) ** 2) - ((points[:, 1] + 0.2) / 2) ** 2) * (points[:, 2] > 0)
    order = np.argsort(-(points[:, 2] - 20 * (points[:, 1] < -8.6) - 0.5 * np.abs(points[:, 0])), kind="stable")
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    triangles = rank[_grid(76, 148, closed=True)]
    points = points[order]
    middle = points[triangles].mean(1)
    front = middle[:, 2] > 4
    eyes = np.hypot((np.abs(middle[:, 0]) - EYE[0]) / 1.3, (middle[:, 1] - EYE[1]) / 0.6) < 1
    mouth = np.hypot((middle[:, 0] - MOUTH[0]) / 2.2, (middle[:, 1] - MOUTH[1]) / 0.35) < 1
    return points, triangles[~(front & (eyes | mouth))]


def _patch(count: int, columns: int, center: tuple[float, float, float], half: tuple[float, float]) -> np.ndarray:
    y, x = np.meshgrid(
        np.linspace(half[1], -half[1], count // columns), np.linspace(-half[0], half[0], columns), indexing="ij"
    )
    return np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3) + center


def _landmark_points() -> tuple[np.ndarray, np.ndarray]:
    """Rough places (x, y) of the 68 and of the 468 landmarks on the toy face."""
    turn = np.linspace(np.pi, 2 * np.pi, 17)
    rows = [np.c_[7 * np.cos(turn), 3 + 10 * np.sin(turn)]]
    brow = np.c_[np.linspace(-5, -1.2, 5), [5.2, 5.8, 6, 5.9, 5.5]]
    rows += [
        brow,
        brow[::-1] * [-1, 1],
        np.c_[np.zeros(4), [3.5, 2.5, 1.3, 0.2]],
        np.c_[np.linspace(-1.2, 1.2, 5), np.full(5, -1)],
    ]
    lids = np.array([[-1.3, 0], [-0.5, 0.6], [0.5, 0.6], [1.3, 0], [0.5, -0.6], [-0.5, -0.6]])
    rows += [lids + EYE * [-1, 1], lids + EYE]
    outer, inner = np.linspace(np.pi, -np.pi, 12, endpoint=False), np.linspace(np.pi, -np.pi, 8, endpoint=False)
    rows += [
        MOUTH + np.c_[2.6 * np.cos(outer), 0.8 * np.sin(outer)],
        MOUTH + np.c_[2.2 * np.cos(inner), 0.35 * np.sin(inner)],
    ]
    rng = np.random.default_rng(3)
    mesh = np.c_[rng.uniform(-5.5, 5.5, 468), rng.uniform(-7, 8, 468)]
    for side, points in LIDS.items():
        mesh[list(points)] = (lids[[0, 1, 2, 3, 4, 5]] if side < 0 else lids) + EYE * [side, 1]
    around = np.linspace(np.pi, -np.pi, len(INNER_LIPS), endpoint=False)
    mesh[list(INNER_LIPS)] = MOUTH + np.c_[2.2 * np.cos(around), 0.35 * np.sin(around)]
    return np.concatenate(rows), mesh


def _bump(
    points: np.ndarray, center: tuple[float, float], width: float, move: tuple[float, float, float]
) -> np.ndarray:
    weight = np.exp(-(((points[:, :2] - center) / width) ** 2).sum(1)) * (points[:, 2] > 0)
    return weight[:, None] * np.array(move)


def _expressions(points: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    shapes = []
    for name in NAMES:
        side = -1 if name.endswith("_R") else 1
        if name == "jawOpen":
            shapes.append(
                np.clip((MOUTH[1] - points[:, 1]) / 2, 0, 1)[:, None]
                * (points[:, 1] > -8)[:, None]
                * (points[:, 2] > 2)[:, None]
                * np.array([0, -2, -0.4])
            )
        elif name.startswith("eyeBlink"):
            shapes.append(_bump(points, (side * EYE[0], EYE[1] + 0.7), 0.8, (0, -1.1, 0.2)))
        elif name.startswith("brow"):
            shapes.append(_bump(points, (side * 3, 5.7), 1.5, (0, -0.6 if "Down" in name else 0.6, 0)))
        else:
            low, high = (-6, -2) if "mouth" in name or "jaw" in name else (-1, 7)
            center = (side * rng.uniform(0.3, 4), rng.uniform(low, high))
            shapes.append(_bump(points, center, rng.uniform(0.8, 2), tuple(rng.normal(size=3) * 0.4)))
    result = np.stack(shapes)
    result[:, REGIONS["eye_L"].start :] = 0
    return result


def toy_arrays() -> dict[str, np.ndarray]:
    """The arrays of the packed file."""
    neutral = np.zeros((VERTICES, 3))
    neutral[:11248], skin = _skin()
    neutral[REGIONS["mouth_socket"]] = _patch(2046, 66, (0, -4.2, 4), (3.5, 3))
    neutral[REGIONS["gums"]] = _patch(2977, 229, (0, -5.5, 5.5), (2.4, 0.6))
    neutral[REGIONS["teeth"]] = _patch(4412, 1103, (0, -4.2, 6.5), (2.3, 0.6))
    groups = [(skin[skin.max(1) < 9409], "M_Face"), (skin[skin.max(1) >= 9409], "M_BackHead")]
    groups += [
        (_grid(31, 66) + 11248, "M_BackHead"),
        (_grid(13, 229) + 14062, "M_GumsTongue"),
        (_grid(4, 1103) + 17039, "M_Teeth"),
    ]
    for eye, side, name in (("eye_L", 1, "Left"), ("eye_R", -1, "Right")):
        up, around = np.meshgrid(
            np.linspace(0.02, np.pi - 0.02, 10), np.linspace(-np.pi, np.pi, 157, endpoint=False), indexing="ij"
        )
        # The pole is the optical axis, so that the iris is round.
        ball = 1.577 * np.stack([np.sin(up) * np.sin(around), -np.sin(up) * np.cos(around), np.cos(up)], -1)
        neutral[REGIONS[eye]] = ball.reshape(-1, 3) + np.array([side * EYE[0], EYE[1], 7.0])
        groups.append((_grid(10, 157, closed=True) + REGIONS[eye].start, f"M_Sclera{name}"))
    triangles = np.concatenate([group for group, _ in groups]).astype(np.int32)
    material = np.concatenate([np.full(len(group), MATERIALS.index(name)) for group, name in groups])
    face = neutral[:6706]
    marks, mesh = ([int(np.argmin(((face[:, :2] - p) ** 2).sum(1))) for p in points] for points in _landmark_points())
    rng = np.random.default_rng(0)
    waves = [np.sin(neutral @ rng.normal(size=(3, 3)) * 0.25 + rng.uniform(0, 6, 3)) * 0.08 for _ in range(60)]
    return {
        "neutral": neutral.astype(np.float32),
        "identity": np.stack(waves).astype(np.float16),
        "expression": _expressions(neutral).astype(np.float16),
        "expression_names": np.array(NAMES),
        "triangles": triangles,
        "triangles_uv": triangles,
        "triangle_material": material.astype(np.int8),
        "material_names": np.array(MATERIALS),
        "uv": np.clip(neutral[:, :2] / [30, 40] + 0.5, 0, 1).astype(np.float32),
        "landmarks68": np.array(marks),
        "mediapipe468_vertex": np.array(mesh),
        "mediapipe468_spread_cm": np.full(468, 0.2, np.float32),
    }


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy head as a packed file."""
    path = tmp_path_factory.mktemp("head") / "toy.npz"
    np.savez(path, **toy_arrays())
    return path


@pytest.fixture(scope="session")
def head(toy_path: Path) -> MorphableHead:
    """The toy head, loaded."""
    return MorphableHead.load(toy_path)
