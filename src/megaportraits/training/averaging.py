"""Weight averaging of base models that were fine-tuned from the same weights. Not in the paper.

Such models often lie in one basin of the loss. The mean of their weights then keeps what each of them has learned, and
recovers what single ones have forgotten (Wortsman et al. 2022, "Model soups").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from megaportraits.config import differences
from megaportraits.errors import ConfigError, WeightsError
from megaportraits.models.storage import find_base, load_base, read_notes, save_base


def average(parts: Sequence[tuple[str, float]], out: Path, *, overwrite: bool = False) -> None:
    """Write the weighted mean of base models, with the notes of the first one.

    Args:
        parts: names or .safetensors files of base models, each with its share; shares need not sum to 1.
        out: the .safetensors file to write.
        overwrite: whether an existing file may be replaced.

    Raises:
        ConfigError: there are fewer than two models, or a share is not a positive number.
        WeightsError: weights do not exist, or the models have different configs.
    """
    shares = [share for _, share in parts]
    if len(parts) < 2 or not all(math.isfinite(share) and share > 0 for share in shares):
        raise ConfigError(
            f"expected two models or more with positive shares, got {', '.join(f'{n}={s:g}' for n, s in parts)}",
            fix="For example a.safetensors=0.7 b.safetensors=0.3.",
        )
    first = load_base(parts[0][0])
    total: dict[str, Tensor] = {}
    for name, share in parts:
        model = load_base(name)
        if found := differences(first.config, model.config, ignore=("name",)):
            raise WeightsError(
                f"{name} is of another model than {parts[0][0]} (that one's -> its): {'; '.join(found)}",
                fix="Average runs of one model, started from the same weights.",
            )
        for key, value in model.state_dict().items():
            total[key] = total.get(key, torch.zeros(())) + value.double() * (share / sum(shares))
    first.load_state_dict({key: total[key].to(value.dtype) for key, value in first.state_dict().items()})
    notes = {k: v for k, v in read_notes(find_base(parts[0][0])).items() if k not in ("kind", "config")}
    said = ", ".join(f"{share / sum(shares):.3g} {Path(name).stem}" for name, share in parts)
    save_base(out, first, notes=notes | {"average": said}, overwrite=overwrite)
