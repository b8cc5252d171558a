"""Benchmark of memory layouts and precisions at inference: milliseconds per frame and per source, with ratios.

    python benchmarks/inference.py                          # nano-256
    python benchmarks/inference.py --config paper-512 --rounds 3
    python benchmarks/inference.py --batch 4                # the batch size of `animate`
    python benchmarks/inference.py --config paper-512 --rounds 2 --author    # beside the author's later structure

Variants: the network as trained (weight standardisation folded), prepared for inference in float32 (channels-last
weights, single small volumes through oneDNN), and both in bfloat16. Weights are random, which does not change the
speed. The variants take turns, and medians are shown; the first variant is the reference of each ratio.
Utilisation is the fraction of the machine's peak for convolutions (3x3, 512 channels, 64 px) in the same precision,
measured in the same run. OMP_NUM_THREADS sets the number of threads.

--author adds the network as trained with one residual 3D block more before the projection. It stands for the author's
later code (EMOPortraits), which has 3D blocks there and needs 282 GMAC for a frame of 512 px; with `paper-512` the
stand-in needs 288. It is made of our own blocks, so it shows the cost of the structure and not of that program.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from megaportraits.choices import Precision
from megaportraits.config import ModelConfig, TrainBaseConfig, load_config
from megaportraits.models.base import BaseModel
from megaportraits.models.identity import Identity
from megaportraits.models.motion import Expression, Motion
from megaportraits.nn.blocks import BlockStyle, ResBlock, fold_weight_standardization
from megaportraits.nn.inference import prepare_for_inference, running
from megaportraits.ops.precision import fast_in_bfloat16
from megaportraits.ops.warping import Pose

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Way:
    """A variant: a model in one layout and precision."""

    name: str
    model: BaseModel
    precision: Precision


def motions(config: ModelConfig, batch: int) -> Motion:
    """Motions of frontal heads with random expressions."""
    count = len(config.motion.blendshapes) if config.motion.append_blendshapes else None
    residual = None if count is None else torch.randn(batch, count)
    pose = Pose(torch.eye(3).repeat(batch, 1, 1), torch.full((batch, 2), 0.05), torch.ones(batch))
    return Motion(pose, Expression(torch.randn(batch, config.motion.z), residual))


AUTHOR = "author's later structure"


def ways_of(config: ModelConfig, *, author: bool = False) -> list[Way]:
    """The model as trained and as prepared, in every precision for which the processor has fast instructions.

    With `author` also, as trained, with one 3D block more before the projection.
    """
    torch.manual_seed(0)
    plain = BaseModel(config).eval().requires_grad_(False)
    fold_weight_standardization(plain)
    precisions: list[Precision] = ["float32", *(["bfloat16"] if fast_in_bfloat16(CPU) else [])]
    ways = []
    for precision in precisions:
        prepared = copy.deepcopy(plain)
        prepare_for_inference(prepared, precision)
        ways += [Way(f"as trained, {precision}", plain, precision), Way(f"prepared, {precision}", prepared, precision)]
    if author:
        style = BlockStyle(config.groups, config.weight_standardization)
        later = copy.deepcopy(plain)
        block = ResBlock(3, config.volume_channels, config.volume_channels, style).eval().requires_grad_(False)
        fold_weight_standardization(block)
        later.projection = nn.Sequential(block, later.projection)  # type: ignore[assignment]
        ways += [Way(f"{AUTHOR}, {precision}", later, precision) for precision in precisions]
    return ways


def in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median milliseconds of each call; the calls take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:  # the first turn warms up
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_calls() -> dict[str, Callable[[], object]]:
    """One large convolution in each precision, 9.7 GMAC."""

    def call(dtype: torch.dtype) -> Callable[[], object]:
        x = torch.randn(1, 512, 64, 64, dtype=dtype).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(512, 512, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
        return lambda: F.conv2d(x, weight, padding=1)

    kinds = {"float32": torch.float32, **({"bfloat16": torch.bfloat16} if fast_in_bfloat16(CPU) else {})}
    return {name: call(dtype) for name, dtype in kinds.items()}


PEAK_GMAC = 512 * 512 * 9 * 64 * 64 / 1e9


def measure(config: ModelConfig, batch: int, rounds: int, console: Console, *, author: bool = False) -> None:
    """Measure a config and print its table."""
    ways, size = ways_of(config, author=author), config.image_size
    photo, own, driven = torch.rand(1, 3, size, size), motions(config, 1), motions(config, batch)

    def encode(way: Way) -> Identity:
        with running(CPU, way.precision):
            return way.model.encode(photo, own)

    def frames(way: Way, identity: Identity) -> object:
        with running(CPU, way.precision):
            return way.model.render(identity[torch.zeros(batch, dtype=torch.long)], driven)

    people = {way.name: encode(way) for way in ways}
    work: dict[str, float] = {}
    for way in ways:
        counter = FlopCounterMode(display=False)
        with counter:
            frames(way, people[way.name])
        work[way.name] = counter.get_total_flops() / 2e9 / batch
    gmac = work[ways[0].name]
    peaks = {name: PEAK_GMAC / ms * 1e3 for name, ms in in_turns(peak_calls(), rounds).items()}
    per_frame = in_turns({way.name: lambda w=way: frames(w, people[w.name]) for way in ways}, rounds)
    per_source = in_turns({way.name: lambda w=way: encode(w) for way in ways}, rounds)
    table = Table("way", "frame, ms", "ratio", "utilisation", "source, ms", "ratio", title=f"{gmac:.2f} GMAC a frame")
    first = ways[0].name
    for way in ways:
        frame, source = per_frame[way.name] / batch, per_source[way.name]
        table.add_row(
            way.name,
            f"{frame:.1f}",
            f"{per_frame[first] / batch / frame:.2f}",
            f"{work[way.name] / frame * 1e3 / peaks[way.precision]:.0%}",
            f"{source:.1f}",
            f"{per_source[first] / source:.2f}",
        )
    console.print(table)
    if author:
        made = next(way.name for way in reversed(ways) if way.name.startswith("prepared"))  # in the fastest precision
        for way in ways:
            if way.name.startswith(AUTHOR):
                share = per_frame[made] / per_frame[way.name]
                console.print(f"{made} / {way.name} ({work[way.name]:.0f} GMAC): {share:.2f}")
    console.print("Peak: " + ", ".join(f"{name} {value:.0f} GMAC/s" for name, value in peaks.items()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="nano-256", help="a shipped config or a YAML file")
    parser.add_argument("--batch", type=int, default=1, help="number of frames per batch")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--author", action="store_true", help="also measure the author's later structure")
    chosen = parser.parse_args()
    console = Console()
    console.print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    console.print(f"{chosen.config}, {chosen.batch} frames at once")
    model = load_config(TrainBaseConfig, chosen.config, []).model
    measure(model, chosen.batch, chosen.rounds, console, author=chosen.author)


if __name__ == "__main__":
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does
    main()
