"""Which numbers a device is fast in."""

from __future__ import annotations

import torch


def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether convolutions in bfloat16 are no slower than in float32 there.

    A processor without AVX-512 needs some seventy times as long (oneDNN lacks kernels); old GPUs emulate them.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and "AVX512" in torch.backends.cpu.get_cpu_capability()
