"""What models in torch, exported graphs and students have in common: encoders of photographs, renderers of frames."""

from __future__ import annotations

from typing import Protocol, TypeVar

from megaportraits.faces.detector import Blendshapes, FaceAnalyzer
from megaportraits.faces.matting import Matting
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import HeadPose
from megaportraits.pipeline.compose import Rendering
from megaportraits.pipeline.portrait import PreparedSource, Source

P_co = TypeVar("P_co", bound=PreparedSource, covariant=True)


class Encoder(Protocol[P_co]):
    """Encodes photographs: `pipeline.Avatar` in torch, `live.engines.GraphEncoder` as an exported graph."""

    @property
    def analyzer(self) -> FaceAnalyzer:
        """Finds faces."""

    @property
    def matting(self) -> Matting:
        """Separates people from backgrounds."""

    def encode(self, source: Source, /, *, face: int | None = None) -> P_co:
        """Prepare and encode a source.

        Args:
            source: see `pipeline.portrait.Source`.
            face: which face, counted from 1 from left to right; None takes the largest.

        Raises:
            MediaError: the file cannot be read.
            FaceError: no human face, or fewer than `face`.
        """


class Renderer(Protocol):
    """Renders one person: the base model or a student, in torch or as an exported graph. Not thread-safe.

    Attributes:
        size: side of the head crops that it takes, pixels.
    """

    size: int

    def draw(self, head: UInt8, pose: HeadPose, blendshapes: Blendshapes) -> Rendering:
        """Render the person with a driver's motion.

        Args:
            head: (size, size, 3) uint8, the driver's head crop.
            pose: head pose fitted to the driver's landmarks, crop coordinates.
            blendshapes: (52,), the driver's blendshapes.
        """
        ...
