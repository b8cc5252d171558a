"""The choice of numeric precision for a device."""

from __future__ import annotations

import pytest
import torch

from megaportraits.ops import precision
from megaportraits.ops.precision import find_precision

CPU = torch.device("cpu")


def processor(patch: pytest.MonkeyPatch, capability: str, **abilities: bool) -> None:
    patch.setattr(precision, "_INSTRUCTIONS", ("amx_bf16", "avx512_bf16"))
    patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    patch.setattr(torch.cpu, "get_capabilities", lambda: abilities, raising=False)


@pytest.mark.parametrize(
    ("capability", "abilities", "expected"),
    [
        ("AVX512", {"amx_bf16": True}, "bfloat16"),
        ("AVX512", {"avx512_bf16": True}, "bfloat16"),
        ("AVX512", {"avx512_vnni": True}, "float32"),  # bfloat16 is computed in float32 there
        ("AVX2", {"avx512_bf16": True}, "float32"),  # torch was told not to use AVX-512
        ("DEFAULT", {"bf16": True}, "float32"),
    ],
)
def test_auto_is_bfloat16_only_with_instructions_for_it(
    capability: str, abilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, capability, **abilities)
    assert find_precision(CPU) == expected


def test_a_wish_is_granted_on_every_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, "AVX2")
    assert find_precision(CPU, "bfloat16") == "bfloat16"
    processor(monkeypatch, "AVX512", amx_bf16=True)
    assert find_precision(CPU, "float32") == "float32"


def test_older_torch_that_cannot_tell_means_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, "AVX512", amx_bf16=True)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert find_precision(CPU) == "float32"
