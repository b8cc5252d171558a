from __future__ import annotations

import pytest
import torch

from megaportraits.errors import ConfigError
from megaportraits.pipeline.devices import find_device


def test_the_processor_is_always_there() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type in ("cpu", "cuda")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["mps", "mps:0", "cuda:99", "xpu", "meta", "hpu", "vulkan", "mkldnn", "abacus", ""])
def test_a_device_that_is_not_here_is_reported_in_one_line_with_those_that_are(name: str) -> None:
    if name.startswith("mps") and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ConfigError) as caught:
        find_device(name)
    said = caught.value.message
    assert said.startswith("--device: expected auto or cpu") and repr(name) in said
    assert "\n" not in said and len(said) < 200
