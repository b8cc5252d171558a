"""A student as a method: the source of a pair must be one of its avatars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from megaportraits.evaluation.methods.base import over_plate
from megaportraits.evaluation.samples import EvaluationSample
from megaportraits.faces.matting import Matting
from megaportraits.media.images import UInt8
from megaportraits.models.student import Student


class StudentMethod:
    """A student (3.3); the avatar of a pair has the file name of the source, without its suffix.

    Args:
        name: name in tables.
        student: the student in evaluation mode, on any device.
        settings: everything that the results depend on.
        matting: for the background plates of students that output alpha.
    """

    def __init__(self, name: str, student: Student, settings: Mapping[str, str], matting: Matting) -> None:
        self.name = name
        self.settings = dict(settings)
        self._student = student
        self._matting = matting

    def perform(self, sample: EvaluationSample, /) -> Iterator[UInt8]:
        """See `Method`.

        Raises:
            WeightsError: the student does not have the avatar.
        """
        index = self._student.find(sample.pair.source.stem)
        plate = sample.plate(self._matting)
        device = next(self._student.parameters()).device
        with torch.inference_mode():
            identity = self._student.identity(torch.tensor([index], device=device))
        for true in sample.frames:
            driver = torch.from_numpy(true.square).permute(2, 0, 1)[None].to(device) / 255
            with torch.inference_mode():
                made = self._student.render(driver, identity)
            image = made.image[0].permute(1, 2, 0).cpu().numpy()
            alpha = np.ones_like(image[..., :1]) if made.alpha is None else made.alpha[0].permute(1, 2, 0).cpu().numpy()
            yield over_plate(np.concatenate([image * alpha, alpha], axis=2), plate)
