"""Benchmark of `animate`: milliseconds per source and per frame for each part, and peak memory by driver length.

    python benchmarks/animate.py            # drivers of 10 s and 60 s for the memory
    python benchmarks/animate.py --quick    # 2 s and 12 s: the same ratio of lengths, in under two minutes

The parts run as in `pipeline.Avatar`, one after the other, on the demo's photograph and driver, with frames in
batches. The real program also decodes and tracks in a second thread, so it can be faster than the sum. All times are
medians.

Memory is the peak of a fresh process that animates a file. It may grow with the driver's length by at most 10 %.
OMP_NUM_THREADS sets the number of threads. Compare runs only on an idle machine.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from megaportraits.media import VideoReader, VideoWriter, write_image
from megaportraits.models.base import BaseModel
from megaportraits.pipeline import AnimateOptions, Avatar, animate_file
from megaportraits.pipeline import avatar as pipeline
from megaportraits.pipeline import portrait as preparation
from megaportraits.pipeline.compositor import Compositor
from megaportraits.pipeline.demo import demo_driver, demo_portrait
from megaportraits.pipeline.driver import HeadFollower
from megaportraits.pipeline.frames import BATCH
from megaportraits.pipeline.motion import edit_motion

LIMIT = 1.10
"""Largest allowed ratio of the peak memories for the long and the short driver."""


class Clock:
    """Collects times, milliseconds, of named parts: `with` blocks, functions and networks."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a block."""
        start = time.perf_counter()
        yield
        self.times[name].append((time.perf_counter() - start) * 1e3)

    def wrap(self, name: str, owner: Any, attribute: str) -> None:
        """Time every call of a function that is an attribute of an object or a module."""
        function = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        setattr(owner, attribute, timed)

    def watch(self, model: BaseModel) -> None:
        """Time every forward pass of a model's parts, under the paper's names."""
        parts: dict[str, nn.Module | None] = {
            "E_app": model.appearance,
            "W_s": model.warp_source,
            "W_d": model.warp_driver,
            "G_3D": model.generator_3d,
            "P": model.projection,
            "G_2D": model.generator_2d,
        }
        for name, module in parts.items():
            if module is not None:
                self.wrap(name, module, "forward")

    def forget(self) -> None:
        """Drop the measurements of the warm-up."""
        self.times.clear()

    def median(self, name: str) -> float:
        """Median milliseconds; 0 for a part that never ran."""
        return statistics.median(self.times[name]) if self.times[name] else 0.0

    def rest(self, whole: str, *parts: str) -> float:
        """Milliseconds of `whole` minus those of its parts, which run once in each call of `whole`."""
        turns = zip(self.times[whole], *(self.times[part] for part in parts), strict=True)
        return statistics.median(all_of_it - sum(rest) for all_of_it, *rest in turns)


def once_per_source(avatar: Avatar, clock: Clock, repeats: int) -> dict[str, float]:
    """Time the parts of `Avatar.encode`."""
    clock.wrap("detect", pipeline, "find_source_head")
    clock.wrap("matting", avatar.matting, "matte")
    clock.wrap("foreground", preparation, "foreground")
    clock.wrap("inpaint", preparation, "background_plate")
    clock.wrap("E_mtn", avatar, "_motions")
    clock.wrap("encode", avatar.model, "encode")
    photo = demo_portrait()
    avatar.encode(photo)
    clock.forget()
    for _ in range(repeats):
        with clock.part("all"):
            avatar.encode(photo)
    return {
        "detect and landmarks": clock.median("detect"),
        "matting": clock.median("matting"),
        "foreground colours": clock.median("foreground"),
        "inpaint": clock.median("inpaint"),
        "crops": clock.rest("all", "detect", "matting", "foreground", "inpaint", "E_mtn", "encode"),
        "E_app": clock.median("E_app"),
        "E_mtn": clock.median("E_mtn"),
        "W_s": clock.median("W_s"),
        "G_3D": clock.median("G_3D"),
        "sampling": clock.rest("encode", "E_app", "W_s", "G_3D"),
    }


def per_frame(avatar: Avatar, clock: Clock, batches: int, out: Path) -> dict[str, float]:
    """Time the parts of `Avatar.animate` and of writing its file, on the demo's driver, with frames in batches."""
    portrait = avatar.encode(demo_portrait())
    options = AnimateOptions()
    size = options.head_size(avatar.output_size)
    compositor = Compositor(portrait, options, avatar.matting, portrait.rest, size=size)
    clock.wrap("track", avatar.analyzer, "track")
    follower = HeadFollower(avatar.analyzer, avatar.size)
    video = iter(VideoReader(demo_driver()))
    with VideoWriter(out, overwrite=True) as writer:
        for turn in range(batches + 1):
            if turn == 1:
                clock.forget()
            views = []
            for _ in range(BATCH):
                with clock.part("decode"):
                    frame = next(video)
                with clock.part("look"):
                    views.append(follower.look(frame))
            with clock.part("motion"):
                driven = list(avatar.view_motions([view.head for view in views if view.head is not None]))
            motions = [edit_motion(portrait.motion, motion) for motion in driven]
            with clock.part("render"):
                renderings = avatar.renders(portrait, motions)
            for rendering, view in zip(renderings, views, strict=True):
                with clock.part("compose"):
                    image, _, _ = compositor.compose(rendering, view)
                with clock.part("write"):
                    writer.write(image)
    return {
        "decode": clock.median("decode"),
        "track and landmarks": clock.median("track"),
        "pose and crop": clock.rest("look", "track"),
        "E_mtn": clock.median("motion") / BATCH,
        "W_d": clock.median("W_d") / BATCH,
        "warp (sampling)": clock.rest("render", "W_d", "P", "G_2D") / BATCH,
        "P and G_2D": (clock.median("P") + clock.median("G_2D")) / BATCH,
        "compose and paste": clock.median("compose"),
        "encode video": clock.median("write"),
    }


def write_driver(path: Path, seconds: float) -> int:
    """Write a driver of a given length: the demo's, alternately forwards and backwards. Returns its frame count."""
    images = [frame.image for frame in VideoReader(demo_driver())]
    there_and_back = itertools.cycle([*images, *images[-2:0:-1]])
    count = round(seconds * 25)
    with VideoWriter(path, fps=25, overwrite=True) as writer:
        for image in itertools.islice(there_and_back, count):
            writer.write(image)
    return count


def animate_in_new_process(weights: str, driver: Path, folder: Path) -> tuple[float, float]:
    """Peak resident memory (MB) and frames per second of one `animate_file` in a process of its own."""
    command = [sys.executable, __file__, "--weights", weights, "--child", str(driver), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak, speed = done.stdout.split()[-2:]
    return float(peak), float(speed)


def child(weights: str, driver: Path, folder: Path) -> None:
    """Animate, then print the peak memory in MB and the frames per second without the first fifth of the frames."""
    portrait = folder / "portrait.png"
    write_image(portrait, demo_portrait(), overwrite=True)
    moments: list[float] = []
    animate_file(
        Avatar.from_pretrained(weights),
        portrait,
        driver,
        folder / "result.mp4",
        overwrite=True,
        progress=lambda done, total: moments.append(time.perf_counter()),
    )
    import resource  # POSIX only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes on macOS, kilobytes on Linux
    settled = moments[len(moments) // 5 :]
    print(peak / unit, (len(settled) - 1) / (settled[-1] - settled[0]))


def show(title: str, parts: dict[str, float]) -> Table:
    """A table of the parts and their sum."""
    table = Table("part", "ms", title=title)
    table.columns[1].justify = "right"
    for name, value in parts.items():
        table.add_row(name, f"{value:.1f}")
    table.add_section()
    table.add_row("sum", f"{sum(parts.values()):.1f}")
    return table


def memory(weights: str, lengths: tuple[int, int], folder: Path, console: Console) -> list[float]:
    """Animate drivers of several lengths (seconds) and print a table. Returns the peak memories, MB."""
    table = Table("driver", "frames", "peak memory, MB", "frames a second", title="The whole program")
    peaks = []
    for seconds in lengths:
        driver = folder / f"{seconds}.mp4"
        count = write_driver(driver, seconds)
        peak, speed = animate_in_new_process(weights, driver, folder)
        peaks.append(peak)
        table.add_row(f"{seconds} s", str(count), f"{peak:.0f}", f"{speed:.1f}")
    console.print(table)
    return peaks


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="nano", help="shipped weights by name, or a .safetensors file")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, drivers of 2 s and 12 s")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    if threads:
        cv2.setNumThreads(threads)
    if arguments.child:
        child(arguments.weights, *arguments.child)
        return
    console = Console()
    console.print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, ", end="")
    console.print(f"torch {torch.__version__} with {torch.get_num_threads()} threads, weights {arguments.weights}")
    avatar, clock = Avatar.from_pretrained(arguments.weights), Clock()
    clock.watch(avatar.model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        console.print(show("Once per source", once_per_source(avatar, clock, 3 if arguments.quick else 9)))
        frames = per_frame(avatar, clock, 7 if arguments.quick else 23, folder / "frames.mp4")
        console.print(show("Per frame", frames))
        peaks = memory(arguments.weights, (2, 12) if arguments.quick else (10, 60), folder, console)
    ratio = peaks[1] / peaks[0]
    verdict = "within" if ratio <= LIMIT else "NOT within"
    console.print(f"Peak memory, long driver / short driver: {ratio:.3f}, {verdict} 10 %")
    if ratio > LIMIT:
        sys.exit(1)


if __name__ == "__main__":
    main()
