"""Convert HDR and wide-gamut video to BT.709: transfer functions of BT.2100, reference white of BT.2408.

Light up to `_KNEE` of white is converted exactly, so that a face has the same contrast as in an SDR recording.
Highlights above it, up to `ColorMap.peak`, are compressed into the remaining range by the Mobius curve of FFmpeg's
`tonemap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, Self

import cv2
import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Hdr = Literal["PQ", "HLG"]
Floats = npt.NDArray[np.float32]

_TRANSFERS: dict[int, Hdr] = {16: "PQ", 18: "HLG"}
"""By their numbers in ITU-T H.273, as FFmpeg and HEIF have them."""
_XY_D65 = (0.3127, 0.3290)
_XY: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""Chromaticities of red, green and blue by the numbers of H.273: BT.709, BT.2020, Display P3. All with white D65."""
_BT709 = 1
_WHITE = 203.0
"""Diffuse white in HDR, cd/m2 (BT.2408)."""
_HLG_PEAK = 1000.0
"""Peak luminance of the assumed HLG display, cd/m2; its system gamma is then 1.2 (BT.2100)."""
_GAMMA = 2.4
"""Display gamma of BT.709 (BT.1886)."""
_KNEE = 0.6
"""Linear light, relative to white, above which highlights are compressed."""
_LEVELS = 1 << 12


@dataclass(frozen=True)
class ColorMap:
    """Converts frames to BT.709.

    Attributes:
        hdr: the transfer function; None: BT.709's.
        primaries: of the file, a number of ITU-T H.273.
        peak: maximum HDR light as a multiple of white; brighter light is clipped.
    """

    hdr: Hdr | None
    primaries: int
    peak: float = _HLG_PEAK / _WHITE

    @classmethod
    def of(cls, transfer: int, primaries: int) -> Self | None:
        """The map for a transfer function and primaries by their numbers in H.273; None if no conversion is needed."""
        hdr = _TRANSFERS.get(int(transfer))
        if hdr is not None and int(primaries) not in _XY:
            primaries = 9  # BT.2100 has no others
        if hdr is None and (int(primaries) not in _XY or int(primaries) == _BT709):
            return None
        return cls(hdr, int(primaries))

    def fitted(self, frames: Sequence[npt.NDArray[np.uint16]]) -> Self:
        """The same map with the peak of some of the frames, (H, W, 3) in the file's colours."""
        if self.hdr is None or not frames:
            return self
        # Ignore the brightest thousandth, which can be noise.
        peak = max(float(np.quantile(self._light(frame).max(axis=2), 0.999)) for frame in frames)
        return replace(self, peak=max(peak, 1.0))

    def __call__(self, frame: npt.NDArray[np.uint16]) -> UInt8:
        """(H, W, 3) in the file's colours, 16 bits, to 8 bits of BT.709."""
        light = self._light(frame)
        if self.hdr is not None and self.peak > 1:
            light *= _shoulder(light.max(axis=2), self.peak)[..., None]
        levels = np.rint(np.clip(light, 0, 1) * 65535).astype(np.uint16)
        return np.asarray(_code_values()[levels], np.uint8)

    def _light(self, frame: npt.NDArray[np.uint16]) -> Floats:
        """Linear light of BT.709, white is 1; negative outside its gamut."""
        table = _linear(self.hdr) / (_WHITE if self.hdr == "PQ" else 1.0)
        light = table.astype(np.float32)[frame >> 4]
        if self.hdr == "HLG":
            scene = cv2.transform(light, np.array([[0.2627, 0.6780, 0.0593]], np.float32))
            light *= (_HLG_PEAK / _WHITE * scene**0.2)[..., None]
        return np.asarray(cv2.transform(light, _to_bt709(self.primaries)), np.float32)


@cache
def _linear(hdr: Hdr | None) -> npt.NDArray[np.float64]:
    """Light for each of `_LEVELS` code values: cd/m2 by PQ, scene light by HLG, else display light, both in [0, 1]."""
    code = np.linspace(0, 1, _LEVELS)
    if hdr == "PQ":  # BT.2100, table 4
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = code ** (1 / m2)
        return np.asarray(10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1))
    if hdr == "HLG":  # BT.2100, table 5
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return np.asarray(code**_GAMMA)


@cache
def _code_values() -> UInt8:
    """8-bit code values for 16 bits of display light."""
    return np.rint(255 * np.linspace(0, 1, 1 << 16) ** (1 / _GAMMA)).astype(np.uint8)


def _shoulder(light: Floats, peak: float) -> Floats:
    """The factor for each light value: 1 up to the knee, then a smooth compression that maps `peak` to 1."""
    k = _KNEE
    a = -(k**2) * (peak - 1) / (k**2 - 2 * k + peak)
    b = (k**2 - 2 * k * peak + peak) / max(peak - 1, 1e-6)
    scale = (b**2 + 2 * b * k + k**2) / (b - a)
    bright = np.maximum(light, k)
    return np.where(light > k, scale * (bright + a) / ((bright + b) * bright), 1).astype(np.float32)


@cache
def _to_bt709(primaries: int) -> Floats:
    """From linear light of other primaries to that of BT.709, (3, 3)."""
    return np.asarray(np.linalg.inv(_to_xyz(_XY[_BT709])) @ _to_xyz(_XY[primaries]), np.float32)


def _to_xyz(corners: tuple[tuple[float, float], ...]) -> npt.NDArray[np.float64]:
    """From RGB to CIE XYZ, (3, 3)."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (*corners, _XY_D65)]).T
    return np.asarray(columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3]))
