"""Benchmark of a training step of the base model: samples per second and peak memory for each setting, with ratios.

    python benchmarks/train_step.py                             # nano, every loss
    python benchmarks/train_step.py --config paper-512 --batch 2 --repeat 1 --settings bf16-mixed+checkpoint

A setting is a precision with any of +channels-last (memory layout of images), +compile (`torch.compile` of the heavy
parts) and +checkpoint (the 3D parts are recomputed in the backward pass). The default is every setting that this
machine can run.

Every setting runs in a fresh process, so that peak memories are independent. Batches are random pixels. Networks whose
weights are not available (VGG19, VGGFace, a trained gaze network) get random weights, which does not change their
speed. The adversarial losses are always on, whatever the config sets. Compare ratios, and only on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.models import vgg19

from megaportraits.config import GazeConfig, TrainBaseConfig, load_config
from megaportraits.data.batches import LabelledFrame, MattedImage, PairBatch
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES
from megaportraits.faces.outlines import FEATURES
from megaportraits.models.gaze import GazeNet
from megaportraits.models.storage import save_gaze
from megaportraits.nn.efficientnet import EfficientNetLite0
from megaportraits.nn.vgg import VGGFaceFeatures
from megaportraits.ops.geometry import rotation_from_6d
from megaportraits.training import perceptual
from megaportraits.training.base import BaseStage
from megaportraits.training.loop import TrainingJob
from megaportraits.training.strategy import lays_channels_last

OPTIONS = {"channels-last": "run.channels_last", "compile": "run.compile", "checkpoint": "run.checkpoint_3d"}
SETTINGS = tuple(p + o for p in ("32-true", "bf16-mixed") for o in ("", *(f"+{name}" for name in OPTIONS)))
NAMES = ("jawOpen", "eyeBlink_L", "eyeBlink_R")


def stand_ins(folder: Path) -> dict[str, Path]:
    """Write weights files with the real layout and random values."""
    files = {name: folder / name for name in ("vgg19", "vggface", "efficientnet_lite0", "gaze.safetensors")}
    torch.save(vgg19(weights=None).features.state_dict(prefix="features."), files["vgg19"])
    torch.save(VGGFaceFeatures().state_dict(), files["vggface"])
    torch.save(EfficientNetLite0().state_dict(), files["efficientnet_lite0"])
    save_gaze(files["gaze.safetensors"], GazeNet(GazeConfig()))
    return files


def random_batch(size: int, count: int) -> PairBatch:
    """A batch as `data.pairs` gives it, filled with noise."""

    def image() -> dict[str, Tensor]:
        return {
            "image": torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8),
            "matte": torch.full((count, 1, size, size), 255, dtype=torch.uint8),
        }

    def frame() -> LabelledFrame:
        near_frontal = torch.tensor([1.0, 0, 0, 0, 1, 0]) + 0.1 * torch.randn(count, 6)
        return LabelledFrame(
            **image(),
            rotation=rotation_from_6d(near_frontal),
            translation=torch.zeros(count, 2),
            scale=torch.ones(count),
            readout=torch.rand(count, len(NAMES) + 2),
            blendshapes=torch.rand(count, len(BLENDSHAPE_NAMES)),
            landmarks=torch.full((count, len(FEATURES), 2), torch.nan),
            coords=torch.rand(count, 64, 64, 4) - 0.5,
            valid=torch.ones(count, 64, 64, dtype=torch.bool),
        )

    numbers = torch.arange(count)
    return PairBatch(frame(), frame(), MattedImage(**image()), numbers, numbers, torch.zeros(count, dtype=torch.bool))


def measure(config: str, batch: int, repeat: int, name: str) -> dict[str, Any]:
    """Seconds per step (the fastest and the first), peak memory of this process (GB), and the last step's losses."""
    precision, *options = name.split("+")
    with tempfile.TemporaryDirectory() as folder:
        files = stand_ins(Path(folder))
        perceptual.weights.fetch = files.__getitem__  # type: ignore[assignment]
        overrides = [
            f"optim.batch_size={batch}",
            f"run.precision={precision}",
            *(f"{OPTIONS[option]}=true" for option in options),
            f"loss.gaze_network={files['gaze.safetensors']}",
            "loss.adversarial=1",
            "loss.feature_matching=40",
            "loss.contrastive_every=1",
        ]
        resolved = load_config(TrainBaseConfig, config, overrides)
        stage = BaseStage(resolved, NAMES)
    fabric = Fabric(accelerator="auto", devices=1, precision=precision)  # type: ignore[arg-type]
    job = TrainingJob.prepare(fabric, stage, resolved, None)
    data = random_batch(resolved.model.image_size, batch).to(fabric.device)
    seconds, losses = [], {}
    for _ in range(repeat):
        start = time.perf_counter()
        losses = job.advance(iter([data]), lambda _: [])
        seconds.append(time.perf_counter() - start)
    import resource  # POSIX only

    unit = 1e9 if sys.platform == "darwin" else 1e6  # bytes on macOS, kilobytes on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 1e9
    return {"seconds": min(seconds), "first": seconds[0], "gigabytes": peak, "losses": losses}


def here() -> list[str]:
    """The settings that this machine can run."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return [name for name in SETTINGS if "channels-last" not in name or lays_channels_last(device)]


def setting(text: str) -> str:
    """Check and return a setting from the command line."""
    precision, *options = text.split("+")
    if precision not in ("32-true", "bf16-mixed", "16-mixed") or set(options) - set(OPTIONS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a precision with any of {', '.join(OPTIONS)}")
    return text


def main() -> None:
    """Measure every setting in its own process and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="nano")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3, help="number of steps; the fastest is reported")
    parser.add_argument("--settings", nargs="+", default=here(), type=setting)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        print(json.dumps(measure(chosen.config, chosen.batch, chosen.repeat, chosen.settings[0])))
        return
    columns = ("setting", "samples/s", "ratio", "peak GB", "ratio", "first step, s")
    table = Table(*columns, title=f"{chosen.config}, batch {chosen.batch}")
    first: dict[str, Any] = {}
    for name in chosen.settings:
        same = ["--config", chosen.config, "--batch", str(chosen.batch), "--repeat", str(chosen.repeat)]
        command = [sys.executable, __file__, *same, "--settings", name, "--inside"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        result = json.loads(done.stdout.splitlines()[-1])
        first = first or result
        speed, memory = first["seconds"] / result["seconds"], result["gigabytes"] / first["gigabytes"]
        speeds = f"{chosen.batch / result['seconds']:.3f}", f"{speed:.2f}"
        table.add_row(name, *speeds, f"{result['gigabytes']:.2f}", f"{memory:.2f}", f"{result['first']:.1f}")
        Console(stderr=True).print(name, {k: round(v, 4) for k, v in result["losses"].items()})
    Console().print(table)


if __name__ == "__main__":
    main()
