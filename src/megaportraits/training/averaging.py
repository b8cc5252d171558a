"""Weight averaging of base models that were fine-tuned from the same weights. Not in the paper.

Such models often lie in one basin of the loss. The mean of their weights then keeps what each of them has learned, and
recovers what single ones have forgotten (Wortsman et al. 2022, "Model soups").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from megaportraits.config import differences
from megaportraits.errors import ConfigError, WeightsError
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import find_base, load_base, save_base
from megaportraits.nn.weights_file import read_notes


def average(
    parts: Sequence[tuple[str, float]],
    out: Path,
    *,
    modules: Mapping[str, Sequence[float]] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the weighted mean of base models, with the notes of the first one.

    Args:
        parts: names or .safetensors files of base models, each with its share; shares need not sum to 1.
        out: the .safetensors file to write.
        modules: other shares for modules of the model, in the order of `parts`; they may be 0. For example
            `{"generator_2d.output": (1, 0)}`.
        overwrite: whether an existing file may be replaced.

    Raises:
        ConfigError: there are fewer than two models; a share is not a positive number; the model has no such module;
            a module's shares do not fit.
        WeightsError: weights do not exist, or the models have different configs.
    """
    shares = [share for _, share in parts]
    if len(parts) < 2 or not all(math.isfinite(share) and share > 0 for share in shares):
        raise ConfigError(
            f"expected two models or more with positive shares, got {', '.join(f'{n}={s:g}' for n, s in parts)}",
            fix="For example a.safetensors=0.7 b.safetensors=0.3.",
        )
    first = load_base(parts[0][0])
    modules = modules or {}
    for module, others in modules.items():
        _check_module(first, module, others, count=len(parts))
    total: dict[str, Tensor] = {}
    for index, (name, _) in enumerate(parts):
        model = load_base(name)
        if found := differences(first.config, model.config, ignore=("name",)):
            raise WeightsError(
                f"{name} is of another model than {parts[0][0]} (that one's -> its): {'; '.join(found)}",
                fix="Average runs of one model, started from the same weights.",
            )
        for key, value in model.state_dict().items():
            used = next((s for module, s in modules.items() if key.startswith(f"{module}.")), shares)
            total[key] = total.get(key, torch.zeros(())) + value.double() * (used[index] / sum(used))
    first.load_state_dict({key: total[key].to(value.dtype) for key, value in first.state_dict().items()})
    notes = {k: v for k, v in read_notes(find_base(parts[0][0])).items() if k not in ("kind", "config")}
    said = ", ".join(f"{share / sum(shares):.3g} {Path(name).stem}" for name, share in parts)
    for module, others in modules.items():
        said += f"; {module}: " + ", ".join(f"{share / sum(others):.3g}" for share in others)
    save_base(out, first, notes=notes | {"average": said}, overwrite=overwrite)


def _check_module(model: BaseModel, module: str, shares: Sequence[float], *, count: int) -> None:
    """Raise a ConfigError if the model has no such module with weights, or the shares do not fit."""
    known = [name for name, part in model.named_modules() if name and any(True for _ in part.parameters())]
    if module not in known:
        tops = [name for name in known if name.count(".") < 2]
        raise ConfigError(f"the model has no module {module}", fix=f"Its modules are {', '.join(tops)}.")
    if len(shares) != count or not all(math.isfinite(s) and s >= 0 for s in shares) or not sum(shares) > 0:
        raise ConfigError(
            f"{module}: expected {count} shares from 0 on, not all 0, got {', '.join(f'{s:g}' for s in shares)}",
            fix="Give one share for each file of weights, in their order.",
        )
