"""Which numbers a device is fast in."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]
"""In which networks run."""

_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
"""What torch calls the abilities of a processor that computes in bfloat16 itself."""


def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether convolutions in bfloat16 are no slower than in float32 there.

    A processor without AVX-512 needs some seventy times as long (oneDNN lacks kernels); old GPUs emulate them.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and "AVX512" in torch.backends.cpu.get_cpu_capability()


def find_precision(device: torch.device, wished: Precision | Literal["auto"] = "auto") -> Precision:
    """The precision to run networks in; "auto": bfloat16 where the device has instructions for it.

    A processor with AVX-512 alone computes bfloat16 in float32: nothing is won.
    """
    if wished != "auto":
        return wished
    fast = fast_in_bfloat16(device) and (device.type != "cpu" or _has_bfloat16_instructions())
    return "bfloat16" if fast else "float32"


def _has_bfloat16_instructions() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # torch before 2.10 does not tell
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in _INSTRUCTIONS)
