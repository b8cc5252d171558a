"""Choice of the torch device."""

from __future__ import annotations

import warnings

import torch

from megaportraits.errors import ConfigError


def find_device(name: str) -> torch.device:
    """A torch device by its name; "auto": CUDA where there is one, else the CPU.

    Raises:
        ConfigError: torch knows no such device, or cannot compute on it here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    reason = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated device names
            chosen = torch.device(name)
            torch.zeros(1, device=chosen).cpu()  # fails for "meta", which holds no data
        return chosen
    except (NotImplementedError, ImportError):
        pass  # torch has no code for the device; its message is a long list of supported back ends
    except (RuntimeError, AssertionError) as error:
        if name.partition(":")[0] in ("cuda", "xpu"):  # for other names torch only lists all device types
            reason = f" ({str(error).splitlines()[0].partition('. ')[0]})"
    raise ConfigError(
        f"--device: expected {' or '.join(['auto', *_present()])} on this machine, got {name!r}{reason}",
        fix="Leave --device out to take the fastest.",
    )


def _present() -> list[str]:
    """The kinds of devices that torch can use here."""
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [name for name, there in found.items() if there]
