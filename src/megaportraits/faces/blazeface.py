"""BlazeFace, MediaPipe's anchor-based face detectors (Bazarevsky et al., 2019), under LiteRT.

Two networks: short range (128 px, faces that fill a good part of the picture) and full range, sparse (192 px,
small faces). Both give, per anchor, a score and a box with six keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from megaportraits.faces.networks import Floats, Image, Network, Region

_OVERLAP = 0.3
"""Boxes with at least this intersection over union belong to one face."""
SHORT_SIZE = 128
"""Input side of the short-range network, pixels."""
SHORT_GRIDS = ((16, 2), (8, 6))
"""Its feature maps: cells per side, anchors per cell."""


@dataclass(frozen=True)
class Detection:
    """A face candidate.

    Attributes:
        score: in [0, 1].
        center: (2,), image pixels.
        side: longer side of the box, image pixels.
        keypoints: (6, 2), image pixels: the subject's right eye, left eye, nose tip, mouth, right ear, left
            ear.
    """

    score: float
    center: Floats
    side: float
    keypoints: Floats

    def region(self, margin: float = 1.5) -> Region:
        """The rotated square that the landmark network looks at: eyes level, box side times `margin`."""
        across = self.keypoints[1] - self.keypoints[0]
        angle = float(np.arctan2(across[1], across[0]))
        return Region(float(self.center[0]), float(self.center[1]), self.side * margin, angle)


class BlazeFace:
    """One detector.

    Args:
        network: the tflite network.
        size: its input side in pixels.
        grids: (cells per side, anchors per cell) of each feature map, in the network's order.
    """

    def __init__(self, network: Network, size: int, grids: tuple[tuple[int, int], ...]) -> None:
        self._network = network
        self._size = size
        anchors = []
        for cells, count in grids:
            centers = (np.arange(cells) + 0.5) / cells
            y, x = np.meshgrid(centers, centers, indexing="ij")
            anchors.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), count, axis=0))
        self._anchors = np.concatenate(anchors)

    @classmethod
    def short_range(cls, network: Network) -> BlazeFace:
        """The 128 px network of `face_landmarker.task`."""
        return cls(network, SHORT_SIZE, SHORT_GRIDS)

    @classmethod
    def full_range(cls, network: Network) -> BlazeFace:
        """The 192 px network `face_detection_full_range_sparse.tflite`."""
        return cls(network, 192, ((48, 1),))

    def detect(self, image: Image, region: Region | None = None, threshold: float = 0.5) -> list[Detection]:
        """Candidates in a region of an image, best first.

        Args:
            image: uint8 (H, W, 3).
            region: the region to search; by default the smallest square around the whole image.
            threshold: least score.
        """
        height, width = image.shape[:2]
        region = region or Region(width / 2, height / 2, max(height, width))
        crop = region.extract(image, self._size)
        regressors, logits = self._network((crop[None].astype(np.float32) - 127.5) / 127.5)
        scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0].astype(np.float64), -80, 80)))
        keep = scores >= threshold
        offsets = regressors[0, keep].astype(np.float64) / self._size
        boxes = offsets[:, :4]
        boxes[:, :2] += self._anchors[keep]
        keypoints = offsets[:, 4:].reshape(-1, 6, 2) + self._anchors[keep, None]
        found = _suppress(scores[keep], boxes, keypoints)
        return [
            Detection(
                score=score,
                center=region.to_image(box[None, :2])[0],
                side=float(np.max(box[2:]) * region.side),
                keypoints=region.to_image(points),
            )
            for score, box, points in found
        ]


def _suppress(scores: Floats, boxes: Floats, keypoints: Floats) -> list[tuple[float, Floats, Floats]]:
    """Weighted non-maximum suppression: overlapping boxes (centre and size) are averaged by score."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    area = np.prod(boxes[:, 2:], axis=1)
    free = np.ones(len(scores), bool)
    found = []
    for best in np.argsort(-scores, kind="stable"):
        if not free[best]:
            continue
        overlap = np.minimum(high[best], high) - np.maximum(low[best], low)
        shared = np.prod(np.clip(overlap, 0, None), axis=1)
        group = free & (shared > _OVERLAP * (area + area[best] - shared))
        group[best] = True
        free &= ~group
        weights = scores[group] / scores[group].sum()
        points = np.tensordot(weights, keypoints[group], axes=1)
        found.append((float(scores[best]), weights @ boxes[group], points))
    return found
