"""478 face landmarks with irises, presence and 52 blendshapes: MediaPipe's Face Mesh v2 (Kartynnik et al.,
2019; Grishchenko et al., 2020 and 2023), under LiteRT.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from megaportraits.faces.networks import Image, Network, Region

COUNT = 478
MESH_COUNT = 468
"""Points of the canonical mesh; the ten after them are the irises (right eye of the subject first)."""
RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 33, 263
RIGHT_IRIS, LEFT_IRIS = 468, 473
SIZE = 256
"""Input side of the landmark network, pixels."""

# fmt: off
BLENDSHAPE_NAMES: tuple[str, ...] = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft",
    "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight",
    "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight",
    "mouthFrownLeft", "mouthFrownRight", "mouthFunnel", "mouthLeft", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)
# fmt: on
"""ARKit's names in the order of `Face.blendshapes`; left and right are the subject's."""
EXPRESSION_NAMES = tuple(
    re.sub(r"(?<!jaw)(?<!mouth)(Left|Right)$", lambda m: f"_{m[0][0]}", name) for name in BLENDSHAPE_NAMES
)
"""The same names in the spelling of ICT-FaceKit and of clip labels (`eyeBlink_L`), so that real and synthetic clips
train one expression readout.
"""


MEASURED_SIZE = 256
"""Side to which small head crops are enlarged before landmarks and blendshapes are estimated, pixels: estimates from
smaller ones are less accurate.
"""


def select_blendshapes(blendshapes: npt.NDArray[np.float32], names: Sequence[str]) -> npt.NDArray[np.float32]:
    """Select blendshapes by name: (..., 52) to (..., n)."""
    return blendshapes[..., [BLENDSHAPE_NAMES.index(name) for name in names]]


# fmt: off
_BLENDSHAPE_POINTS = np.array([
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67,
    70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146,
    148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181,
    185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293,
    295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361,
    362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398,
    400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
])
# fmt: on
"""The landmarks the blendshape network takes (mediapipe's face_blendshapes_graph)."""


class LandmarkNet:
    """The landmark and the blendshape network together.

    Args:
        mesh: `face_landmarks_detector.tflite`.
        blendshapes: `face_blendshapes.tflite`.
    """

    def __init__(self, mesh: Network, blendshapes: Network) -> None:
        self._mesh = mesh
        self._blendshapes = blendshapes

    def locate(self, image: Image, region: Region) -> tuple[npt.NDArray[np.float32], float]:
        """Landmarks of the face in a region.

        Returns:
            landmarks (478, 3) in image pixels (edge convention; z in the same unit, growing away from the
            camera, relative to the head), and presence in [0, 1].
        """
        crop = region.extract(image, SIZE)
        mesh, presence, _ = self._mesh(crop[None].astype(np.float32) / 255)
        points = mesh.reshape(COUNT, 3).astype(np.float64) / SIZE
        located = np.concatenate([region.to_image(points[:, :2]), points[:, 2:] * region.side], axis=1)
        logit = float(np.clip(presence.item(), -80, 80))
        return located.astype(np.float32), float(1 / (1 + np.exp(-logit)))

    def blendshapes(self, landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Weights (52,) in [0, 1] for landmarks (478, 3), in the order of `BLENDSHAPE_NAMES`."""
        return self._blendshapes(landmarks[None, _BLENDSHAPE_POINTS, :2])[0].reshape(-1)


def region_of(landmarks: npt.NDArray[np.floating], margin: float = 1.5) -> Region:
    """The rotated square around landmarks (478, 3) that is the landmark network's input in the next frame."""
    points = np.asarray(landmarks[:MESH_COUNT, :2], np.float64)
    across = points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER]
    angle = float(np.arctan2(across[1], across[0]))
    cosine, sine = np.cos(angle), np.sin(angle)
    level = np.array([[cosine, -sine], [sine, cosine]])
    upright = points @ level
    low, high = upright.min(0), upright.max(0)
    center = level @ ((low + high) / 2)
    return Region(float(center[0]), float(center[1]), float((high - low).max() * margin), angle)
