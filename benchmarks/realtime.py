"""Benchmark of live rendering: frames per second of every model, runtime and precision, including the whole loop.

    python benchmarks/realtime.py                                  # the shipped base model
    python benchmarks/realtime.py --student nano                   # and a student
    python benchmarks/realtime.py --quick                          # fewer frames

For one frame, the script decodes the driver's video, tracks and crops the head, runs the network, and composites the
result over its background, one step after the other (`megaportraits live` uses three threads). Decoding, tracking and
compositing are the same for all variants and are listed once. Every variant is measured in blocks of its own, because
thread pools that take turns disturb each other. The blocks are repeated, and the median over the rounds is shown.
Ratios to the base model in torch float32 are comparable between machines; milliseconds are not. torch.compile is tried
only for networks that compile within about a minute. Variants that a runtime cannot run are listed with the reason.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import torch
from rich.console import Console
from rich.table import Table

from megaportraits.errors import MegaPortraitsError
from megaportraits.export.base import BaseExport, export_base
from megaportraits.export.student import StudentExport, export_student
from megaportraits.export.tensors import flatten
from megaportraits.faces import FaceAnalyzer
from megaportraits.live.backgrounds import flat, photo
from megaportraits.live.engines import GraphBase, GraphStudent, Setting, TorchBase, TorchStudent
from megaportraits.media import VideoReader
from megaportraits.models.storage import find_student
from megaportraits.ops.geometry import HeadPose
from megaportraits.ops.precision import fast_in_bfloat16
from megaportraits.pipeline import Avatar, Portrait, Rendering
from megaportraits.pipeline.demo import demo_driver, demo_portrait
from megaportraits.pipeline.driver import DriverFrame, HeadFollower
from megaportraits.pipeline.protocols import Renderer
from megaportraits.runtimes import available_runtimes

SIZE = 256
"""Side of the head crop shown, pixels."""
REFERENCE = "base, torch float32"


@dataclass
class Way:
    """A variant: a model in one runtime and precision.

    Attributes:
        name: name in the table.
        build: builds the engine; raises an error if it is not available.
        rounds: milliseconds per frame, the median of each round.
        problem: why the engine is not available.
    """

    name: str
    build: Callable[[], Renderer]
    rounds: list[float] = field(default_factory=list)
    problem: str = ""


class Compiled:
    """A torch engine whose networks are compiled by torch.compile."""

    def __init__(self, engine: TorchStudent) -> None:
        self.size, self._engine = engine.size, engine
        engine.student.render = torch.compile(engine.student.render)

    def draw(self, head, pose: HeadPose, blendshapes) -> Rendering:
        return self._engine.draw(head, pose, blendshapes)


def torch_precisions() -> list[str]:
    """The precisions for which torch has fast instructions on this processor."""
    return ["float32", *(["bfloat16"] if fast_in_bfloat16(torch.device("cpu")) else [])]


def base_ways(avatar: Avatar, weights: str, portrait: Portrait, folder: Path, threads: int) -> list[Way]:
    """Variants of the base model: every runtime, and with its enhancer if there is one."""
    ways = []
    for precision in torch_precisions():
        setting = Setting("torch", precision, threads)
        ways.append(Way(f"base, torch {precision}", lambda s=setting: TorchBase(avatar, portrait, s)))

    def enhanced() -> Renderer:
        finer = Avatar.from_pretrained(weights, device="cpu", enhancer=weights, precision="float32")
        return TorchBase(finer, finer.encode(demo_portrait()), Setting("torch", "float32", threads))

    ways.append(Way("base + enhancer, torch float32", enhanced))
    tensors = {name: tensor.numpy() for name, tensor in flatten(portrait.identity).items()}
    for file, setting in graph_settings(folder, "drive", threads):
        ways.append(Way(f"base, {label(setting)}", lambda f=file, s=setting: GraphBase(f, tensors, portrait.fine, s)))
    return ways


def student_ways(weights: Path, folder: Path, threads: int) -> list[Way]:
    """Variants of a student: every runtime."""
    ways = []
    for precision in torch_precisions():
        setting = Setting("torch", precision, threads)
        ways.append(Way(f"student, torch {precision}", lambda s=setting: TorchStudent(weights, None, s)))
        ways.append(
            Way(f"student, torch {precision} compiled", lambda s=setting: Compiled(TorchStudent(weights, None, s)))
        )
    for file, setting in graph_settings(folder, "student", threads):
        ways.append(Way(f"student, {label(setting)}", lambda f=file, s=setting: GraphStudent(f, None, s)))
    return ways


def graph_settings(folder: Path, stem: str, threads: int) -> list[tuple[Path, Setting]]:
    """Graph files and settings for every installed runtime and each of its precisions."""
    found = []
    for runtime in available_runtimes():
        for precision in ("float32", "bfloat16", "int8"):
            if precision == "bfloat16" and runtime == "onnxruntime":
                continue
            file = folder / (f"{stem}-int8.onnx" if precision == "int8" else f"{stem}.onnx")
            found.append((file, Setting(runtime, precision, threads)))
    return found


def label(setting: Setting) -> str:
    """The name of a setting, without its number of threads."""
    return f"{setting.runtime} {setting.precision}"


def measure(ways: list[Way], views: dict[int, list[DriverFrame]], frames: int, rounds: int, console: Console) -> None:
    """Fill in every variant's `rounds`, with one block per variant and round."""
    for turn in range(rounds):
        for way in ways:
            if way.problem:
                continue
            try:
                engine = way.build()
                block(engine, views, 2)  # warm up, compile
                way.rounds.append(block(engine, views, frames))
            except (MegaPortraitsError, RuntimeError, ImportError) as error:
                way.problem = str(error).strip().splitlines()[0][:70]
            console.print(f"round {turn + 1}: {way.name} {way.problem or f'{way.rounds[-1]:.1f} ms'}", style="dim")


def block(engine: Renderer, views: dict[int, list[DriverFrame]], frames: int) -> float:
    """Median milliseconds of one `draw`."""
    if engine.size not in views:
        views[engine.size] = followed(engine.size)
    times = []
    for index in range(frames):
        head = views[engine.size][index % len(views[engine.size])].head
        assert head is not None
        pose = head.pose.to_crop_pose(head.crop)
        start = time.perf_counter()
        engine.draw(head.image, pose, head.face.blendshapes)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def followed(size: int, count: int = 12) -> list[DriverFrame]:
    """Frames of the demo's driver with the tracked head."""
    follower = HeadFollower(FaceAnalyzer(), size)
    frames = (frame for frame, _ in zip(VideoReader(demo_driver()), range(count), strict=False))
    return [view for view in map(follower.look, frames) if view.head is not None]


def around(portrait: Portrait, avatar: Avatar, frames: int) -> dict[str, float]:
    """Median milliseconds per frame of each part outside the network."""
    video, follower = iter(VideoReader(demo_driver())), HeadFollower(FaceAnalyzer(), avatar.size)
    on_photo, on_color = photo(portrait, avatar.matting, SIZE, whole=False), flat((0, 177, 64), SIZE)
    times: dict[str, list[float]] = {"decode": [], "follow and crop": [], "onto the photo": [], "onto a colour": []}
    rendering: Rendering | None = None
    for _ in range(frames + 2):
        start = time.perf_counter()
        frame = next(video)
        decoded = time.perf_counter()
        view = follower.look(frame)
        looked = time.perf_counter()
        assert view.head is not None
        rendering = rendering or avatar.drive(portrait, view.head.image)
        begun = time.perf_counter()
        on_photo(rendering, view)
        composed = time.perf_counter()
        on_color(rendering, view)
        parts = (decoded - start, looked - decoded, composed - begun, time.perf_counter() - composed)
        for name, seconds in zip(times, parts, strict=True):
            times[name].append(seconds * 1e3)
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def show(console: Console, beside: dict[str, float], ways: list[Way]) -> None:
    """Print both tables."""
    parts = Table("beside the network", "ms")
    for name, value in beside.items():
        parts.add_row(name, f"{value:.1f}")
    console.print(parts)
    common = beside["decode"] + beside["follow and crop"]
    reference = next(statistics.median(way.rounds) for way in ways if way.name == REFERENCE and way.rounds)
    table = Table("network", "ms", "as fast as the base in torch", "whole loop, frames/s")
    for way in ways:
        if way.problem:
            table.add_row(way.name, "-", way.problem, "")
            continue
        network = statistics.median(way.rounds)
        compose = beside["onto a colour" if way.name.startswith("student") else "onto the photo"]
        table.add_row(
            way.name, f"{network:.1f}", f"x {reference / network:.2f}", f"{1e3 / (common + network + compose):.1f}"
        )
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="nano", help="base model: shipped weights by name, or a file")
    parser.add_argument("--student", help="a student: nano, or a .safetensors file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=24, help="frames of a block")
    parser.add_argument("--quick", action="store_true", help="two rounds of six frames")
    arguments = parser.parse_args()
    rounds, frames = (2, 6) if arguments.quick else (arguments.rounds, arguments.frames)
    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or torch.get_num_threads()
    cv2.setNumThreads(threads)
    console = Console()
    console.print(f"{os.cpu_count()} cores, {threads} threads, torch {torch.__version__}")
    avatar = Avatar.from_pretrained(arguments.weights, device="cpu", precision="float32")  # as `live`
    portrait = avatar.encode(demo_portrait())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        precisions = ("float32", "int8")
        export_base(arguments.weights, folder, BaseExport(precisions=precisions, pose="landmarks", frames=6))
        ways = base_ways(avatar, arguments.weights, portrait, folder, threads)
        if arguments.student is not None:
            student = find_student(arguments.student)
            export_student(student, folder, StudentExport(precisions=precisions, frames=6))
            ways += student_ways(student, folder, threads)
        beside = around(portrait, avatar, frames)
        measure(ways, {}, frames, rounds, console)
    show(console, beside, ways)


if __name__ == "__main__":
    main()
