"""The run folder, its statistics and sample grids, and the printed progress."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from torch import Tensor

from megaportraits.errors import TrainingError
from megaportraits.extras import optional_dependency, require
from megaportraits.media import write_image
from megaportraits.media.folders import folder_lock, write_whole
from megaportraits.reading import FAULTS, is_file
from megaportraits.training.schedule import learning_rate
from megaportraits.training.stage import TrainingConfig
from megaportraits.training.strategy import any_rank

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch.utils.tensorboard import SummaryWriter

_TENSORBOARD = "TensorBoard output (run.tensorboard)"


@dataclass
class TrainingRun:
    """A run folder: `config.yaml`, `stats.jsonl`, `samples/`, `checkpoints/`, `tensorboard/`, the weights.

    Attributes:
        folder: the run folder.
        tensorboard: whether to write TensorBoard events in addition to `stats.jsonl`.

    Raises:
        MissingPackageError: `tensorboard` is True and the package is not installed.
    """

    folder: Path
    tensorboard: bool = False
    _events: SummaryWriter | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.tensorboard:
            require("train", _TENSORBOARD, "tensorboard")

    def start(self, config: TrainingConfig, step: int) -> None:
        """Create the folder. Remove statistics of steps after `step`, which a resumed run writes again."""
        (self.folder / "samples").mkdir(parents=True, exist_ok=True)
        # Resuming reads both files, so they are written atomically.
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        write_whole(self.folder / "config.yaml", text.encode())
        path = self.folder / "stats.jsonl"
        if path.exists():
            kept = [
                line
                for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
                if _step_of(line) <= step
            ]
            write_whole(path, "".join(line + "\n" for line in kept).encode())
        if self.tensorboard:
            with optional_dependency("train", _TENSORBOARD):
                from torch.utils.tensorboard import SummaryWriter
            self._events = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1, flush_secs=30)

    def log(self, entry: dict[str, Any]) -> None:
        """Append one line of statistics, and write its numbers to TensorBoard if that is on."""
        with (self.folder / "stats.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self._events is not None:
            validation = {f"validation/{k}": v for k, v in entry.get("validation", {}).items()}
            for name, value in {**entry, **validation}.items():
                if isinstance(value, float | int) and name != "step":
                    self._events.add_scalar(name, value, entry["step"])

    def picture(self, step: int, image: Tensor) -> None:
        """Write a sample grid (3, H, W) in [0, 1]."""
        pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        write_image(self.folder / "samples" / f"{step:08d}.png", pixels, overwrite=True)

    def close(self) -> None:
        """Flush TensorBoard's events."""
        if self._events is not None:
            self._events.close()


@contextmanager
def only_run(fabric: Fabric, folder: Path, *, resume: bool) -> Iterator[None]:
    """Lock a run folder in the first process. All processes must call this, and all raise if one does.

    Raises:
        TrainingError: another process trains in the folder, or it contains a run and `resume` is False.
        DataError: the folder cannot be written.
    """
    if is_file(folder / "config.yaml", TrainingError) and not resume:
        raise TrainingError(f"{folder} already holds a run", fix="Add --resume to go on, or choose another --out.")
    with folder_lock(folder) if fabric.is_global_zero else nullcontext(True) as free:
        (taken,) = any_rank(fabric, not free)
        if taken:
            raise TrainingError(
                f"another process trains in {folder}", fix="Wait for it, or stop it, or choose another --out."
            )
        yield


def _step_of(line: str) -> float:
    """The step of a line; infinity for a line that is incomplete because the process was killed."""
    try:
        return float(json.loads(line)["step"])
    except FAULTS:
        return float("inf")


def print_line(line: str) -> None:
    """Print a line to stderr, without wrapping it at the width of the terminal."""
    Console(stderr=True).print(line, highlight=False, soft_wrap=True, markup=False)


class Meter:
    """Averages the losses since the last line of statistics, and measures the speed.

    Args:
        config: config of the run.
        quiet_seconds: longest time without a printed line; 0 prints one after every step.
    """

    def __init__(self, config: TrainingConfig, quiet_seconds: float = 60.0) -> None:
        self.config, self.quiet_seconds = config, quiet_seconds
        self.sums: dict[str, list[float]] = {}
        self.began, self.count = time.monotonic(), 0
        self.printed = self.began

    def add(self, losses: dict[str, float]) -> None:
        """Add the losses of one step."""
        self.count += 1
        for name, value in losses.items():
            self.sums.setdefault(name, []).append(value)

    def report_progress(self, step: int) -> None:
        """Print the step and the speed if `quiet_seconds` have passed without a line, as happens with slow steps."""
        now = time.monotonic()
        if now - self.printed >= self.quiet_seconds and self.count:
            self.printed = now
            print_line(f"step {step} of {self.config.optim.steps}, {(now - self.began) / self.count:.3g} s a step")

    def flush(self, step: int) -> dict[str, Any]:
        """The entry of `stats.jsonl` for the steps since the previous entry; it is also printed."""
        seconds = time.monotonic() - self.began
        entry: dict[str, Any] = {
            "step": step,
            "samples": step * self.config.optim.batch_size,
            "lr": learning_rate(self.config.optim, step - 1),
            "samples_per_second": round(self.count * self.config.optim.batch_size / max(seconds, 1e-9), 3),
            **{name: round(sum(v) / len(v), 6) for name, v in self.sums.items()},
        }
        if not entry.get("unreadable", 0):
            entry.pop("unreadable", None)  # unreadable members per step: only reported if there are any
        self.sums, self.began, self.count = {}, time.monotonic(), 0
        print_line("  ".join(f"{k} {v:.4g}" for k, v in entry.items() if isinstance(v, float | int)))
        self.printed = self.began
        return entry
