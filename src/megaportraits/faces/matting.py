"""The person's matte: MediaPipe's selfie segmenter, cleaned and refined along image edges.

The paper uses MODNet, which is not available from a package index; this network is Apache-2.0 and runs in 4 ms. A
guided filter (He et al., TPAMI 2013) turns its coarse output into an alpha that follows hair and shoulders.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits import weights
from megaportraits.choices import MattingName
from megaportraits.faces.crop import extract
from megaportraits.faces.detector import Face
from megaportraits.faces.landmarks import MESH_COUNT
from megaportraits.faces.networks import Image, Network
from megaportraits.faces.shares import share_of
from megaportraits.ops.geometry import Crop
from megaportraits.ops.pictures import resize
from megaportraits.runtimes.model import OnnxModel

Matte = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]

_INPUT = 256
# Views for the segmenter: side, downward shift of the centre (both relative to the crop's side), weight. The crop
# itself shows hair in detail; a larger view with shoulders and surroundings separates body and background better.
_VIEWS = ((1.0, 0.0, 0.3), (1.5, 0.15, 0.35), (2.2, 0.4, 0.35))
_DECIDE, _STEEP = 0.5, 3.0
"""Threshold of the combined probability for a person, and steepness of the threshold."""
_MIDDLE = 0.4
"""Brightness in [0, 1] to which darker pictures are raised for the network."""
_WORK = 256
"""Minimum side at which edges are refined; smaller mattes are downsampled from it."""
_PORTRAIT = 512
"""Side at which portrait matting networks work, pixels."""
_HOLE = 0.004
"""Holes smaller than this part of the crop are filled: they are errors, not a view through a bent arm."""


class Matting:
    """Mattes of people. Not thread-safe.

    Args:
        threads: threads the network may use.
    """

    def __init__(self, *, threads: int = 1) -> None:
        self._network = Network(weights.fetch("selfie_segmenter").read_bytes(), threads)

    def matte(self, image: Image, face: Face, crop: Crop, size: int, others: Sequence[Face] = ()) -> Matte:
        """The alpha of the person to whom a face belongs, in a crop.

        Args:
            image: uint8 (H, W, 3).
            face: the person's face; parts that are not connected with it are dropped.
            crop: the window of the image, best a head crop or up to twice as wide.
            size: side of the matte in pixels.
            others: the picture's other faces; their pixels are excluded.

        Returns:
            (size, size) float32 in [0, 1].

        Raises:
            ShapeError: the image is not uint8 (H, W, 3), or size is not positive.
        """
        work = max(size, _WORK)
        guide = extract(image, crop, work)
        likely = self._segment(image, crop, work) * share_of(face, others, crop, work)
        inside = crop.image_to_crop(face.landmarks[:MESH_COUNT, :2])
        cleaned = clean(likely, (inside + 1) * (work / 2))
        alpha = refine(guide, cleaned)
        return resize(alpha, size)

    def _segment(self, image: Image, crop: Crop, size: int) -> Matte:
        """The network's probability over several views, combined at the crop's resolution."""
        total = np.zeros((size, size), np.float32)
        gamma = _lift(extract(image, crop, _INPUT))
        for scale, down, weight in _VIEWS:
            view = Crop(crop.center_x, crop.center_y + down * crop.side, crop.side * scale)
            pixels = extract(image, view, _INPUT).astype(np.float32) / 255
            answer = self._network(pixels[None] ** gamma)[0][0, :, :, 0]
            # Where the crop's corner lies in the view, in its pixels; then edges to pixel centres.
            step = _INPUT / (scale * size)
            left, top = (_INPUT * (0.5 - 0.5 / scale), _INPUT * (0.5 - (0.5 + down) / scale))
            matrix = np.array([[step, 0, left + step / 2 - 0.5], [0, step, top + step / 2 - 0.5]])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            total += weight * cv2.warpAffine(answer, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        # Large regions of medium probability are not hair: threshold them, and refine fine edges with the picture.
        return np.clip((total - _DECIDE) * _STEEP + 0.5, 0, 1)


class PortraitMatting(Matting):
    """Mattes by a trimap-free portrait matting network such as the paper's MODNet (Ke et al., AAAI 2022).

    Args:
        path: an ONNX file of MODNet's interface: a picture (N, 3, h, w) in [-1, 1], sides multiples of 32, to its alpha
            (N, 1, h, w) in [0, 1].
        threads: threads the network may use.

    Raises:
        MissingPackageError: onnxruntime is not installed.
        WeightsError: no such file, or one with another interface.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self._alpha = OnnxModel(
            path, inputs=[(3, None, None)], output=(1, None, None), what="a matting network", threads=threads
        )
        self._side = self._alpha.inputs[0][1] or _PORTRAIT

    def matte(self, image: Image, face: Face, crop: Crop, size: int, others: Sequence[Face] = ()) -> Matte:
        """See `Matting.matte`."""
        side = self._side
        picture = extract(image, crop, side).astype(np.float32) / 127.5 - 1
        alpha = np.clip(self._alpha([picture.transpose(2, 0, 1)[None]])[0, 0], 0, 1)
        inside = crop.image_to_crop(face.landmarks[:MESH_COUNT, :2])
        cleaned = clean(alpha * share_of(face, others, crop, side), (inside + 1) * (side / 2))
        return resize(cleaned, size, enlarge=cv2.INTER_LINEAR)


def open_matting(name: MattingName) -> Matting:
    """Matting by its name: "selfie" (MediaPipe's, the default) or "modnet", whose weights cannot be downloaded.

    Raises:
        MissingPackageError: onnxruntime is not installed.
        WeightsError: the user has not put the weights into the cache, or they have another interface.
    """
    return Matting() if name == "selfie" else PortraitMatting(weights.fetch("modnet"))


def clean(likely: Matte, face: npt.NDArray[np.floating]) -> Matte:
    """Keep the region that is connected with the face: drop islands, fill small holes.

    Args:
        likely: (n, n) probability of person.
        face: (k, 2) points of the face in pixels of `likely`.
    """
    size = likely.shape[0]
    hull = cv2.convexHull(np.rint(face).astype(np.int32))
    solid = (likely > 0.5).astype(np.uint8)
    # The face always counts as person: the network misses faces of dolls and statues.
    cv2.fillConvexPoly(solid, hull, 1)
    _, labels = cv2.connectedComponents(solid, connectivity=4)
    center = np.clip(np.rint(hull.reshape(-1, 2).mean(0)).astype(int), 0, size - 1)
    body = (labels == labels[center[1], center[0]]) & (solid > 0)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~body).astype(np.uint8), connectivity=4)
    for index in range(1, count):
        left, top, width, height, area = stats[index]
        enclosed = left > 0 and top > 0 and left + width < size and top + height < size
        if enclosed and area < _HOLE * size * size:
            body |= labels == index
    # Keep soft edges: use the network's probability in a band around the body, and 1 inside it.
    reach = cv2.dilate(body.astype(np.uint8), _disc(size // 20))
    cleaned = likely * reach
    cleaned[(likely <= 0.5) & body] = 1
    return cleaned


def refine(guide: Image, coarse: Matte) -> Matte:
    """A coarse matte to an alpha that follows the edges of the picture.

    Args:
        guide: uint8 (n, n, 3), the picture.
        coarse: (n, n) in [0, 1].

    Returns:
        (n, n) float32 in [0, 1], exactly 0 and 1 away from the edge.
    """
    size = coarse.shape[0]
    band = max(size // 24, 2)
    solid = (coarse > 0.5).astype(np.uint8)
    sure = cv2.erode(solid, _disc(band), borderValue=1)
    possible = cv2.dilate(solid, _disc(band + band // 2))
    picture, smooth = (guide / 255).astype(np.float32), coarse
    for _ in range(2):
        # Twice: the coarse edge can be a few pixels off, more than one pass corrects.
        smooth = np.clip(guided_filter(picture, smooth, radius=max(size // 32, 2), epsilon=2e-4), 0, 1)
    # The filter leaves alpha of a few per cent in flat regions; levels set them to 0 and 1 and keep hair soft.
    alpha = np.clip((smooth - 0.12) / 0.76, 0, 1)
    alpha = np.where(sure > 0, 1, np.where(possible > 0, alpha, 0))
    return alpha.astype(np.float32)


def guided_filter(guide: Floats, values: Floats, *, radius: int, epsilon: float) -> Floats:
    """Colour guided filter (He et al., 2013): `values` as a local linear function of the guide's colours.

    Args:
        guide: (H, W, 3) float32 in [0, 1].
        values: (H, W) float32.
        radius: half side of the windows in pixels.
        epsilon: colour variance below which a window counts as flat.
    """

    def mean(array: Floats) -> Floats:
        return cv2.boxFilter(array, -1, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    center = mean(guide)
    average = mean(values)
    covariance = mean(guide * values[..., None]) - center * average[..., None]
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    rr, rg, rb, gg, gb, bb = (
        mean(guide[..., i] * guide[..., j]) - center[..., i] * center[..., j] + (epsilon if i == j else 0)
        for i, j in pairs
    )
    # The inverse of the symmetric 3 x 3 matrix by cofactors.
    c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * c_rr + rg * c_rg + rb * c_rb
    r, g, b = covariance[..., 0], covariance[..., 1], covariance[..., 2]
    slope = np.stack(
        [c_rr * r + c_rg * g + c_rb * b, c_rg * r + c_gg * g + c_gb * b, c_rb * r + c_gb * g + c_bb * b], -1
    )
    slope = (slope / determinant[..., None]).astype(np.float32)
    offset = average - (slope * center).sum(-1)
    return (mean(slope) * guide).sum(-1) + mean(offset)


def foreground(image: Image, alpha: Matte, *, passes: tuple[int, ...] = (90, 6)) -> Image:
    """Straight foreground colours: the person's colour in every mixed pixel.

    Blur fusion (Forte, ICIP 2021): colours are extended outwards from where alpha is 1, then corrected so that
    compositing reproduces the picture exactly. Beyond the matte the colours continue, so that compositing has no
    fringe.

    Args:
        image: uint8 (n, n, 3).
        alpha: (n, n) in [0, 1].
        passes: window sides in pixels for a 512 px picture, coarse to fine.

    Returns:
        uint8 (n, n, 3).
    """
    picture = image.astype(np.float32)
    weight = alpha[..., None].astype(np.float32)
    front, back = picture, picture
    for window in passes:
        side = max(round(window * image.shape[0] / 512), 3) | 1
        near_front = _weighted_blur(front, weight, side)
        near_back = _weighted_blur(back, 1 - weight, side)
        residual = picture - weight * near_front - (1 - weight) * near_back
        front = np.clip(near_front + weight * residual, 0, 255)
        back = near_back
    return np.rint(front).astype(np.uint8)


def _weighted_blur(values: Floats, weight: Floats, side: int) -> Floats:
    """Box mean of values (H, W, 3) with weights (H, W, 1); over a wider box where the weights are zero."""
    small = 1e-4
    total = cv2.blur(weight, (side, side))[..., None]
    blurred = cv2.blur(values * weight, (side, side))
    wide = side * 4 + 1
    backup = cv2.blur(values * weight + small * values, (wide, wide)) / (
        cv2.blur(weight, (wide, wide))[..., None] + small
    )
    return (blurred + small * backup) / (total + small)


def _lift(picture: Image) -> float:
    """The gamma that brings a dark picture to a middle brightness; 1 for others.

    The segmenter was trained on selfies and otherwise does not separate dark hair and clothes from a dark background.
    """
    middle = float(np.median(picture)) / 255
    return float(np.clip(np.log(_MIDDLE) / np.log(np.clip(middle, 1e-3, 0.999)), 0.45, 1))


def _disc(radius: int) -> Image:
    side = 2 * max(radius, 1) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
