"""Head pose from landmarks: a weighted similarity fit of the canonical mesh (Procrustes; Umeyama, 1991).

Only points that move little with expression have a weight, so that talking does not change the head's pose or size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megaportraits.errors import ShapeError
from megaportraits.faces.canonical import canonical_mesh
from megaportraits.faces.landmarks import MESH_COUNT
from megaportraits.ops.geometry import HEAD_CROP_CM, Crop, HeadPose

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FacePose:
    """A weak-perspective head pose in image pixels.

    Attributes:
        rotation: (3, 3), head axes to camera axes (x right, y up, z to the camera).
        px_per_cm: image pixels per centimetre of the head.
        origin: (2,), image pixels (edge convention, y down): the projection of the head point (0, 0, 0).
        residual: rms distance of the rigid landmarks from the fitted mesh, centimetres.
    """

    rotation: Array
    px_per_cm: float
    origin: Array
    residual: float = 0.0

    def project(self, points: npt.ArrayLike) -> Array:
        """Head points (N, 3) in centimetres to image pixels (N, 2)."""
        camera = np.asarray(points, np.float64) @ self.rotation.T * self.px_per_cm
        return camera[:, :2] * (1, -1) + self.origin

    def to_crop_pose(self, crop: Crop) -> HeadPose:
        """The same pose in the coordinates of a crop of the image."""
        half = crop.side / 2
        center = np.array([crop.center_x, crop.center_y])
        return HeadPose(
            rotation=self.rotation,
            translation=(self.origin - center) / half,
            scale=self.px_per_cm * HEAD_CROP_CM / crop.side,
        )


def fit_pose(landmarks: npt.NDArray[np.floating]) -> FacePose:
    """The pose that brings the canonical mesh closest to landmarks (478, 3) or (468, 3) in image pixels.

    Raises:
        ShapeError: other shapes, or landmarks that are not finite.
    """
    if landmarks.ndim != 2 or landmarks.shape[0] < MESH_COUNT or landmarks.shape[1] != 3:
        raise ShapeError(f"Expected landmarks (478, 3) in pixels, got {landmarks.shape}.")
    if not np.isfinite(landmarks).all():
        raise ShapeError("Expected finite landmarks, got NaN or infinity.")
    mesh = canonical_mesh()
    # Image axes (y down, z away) to camera axes (y up, z to the camera).
    target = np.asarray(landmarks[mesh.rigid], np.float64) * (1, -1, -1)
    source, weight = mesh.vertices[mesh.rigid], mesh.rigid_weights
    scale, rotation, shift = similarity(source, target, weight)
    misfit = target - (scale * source @ rotation.T + shift)
    residual = np.sqrt(weight @ np.square(misfit).sum(1)) / scale
    return FacePose(rotation, float(scale), shift[:2] * (1, -1), float(residual))


def similarity(source: Array, target: Array, weight: Array) -> tuple[float, Array, Array]:
    """Scale, rotation (3, 3) and shift (3,) with target = scale * rotation @ source + shift, weighted least
    squares.

    Args:
        source: (N, 3).
        target: (N, 3).
        weight: (N,), not negative, sum 1.
    """
    source_mean, target_mean = weight @ source, weight @ target
    centered = source - source_mean
    covariance = (weight[:, None] * (target - target_mean)).T @ centered
    u, singular, vt = np.linalg.svd(covariance)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * signs) @ vt
    scale = float(singular @ signs / (weight @ np.square(centered).sum(1)))
    return scale, rotation, target_mean - scale * rotation @ source_mean
