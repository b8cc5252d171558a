"""The trained baselines as methods: `baselines.fomm`, `baselines.face_vid2vid`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megaportraits.baselines.base import Baseline
from megaportraits.choices import TransferName
from megaportraits.evaluation.methods.base import over_plate
from megaportraits.evaluation.metrics.cost import cost_of_baseline
from megaportraits.evaluation.samples import EvaluationSample
from megaportraits.faces.crop import head_crop
from megaportraits.faces.matting import Matting
from megaportraits.media.images import UInt8
from megaportraits.ops.pictures import resize

_GREY = 0.5
"""Flat colour behind sources of models that predict alpha; in training it is random."""


class BaselineMethod:
    """A trained baseline.

    Models that predict alpha see the source over grey, and their images are composited over the source's background
    plate, as ours. The others see the source's whole head crop, and their images are final.

    Args:
        name: name in tables.
        model: the baseline in evaluation mode, on any device.
        settings: everything that the results depend on.
        matting: for models that predict alpha.
        transfer: see `choices.TransferName`.
    """

    def __init__(
        self,
        name: str,
        model: Baseline[Any, Any],
        settings: Mapping[str, str],
        matting: Matting,
        transfer: TransferName = "protocol",
    ) -> None:
        self.name = name
        self.settings = {**settings, "transfer": transfer, **cost_of_baseline(model)}
        self._model, self._matting, self._transfer = model, matting, transfer

    def perform(self, sample: EvaluationSample, /) -> Iterator[UInt8]:
        """See `Method`."""
        plate = sample.plate(self._matting)
        relative = self._transfer == "relative" or (self._transfer == "protocol" and sample.pair.protocol != "self")
        first: Any = None
        with torch.inference_mode():
            encoded = self._model.encode(self._source(sample))
            own = self._model.own_motion(encoded)
        for true in sample.frames:
            with torch.inference_mode():
                motion = self._model.motion(self._tensor(true.square))
                first = motion if first is None else first
                made = self._model.render(encoded, motion.relative(first, own) if relative else motion)
            image = made.image[0].permute(1, 2, 0).cpu().numpy()
            if made.alpha is None:
                yield np.rint(image * 255).astype(np.uint8)
                continue
            alpha = made.alpha[0].permute(1, 2, 0).cpu().numpy()
            yield over_plate(np.concatenate([image * alpha, alpha], axis=2), plate)

    def _source(self, sample: EvaluationSample) -> Tensor:
        image = self._tensor(sample.source)
        if not self._model.config.predict_matte:
            return image
        crop = head_crop(sample.face)
        alpha = self._matting.matte(sample.photo, sample.face, crop, self._model.config.image_size)
        matte = torch.from_numpy(alpha).to(image)
        return image * matte + _GREY * (1 - matte)

    def _tensor(self, square: UInt8) -> Tensor:
        device = next(self._model.parameters()).device
        small = resize(square, self._model.config.image_size)
        return torch.from_numpy(small).permute(2, 0, 1)[None].to(device) / 255
