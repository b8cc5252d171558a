"""Which floating-point precision is fast on a device."""

from __future__ import annotations

import torch

from megaportraits.choices import Precision, PrecisionChoice

_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
"""Torch's names for the instruction sets that compute in bfloat16."""


def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether convolutions in bfloat16 are no slower than in float32 on this device.

    Processors without AVX-512 are about seventy times slower in bfloat16, because oneDNN lacks kernels for them. Old
    GPUs emulate bfloat16.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and "AVX512" in torch.backends.cpu.get_cpu_capability()


def find_precision(device: torch.device, wished: PrecisionChoice = "auto") -> Precision:
    """The precision to run networks in. "auto" selects bfloat16 where the device has instructions for it.

    A processor with AVX-512 but without bfloat16 instructions computes bfloat16 in float32 and gains no speed.
    """
    if wished != "auto":
        return wished
    fast = fast_in_bfloat16(device) and (device.type != "cpu" or _has_bfloat16_instructions())
    return "bfloat16" if fast else "float32"


def _has_bfloat16_instructions() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # torch before 2.10 does not report them
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in _INSTRUCTIONS)
