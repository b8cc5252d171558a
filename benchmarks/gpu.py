"""Benchmark of the paper's models on a CUDA machine in at most eight minutes: training, frames per second, utilisation.

    python benchmarks/gpu.py --out gpu                          # everything, stops after 480 s
    python benchmarks/gpu.py --out gpu --parts peak student     # some parts
    python benchmarks/gpu.py --out gpu --device cpu --tiny      # only test that the script runs

Every part runs in its own process with a time limit. A part that fails, hangs or runs out of memory is reported, and
the others continue. Parts for which no time is left are listed as skipped. `gpu.json` (all measurements) and `gpu.md`
(the table) are rewritten after each part.

Networks have the paper's sizes and random weights, which does not change their speed. Training is `paper-512` with
every loss, run by `train_step.py` (with the same stand-ins for VGG19, VGGFace and the gaze network); batches that do
not fit into memory are halved. Frames are float16: `base` is E_mtn, W_->d, P and G_2D of one driver frame, `enhanced`
adds G_enh, `student` is the whole student; the source is encoded once, before the measurement. Utilisation is the
model's number of operations (counted by `torch.utils.flop_counter`, two per multiply-add) per second, divided by the
largest rate that this machine reaches in a matrix product of the same precision.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.tiny import TINY_BASE, TINY_ENHANCER, TINY_STUDENT

LIMIT_S = 480.0
PAPER_FPS = 130
"""The paper's student on an RTX 3090 in float16 (4.5)."""
_LEAST_S = 15.0
"""If less time is left, seconds, no further part is started."""
_MATRIX, _TINY_MATRIX = 8192, 256
_BATCH = 16
"""Batch size of the paper's training at 512 px (4.1), tried first."""
Result = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One measurement.

    Attributes:
        name: name on the command line and in the results.
        limit_s: time limit, seconds.
        measure: the measurement; takes the device and whether sizes are tiny.
    """

    name: str
    limit_s: float
    measure: Callable[[torch.device, bool], Result]


@dataclass
class Results:
    """The results so far, and their files.

    Attributes:
        out: folder of gpu.json and gpu.md.
        machine: description of the machine.
        parts: by name: `status` (ok, failed, timeout or skipped), `seconds`, and the part's results or the `reason`.
    """

    out: Path
    machine: Result
    parts: dict[str, Result] = field(default_factory=dict)

    def write(self) -> None:
        """Write both files completely."""
        content = json.dumps({"format": 1, "machine": self.machine, "parts": self.parts}, indent=1) + "\n"
        for name, text in (("gpu.json", content), ("gpu.md", self.to_markdown())):
            part = self.out / f".{name}.part"
            part.write_text(text, encoding="utf-8")
            part.replace(self.out / name)

    def to_markdown(self) -> str:
        """The table, and the list of failures."""
        peak = self.parts.get("peak", {})
        lines = [f"# {self.machine['device']}", ""]
        lines += [f"- {name}: {value}" for name, value in self.machine.items() if name != "device"]
        lines += [f"- largest rate in {kind}: {rate:.1f} TFLOP/s" for kind, rate in peak.get("tflops", {}).items()]
        lines += ["", "| part | result | utilisation | memory, GB | notes |", "|---|---:|---:|---:|---|"]
        for name, found in self.parts.items():
            for row in _rows(name, found, peak, self.parts.get("flops", {})):
                lines.append("| " + " | ".join(row) + " |")
        return "\n".join(lines) + "\n"


def _rows(name: str, found: Result, peak: Result, flops: Result) -> list[list[str]]:
    """The rows of a part in the table."""
    if found["status"] != "ok":
        return [[name, found["status"], "", "", found["reason"].replace("|", "/").splitlines()[-1][:160]]]
    if name.startswith("train"):
        rate = found["samples_per_s"]
        share = _share(flops.get("per_sample"), rate, peak, "bfloat16")
        first = f"batch {found['batch']}; first step {found['first_s']:.1f} s"
        return [[name, f"{rate:.2f} samples/s", share, f"{found['gigabytes']:.1f}", first]]
    if "ways" in found:
        rows = []
        for way in found["ways"]:
            label, precision = f"{name}, {way['way']}, batch {way['batch']}", found["precision"]
            if "reason" in way:
                rows.append([label, "failed", "", "", way["reason"][:160]])
                continue
            share = _share(found.get("flops"), way["fps"], peak, precision)
            note = f"{1000 * way['batch'] / way['fps']:.1f} ms a batch, {precision}"
            note += f"; the paper: {PAPER_FPS} on an RTX 3090" if name == "student" else ""
            rows.append([label, f"{way['fps']:.1f} frames/s", share, f"{way['gigabytes']:.1f}", note])
        return rows
    if name == "flops":
        return [[name, f"{found['per_sample'] / 1e12:.2f} TFLOP a training sample", "", "", ""]]
    return []


def _share(flops: float | None, rate: float, peak: Result, precision: str) -> str:
    largest = peak.get("tflops", {}).get(precision)
    return f"{100 * flops * rate / (largest * 1e12):.1f} %" if flops and largest else ""


def measure_peak(device: torch.device, tiny: bool) -> Result:
    """The largest rate of square matrix products for each precision, TFLOP/s."""
    side = _TINY_MATRIX if tiny else _MATRIX
    kinds = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
    if device.type == "cpu":
        kinds = {"float32": torch.float32}
    rates = {}
    for name, kind in kinds.items():
        a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
        seconds = _timed(lambda a=a, b=b: a @ b, device, least_s=0.02 if tiny else 1.0)
        rates[name] = 2 * side**3 / min(seconds) / 1e12
    return {"tflops": rates, "side": side}


def measure_flops(device: torch.device, tiny: bool) -> Result:
    """Operations per training sample of paper-512: forward and backward, with every loss and the discriminator."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        _train_step(device, tiny, "32-true" if device.type == "cpu" else "bf16-mixed", batch=2)
    return {"per_sample": counter.get_total_flops() / 2}


def measure_training(device: torch.device, tiny: bool, *, options: str) -> Result:
    """Samples per second and peak memory of training steps; the batch is halved until it fits into memory."""
    precision = "32-true" if device.type == "cpu" else "bf16-mixed"
    batch = 2 if tiny else _BATCH
    while True:
        try:
            found = _train_step(device, tiny, precision + options, batch=batch, repeat=2 if tiny else 6)
        except torch.OutOfMemoryError:
            if batch <= 2:  # L_cos needs two people
                raise
        else:
            return {
                "samples_per_s": batch / found["seconds"],
                "first_s": found["first"],
                "gigabytes": found["gigabytes"],
                "batch": batch,
                "precision": precision,
            }
        batch //= 2  # outside the handler, because the exception keeps the failed step's tensors alive
        gc.collect()
        torch.cuda.empty_cache()


def _train_step(device: torch.device, tiny: bool, setting: str, *, batch: int, repeat: int = 1) -> Result:
    sys.path.insert(0, str(Path(__file__).parent))
    import train_step

    torch.backends.cuda.matmul.allow_tf32 = True
    if not tiny:
        return dict(train_step.measure("paper-512", batch, repeat, setting))
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "tiny.yaml"
        config.write_text(json.dumps(_TINY_TRAINING), encoding="utf-8")  # JSON is YAML
        return dict(train_step.measure(str(config), batch, repeat, setting))


def measure_base(device: torch.device, tiny: bool) -> Result:
    """Driver frames per second of the base model."""
    from megaportraits.models.base import BaseModel

    model = _ready(BaseModel(_base_config(tiny)), device)
    person = _person(model, device)
    driver = torch.rand(1, 3, model.config.image_size, model.config.image_size, device=device)

    def frame(driver: Tensor) -> Tensor:
        return model.drive(person[torch.zeros(len(driver), dtype=torch.long, device=device)], driver).image

    return _frames(frame, driver, device, tiny)


def measure_enhanced(device: torch.device, tiny: bool) -> Result:
    """Driver frames per second of the base model with its enhancer."""
    from megaportraits.models.base import BaseModel
    from megaportraits.models.enhancer import Enhancer, picture_of

    model = _ready(BaseModel(_base_config(tiny)), device)
    enhancer = _ready(Enhancer(_enhancer_config(tiny)), device)
    person = _person(model, device)
    driver = torch.rand(1, 3, model.config.image_size, model.config.image_size, device=device)

    def frame(driver: Tensor) -> Tensor:
        people = person[torch.zeros(len(driver), dtype=torch.long, device=device)]
        return enhancer(picture_of(model.drive(people, driver)))

    return _frames(frame, driver, device, tiny)


def measure_student(device: torch.device, tiny: bool) -> Result:
    """Driver frames per second of the student."""
    from megaportraits.models.student import Student

    student = _ready(Student(_student_config(tiny), ["a"]), device)
    precision = next(student.parameters()).dtype
    with torch.inference_mode():
        avatar = student.identity(torch.zeros(1, dtype=torch.long, device=device))
    size = student.config.input_size
    driver = torch.rand(1, 3, size, size, device=device, dtype=precision)
    return _frames(lambda driver: student.render(driver, avatar).image, driver, device, tiny, autocast=False)


def _frames(
    frame: Callable[[Tensor], Tensor], driver: Tensor, device: torch.device, tiny: bool, *, autocast: bool = True
) -> Result:
    """Frames per second in eager mode and compiled, with single frames and batches; and operations per frame.

    A combination that fails is recorded with its reason, and the others continue.
    """
    from torch.utils.flop_counter import FlopCounterMode

    precision = torch.float32 if device.type == "cpu" else torch.float16
    cast = torch.autocast("cuda", torch.float16) if autocast and device.type == "cuda" else nullcontext()
    ways: list[Result] = []
    with torch.inference_mode(), cast:
        with FlopCounterMode(display=False) as counter:
            frame(driver)
        compiled = None if tiny else torch.compile(frame, mode="reduce-overhead")
        for way, draw in (("eager", frame), ("compiled", compiled)):
            for batch in (1, 2 if tiny else 8):
                if draw is None:
                    continue
                drivers = driver.repeat(batch, 1, 1, 1)
                found: Result = {"way": way, "batch": batch}
                try:
                    _forget_peak(device)
                    seconds = _timed(lambda d=draw, x=drivers: d(x), device, least_s=0.05 if tiny else 3.0)
                    found |= {"fps": batch / statistics.median(seconds), "gigabytes": _peak_gigabytes(device)}
                except Exception as error:  # compilers raise errors of many types
                    found["reason"] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
                ways.append(found)
    return {"ways": ways, "flops": counter.get_total_flops(), "precision": str(precision).removeprefix("torch.")}


def _ready(model: nn.Module, device: torch.device) -> Any:
    """Prepare a model for inference: fold weight standardisation and move it to the device, in float16 on a GPU."""
    from megaportraits.nn.blocks import fold_weight_standardization

    model = model.eval().requires_grad_(False)
    fold_weight_standardization(model)
    return model.to(device).half() if device.type == "cuda" else model.to(device)


def _person(model: Any, device: torch.device) -> Any:
    size = model.config.image_size
    cast = torch.autocast("cuda", torch.float16) if device.type == "cuda" else nullcontext()
    with torch.inference_mode(), cast:
        return model.encode(torch.rand(1, 3, size, size, device=device))


def _timed(job: Callable[[], object], device: torch.device, *, least_s: float) -> list[float]:
    """Seconds of each run, repeated for at least `least_s` seconds after three warm-up runs."""
    for _ in range(3):
        job()
    _synchronize(device)
    seconds: list[float] = []
    while sum(seconds) < least_s or len(seconds) < 3:
        began = time.perf_counter()
        job()
        _synchronize(device)
        seconds.append(time.perf_counter() - began)
    return seconds


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_gigabytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _base_config(tiny: bool) -> Any:
    from megaportraits.config import ModelConfig, TrainBaseConfig, load_config, parse_config

    return parse_config(ModelConfig, TINY_BASE, "tiny") if tiny else load_config(TrainBaseConfig, "paper-512").model


def _enhancer_config(tiny: bool) -> Any:
    from megaportraits.config import EnhancerConfig, TrainEnhancerConfig, load_config, parse_config

    if tiny:
        return parse_config(EnhancerConfig, TINY_ENHANCER, "tiny")
    return load_config(TrainEnhancerConfig, "paper-hr").model


def _student_config(tiny: bool) -> Any:
    from megaportraits.config import StudentConfig, TrainStudentConfig, load_config, parse_config

    if tiny:
        return parse_config(StudentConfig, TINY_STUDENT, "tiny")
    return load_config(TrainStudentConfig, "student").model


_TINY_TRAINING = {
    "extends": "paper-256",
    "model": TINY_BASE,
    "discriminator": {"widths": [4, 6], "strides": [2, 2], "scales": 2},
    "loss": {"perceptual_scales": 2},
    "run": {"precision": "32-true"},
}

PARTS = (
    Part("peak", 40, measure_peak),
    Part("student", 110, measure_student),
    Part("base", 110, measure_base),
    Part("enhanced", 130, measure_enhanced),
    Part("flops", 60, measure_flops),
    Part("train", 90, lambda device, tiny: measure_training(device, tiny, options="+checkpoint")),
    Part("train-compiled", 180, lambda device, tiny: measure_training(device, tiny, options="+checkpoint+compile")),
)


def run_part(command: Sequence[str], limit_s: float) -> Result:
    """Run a part in its own process. Its last line of output is the result. Its child processes end with it."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        told, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        found: Result = {"status": "timeout", "reason": f"did not end within {limit_s:.0f} s"}
    else:
        found = _result(process.returncode, told, errors)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return {**found, "seconds": round(time.monotonic() - began, 1)}


def _result(code: int, told: str, errors: str) -> Result:
    if code != 0:
        lines = errors.strip().splitlines() or [f"exit status {code}"]
        return {"status": "failed", "reason": lines[-1] if code > 0 else f"ended by signal {-code}; {lines[-1]}"}
    try:
        return {"status": "ok", **json.loads(told.splitlines()[-1])}
    except (ValueError, IndexError):
        return {"status": "failed", "reason": "gave no result"}


def run(
    results: Results,
    parts: Sequence[Part],
    command: Callable[[Part], Sequence[str]],
    limit_s: float,
    tell: Callable[[str], None],
) -> None:
    """Measure the parts one after the other until all are done or the time is used up."""
    deadline = time.monotonic() + limit_s
    results.write()
    for part in parts:
        left = deadline - time.monotonic()
        if left < _LEAST_S:
            results.parts[part.name] = {"status": "skipped", "reason": "no time was left", "seconds": 0.0}
        else:
            tell(f"{part.name}: at most {min(part.limit_s, left):.0f} s")
            results.parts[part.name] = run_part(command(part), min(part.limit_s, left))
        tell(f"{part.name}: {results.parts[part.name]['status']}")
        results.write()


def describe(device: torch.device) -> Result:
    """A description of the machine."""
    found: Result = {"device": platform.processor() or platform.machine(), "torch": torch.__version__}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"device": properties.name, "memory": f"{properties.total_memory / 1e9:.0f} GB"}
        found["cuda"] = str(torch.version.cuda)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.name for part in PARTS]
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md; both are replaced")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="time limit for all parts, seconds")
    parser.add_argument("--parts", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to test the script")
    parser.add_argument("--inside", choices=names, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    device = torch.device(chosen.device)
    by_name = {part.name: part for part in PARTS}
    if chosen.inside:
        print(json.dumps(by_name[chosen.inside].measure(device, chosen.tiny)))
        return
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no CUDA device; --device cpu --tiny tries the script")
    chosen.out.mkdir(parents=True, exist_ok=True)
    same = ["--out", str(chosen.out), "--device", chosen.device, *(["--tiny"] if chosen.tiny else [])]
    results = Results(chosen.out, describe(device))
    console = Console()
    run(
        results,
        [by_name[name] for name in names if name in chosen.parts],
        lambda part: [sys.executable, __file__, *same, "--inside", part.name],
        chosen.limit,
        lambda text: console.print(text, highlight=False),
    )
    console.print(Markdown(results.to_markdown()))


if __name__ == "__main__":
    main()
