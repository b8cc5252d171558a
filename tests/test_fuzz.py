"""Damaged files of every kind that the program reads: a message of ours or success, never another exception or a hang.

Everything is drawn from fixed seeds and bounded by counts. A failure names the kind and the number of the damaged file;
`damaged(KIND, number)` makes its bytes again.
"""

from __future__ import annotations

import faulthandler
import io
import itertools
import json
import signal
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from megaportraits.batch.jobs import Job, read_list
from megaportraits.batch.records import Records, stamp
from megaportraits.config import (
    EnhancerConfig,
    ModelConfig,
    StudentConfig,
    TrainBaseConfig,
    load_config,
    parse_config,
)
from megaportraits.data.clips import ClipIndex, readable
from megaportraits.data.distillation import DistillationIndex, DistillationSample, shard_path, write_shard
from megaportraits.data.gaze_labels import read_gaze_labels
from megaportraits.data.pairs import PairDataset
from megaportraits.errors import DataError, MegaPortraitsError
from megaportraits.evaluation.pairs import Pair, read_manifest, write_manifest
from megaportraits.evaluation.store import ResultStore, SampleNote
from megaportraits.evaluation.study.plan import Question, Study, StudySettings, Triplet
from megaportraits.export.page import find_scripts
from megaportraits.live.engines import GraphEncoder
from megaportraits.live.tuning import remembered
from megaportraits.media import VideoReader, VideoWriter, is_video, read_image
from megaportraits.models.base import BaseModel
from megaportraits.models.enhancer import Enhancer
from megaportraits.models.storage import load_base, load_enhancer, load_student, save_base, save_enhancer, save_student
from megaportraits.models.student import Student
from megaportraits.ops.geometry import HeadPose
from megaportraits.pipeline.options import AnimateOptions
from megaportraits.prepare.items import SourceItem
from megaportraits.prepare.measures import THUMBNAIL
from megaportraits.prepare.run import prepare
from megaportraits.prepare.settings import ExtractSettings, Thresholds
from megaportraits.prepare.sources import find_items
from megaportraits.prepare.store import stored_settings
from megaportraits.runtimes import GraphInfo
from megaportraits.synth import folder as synth_folder
from megaportraits.synth.head import MorphableHead
from megaportraits.synth.plan import SynthSettings
from megaportraits.training import checkpoint
from megaportraits.training.run import TrainingRun
from tests.conftest import TINY, TINY_STUDENT, write_clips
from tests.fuzz.mutate import Mutate, in_archive, in_bytes, in_lines, in_values, in_weights
from tests.media.test_video import make_driver, picture
from tests.models.test_enhancer import TINY_HR

SEED = 20
SECONDS = 10
"""Of processor time, which no load on the machine lengthens, that one damaged file may take."""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        file: its place in a folder.
        read: what the program does with it, by its path.
        ways: how it is damaged, in turn.
        count: so many damaged files are tried.
        sound: whether the undamaged one is read without an error.
        beside: other files of the folder, as they should be.
    """

    file: str
    read: Callable[[Path], Any]
    ways: tuple[Mutate, ...] = (in_bytes,)
    count: int = 30
    sound: bool = True
    beside: dict[str, bytes] = field(default_factory=dict)


class TooLongError(BaseException):
    """Not an Exception, so that nothing on the way takes it for one of its own."""


@contextmanager
def guarded() -> Iterator[None]:
    """End what takes more than `SECONDS` of processor time, and by force what does not end at all."""

    def stop(*_: Any) -> None:
        raise TooLongError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    faulthandler.dump_traceback_later(900, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def watch(path: Path) -> None:
    """A source or driver: what it is, its pictures, its sound into another file."""
    if not is_video(path):
        read_image(path)
        return
    with VideoReader(path) as reader:
        for _ in itertools.islice(reader, 6):
            pass
        sound = path if reader.info.has_audio else None
    with VideoWriter(path.with_name("out.mp4"), fps=25, audio_from=sound, overwrite=True) as writer:
        for number in range(2):
            writer.write(picture(number))


def read_shards(folder: Path) -> None:
    index = ClipIndex(folder, skip_unreadable=True)
    for clip, record in readable(index.record, range(len(index))):
        try:
            index.read_frame(clip, len(record.frames) - 1)
        except DataError:
            continue
    pairs = PairDataset(folder, length=4, size=32, cross_identity=0.5, expressive=0.5, expression_names=None)
    for k in range(4):
        _ = pairs[k]


def read_distillation_samples(folder: Path) -> None:
    index = DistillationIndex(folder)
    for number in range(len(index)):
        index.read(number)


def read_prepared(folder: Path) -> None:
    prepare([], folder, stored_settings(folder), Thresholds(drop_iqa=0), dry_run=True)


SYNTH = SynthSettings(portraits=None, head=Path("head.npz"), clips=8, lifted_share=0)


def read_synthesized(folder: Path) -> None:
    with synth_folder.claimed(SYNTH, folder):
        synth_folder.missing_shards(SYNTH, folder)
        synth_folder.sum_counts(SYNTH, folder)


@cache
def judged(folder: Path) -> tuple[ResultStore, Pair]:
    networks: Any = SimpleNamespace(settings={"frechet": "f"})
    return ResultStore(folder, networks), Pair("a", "self", folder / "a.mp4", 0, folder / "a.mp4")


JOB = Job(Path("a.png"), (Path("a.mp4"),), PurePath("b.mp4"), AnimateOptions())


def read_record(out: Path) -> None:
    records = Records(out)
    records.owned(JOB)
    records.state(JOB, {"source": out / "a.png"}, {"yaw": 0.0})


def batch_record() -> tuple[str, bytes]:
    """Place and content of the record of `JOB`, whose result is another kind's file."""
    with TemporaryDirectory() as name:
        out = Path(name)
        for part in ("a.png", "b.mp4"):
            (out / part).write_bytes(part.encode())
        Records(out).write(JOB, {"source": stamp(out / "a.png")}, {"yaw": 0.0}, {"output": out / "b.mp4"})
        (path,) = (path for path in out.rglob("*.json"))
        return path.relative_to(out).as_posix(), path.read_bytes()


RECORD, RECORDED = batch_record()


def in_graph(content: bytes, rng: np.random.Generator) -> bytes:
    """An ONNX file whose description of itself is damaged."""
    proto = onnx.load_from_string(content)
    entry = proto.metadata_props[int(rng.integers(len(proto.metadata_props)))]
    how = in_values if entry.value[:1] == "{" and rng.random() < 0.7 else in_bytes
    entry.value = how(entry.value.encode(), rng).decode("utf-8", "replace")
    return bytes(proto.SerializeToString())


RESULT = dict.fromkeys(("crop_px", "inside", "presence", "sharpness", "iqa", "iris_ratio", "same_person"), 1.0)
RESULT |= dict.fromkeys(("start", "seconds", "expression_range", "jaw_open", "yaw", "pitch", "roll"), 0.5)
RESULT |= dict.fromkeys(("yaw_range", "pitch_range", "roll_range"), 0.1)
CLIP = {**RESULT, "frames": 4, "size": 64, "people": 1, "embedding": [0.1] * 128, "thumbnails": "7f" * 3 * THUMBNAIL**2}
ITEMS = [SourceItem("/v/one.mp4"), SourceItem("/v/two.png", identity="two", age=30.0, box=(0.1, 0.2, 0.8, 0.9))]


def prepared() -> dict[str, bytes]:
    """A folder of `prepare` in which both items are done."""
    files = {
        "prepare.json": json.dumps(ExtractSettings().identity()).encode(),
        "items.jsonl": "".join(json.dumps(asdict(item)) + "\n" for item in ITEMS).encode(),
    }
    for item, kind in zip(ITEMS, ("video", "still"), strict=True):
        about = {
            "key": item.key,
            "name": item.name,
            "error": None,
            "kind": kind,
            "width": 64,
            "height": 64,
            "fps": 25.0,
        }
        clips = [{**CLIP, "key": f"{item.key}-00"}]
        files[f"store/{item.key[-2:]}/{item.key}.json"] = json.dumps(
            {**about, "bitrate": 900.0, "clips": clips}
        ).encode()
    return files


PREPARED = prepared()
NOTE = next(name for name in PREPARED if name.startswith("store"))
SYNTHESIZED = {
    "synth.json": json.dumps(SYNTH.identity()).encode(),
    "counts/train-000000.json": b'{"clips": 8, "cg": 8}',
    "train/clips-000000.tar": b"",
}


@cache
def originals() -> dict[str, bytes]:
    """The undamaged file of every kind, by its name."""
    made = {**PREPARED, **SYNTHESIZED}
    with TemporaryDirectory() as name:
        folder = Path(name)
        still = Image.fromarray(picture())
        still.save(folder / "a.jpg", exif=_upright())
        for suffix in ("png", "webp", "bmp", "tiff"):
            still.save(folder / f"a.{suffix}")
        still.save(folder / "a.gif", save_all=True, append_images=[Image.fromarray(picture(5))], duration=40)
        make_driver(folder / "a.mp4", frames=8)
        make_driver(folder / "a.mkv", frames=8, codec="libopus", rate=48000)
        make_driver(folder / "a.avi", frames=8, codec="pcm_s16le")
        torch.manual_seed(0)
        save_base(folder / "base.safetensors", BaseModel(_tiny()))
        save_student(folder / "student.safetensors", Student(StudentConfig.model_validate(TINY_STUDENT), ["ada", "bo"]))
        save_enhancer(folder / "enhancer.safetensors", Enhancer(EnhancerConfig.model_validate(TINY_HR)))
        write_clips(folder)
        square, pose = np.zeros((16, 16, 3), np.uint8), HeadPose(np.eye(3), np.zeros(2), 1.0)
        four = np.zeros((16, 16, 4), np.uint8)
        samples = [
            DistillationSample(f"{n:08d}", "x", square, square[..., 0], pose, {0: four, 1: four}) for n in range(3)
        ]
        write_shard(shard_path(folder, 0), samples)
        network = {"stage": {"w": torch.arange(300.0)}, "average": {"w": torch.arange(300.0)}, "optimizers": {"a": {}}}
        checkpoint.save(folder, {"step": 1, **network}, keep=1)
        clip = folder / "a.mp4"
        write_manifest(folder / "pairs.csv", [Pair("a", "self", clip, 3, clip), Pair("b", "cross", clip, 0, clip)])
        _, pair = judged(folder)
        boxes, eyes = np.zeros((3, 2, 3), np.float32), (square, square)
        note = SampleNote(3, 0, 25.0, np.zeros((3, 10)), square, np.zeros((1, 4), np.float32), boxes, eyes)
        judged(folder)[0].save_note(pair, 32, note)
        made["samples/self/a.npz"] = (folder / "samples/self/a.npz").read_bytes()
        made |= {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    triplet = Triplet("motion", "cross/a", "good", "poor")
    study = Study(("good", "poor"), StudySettings(), (Question("q", triplet, "r.mp4", "l.mp4", "m.mp4"),))
    head = io.BytesIO()
    np.savez(head, neutral=np.zeros((5, 3)), expression_names=np.array(["a"]))
    setting = {"runtime": "torch", "device": "cpu", "precision": "float32", "threads": 1}
    return made | {
        "config.yaml": b"extends: nano\nrun: {seed: 3, precision: &p 32-true}\nmodel:\n  name: *p\n  groups: 2\n",
        "config.yml": json.dumps({"model": TINY, "optim": {"betas": [0.5, 0.9]}, "run": {"seed": 1}}).encode(),
        "labels.csv": b"key,frame,yaw,pitch,blink\nc1,0,3.5,-1,0.1\nc2,1,,,0.9\n",
        "labels.jsonl": b'{"key": "c1", "frame": 0, "gaze": [3.5, -1], "blink": 0.1}\n',
        "items.csv": b"path,identity,split,start,end,age,left,top,right,bottom\na.mp4,p,train,0,2,30,0.1,0.1,0.9,0.9\n",
        "ages.csv": b"name,age\na.png,30\nb.png,41.5\n",
        "celebvhq.json": json.dumps({"clips": {"a": {"ytb_id": "a", "duration": {}, "bbox": {}}}}).encode(),
        "stats.jsonl": b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n',
        "study.json": json.dumps({"format": 1, **asdict(study)}).encode(),
        "list.csv": b"source,driver,output,options,yaw\na.png,a.mp4,x/b.mp4,--motion relative,10\na.png,a.mp4,,,\n",
        RECORD: RECORDED,
        "tuning.json": json.dumps({"key": setting}).encode(),
        "encode.onnx": _graph(),
        "head.npz": head.getvalue(),
        "package.json": b'{"name": "onnxruntime-web", "version": "1.0.0"}',
    }


def _tiny() -> ModelConfig:
    return parse_config(ModelConfig, TINY, "tiny")


def _upright() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def _graph() -> bytes:
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ends[:1], ends[1:]), ir_version=8)
    model.opset_import[0].version = 17
    info = GraphInfo("base-encode", 32, avatars=("ada",), model=_tiny().model_dump_json())
    onnx.helper.set_model_props(model, info.to_metadata())
    return bytes(model.SerializeToString())


MEDIA = ("jpg", "png", "webp", "bmp", "tiff", "gif", "mp4", "mkv", "avi")
CLIPS = "clips-000000.tar"
KINDS: dict[str, Kind] = {
    **{f"media {suffix}": Kind(f"a.{suffix}", watch, count=24) for suffix in MEDIA},
    "base weights": Kind("base.safetensors", load_base, (in_bytes, in_weights), 40),
    "student weights": Kind("student.safetensors", load_student, (in_bytes, in_weights), 30),
    "enhancer weights": Kind("enhancer.safetensors", lambda p: load_enhancer(p, _tiny()), (in_bytes, in_weights), 30),
    "config": Kind("config.yaml", lambda p: load_config(TrainBaseConfig, p), count=60),
    "config values": Kind("config.yml", lambda p: load_config(TrainBaseConfig, p), (in_values,), 100),
    "shards": Kind(CLIPS, lambda p: read_shards(p.parent), (in_bytes, in_archive, in_archive), 33),
    "distillation": Kind(
        "distillation-000000.tar", lambda p: read_distillation_samples(p.parent), (in_bytes, in_archive), 60
    ),
    "checkpoint": Kind("step-00000001.pt", checkpoint.read, count=60),
    "manifest of pairs": Kind("pairs.csv", read_manifest, (in_bytes, in_lines), 60),
    "labels csv": Kind("labels.csv", read_gaze_labels, (in_bytes, in_lines), 60),
    "labels jsonl": Kind("labels.jsonl", read_gaze_labels, (in_bytes, in_values), 60),
    "list of jobs": Kind("list.csv", read_list, (in_bytes, in_lines), 60),
    "record of a job": Kind(
        RECORD,
        lambda p: read_record(p.parents[len(Path(RECORD).parts) - 1]),
        (in_bytes, in_values),
        60,
        beside={"a.png": b"a.png", "b.mp4": b"b.mp4"},
    ),
    "items": Kind("items.csv", lambda p: find_items([str(p)]), (in_bytes, in_lines), 60),
    "ages": Kind("ages.csv", lambda p: find_items([str(p.parent / "a.png")], ages=p), (in_bytes, in_lines), 60),
    "celebvhq": Kind(
        "celebvhq.json", lambda p: find_items([str(p.parent)], dataset="celebvhq"), (in_bytes, in_values), 60
    ),
    "prepare.json": Kind("prepare.json", lambda p: read_prepared(p.parent), (in_bytes, in_values), 60, beside=PREPARED),
    "items.jsonl": Kind("items.jsonl", lambda p: read_prepared(p.parent), (in_bytes,), 40, beside=PREPARED),
    "prepare's result": Kind(NOTE, lambda p: read_prepared(p.parents[2]), (in_bytes, in_values), 80, beside=PREPARED),
    "synth.json": Kind(
        "synth.json", lambda p: read_synthesized(p.parent), (in_bytes, in_values), 50, beside=SYNTHESIZED
    ),
    "synth's counts": Kind(
        "counts/train-000000.json",
        lambda p: read_synthesized(p.parents[1]),
        (in_bytes, in_values),
        50,
        beside=SYNTHESIZED,
    ),
    "statistics": Kind(
        "stats.jsonl", lambda p: TrainingRun(p.parent).start(load_config(TrainBaseConfig, "nano"), 1), count=20
    ),
    "study.json": Kind("study.json", lambda p: Study.read(p.parent), (in_bytes, in_values), 80),
    "tuning": Kind("tuning.json", lambda p: remembered(p, "key", []), (in_bytes, in_values), 40),
    "result of evaluate": Kind(
        "samples/self/a.npz", lambda p: judged(p.parents[2])[0].load_note(judged(p.parents[2])[1], 32), count=40
    ),
    "graph": Kind("encode.onnx", GraphEncoder, (in_bytes, in_graph, in_graph), 60),
    "head": Kind("head.npz", MorphableHead.load, count=30, sound=False),
    "package": Kind("package.json", lambda p: find_scripts(str(p.parent)), (in_bytes, in_values), 30, sound=False),
}
ALSO = {
    "pairs.csv": ("a.mp4",),
    "list.csv": ("a.mp4", "a.png"),
    "items.csv": ("a.mp4",),
    "ages.csv": ("a.png",),
    "celebvhq.json": ("a.mp4",),
}
"""Files that a kind names."""


def damaged(name: str, number: int) -> bytes:
    """Damaged file `number` of a kind."""
    kind = KINDS[name]
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode()), number])
    return kind.ways[number % len(kind.ways)](originals()[kind.file], rng)


def read(kind: Kind, folder: Path, content: bytes) -> bool:
    """Read a file of a kind with other content; whether it was read, or refused with an error of ours."""
    also = {name: originals()[name] for name in ALSO.get(kind.file, ())}
    for name, part in {**kind.beside, **also, kind.file: content}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(part)
    try:
        with guarded(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.read(folder / kind.file)
    except MegaPortraitsError as error:
        assert error.message and len(error.message) < 20_000
        return False
    return True


@pytest.mark.parametrize("name", KINDS)
def test_damage_is_survived_or_reported(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    assert read(kind, tmp_path, originals()[kind.file]) == kind.sound
    refused = 0
    for number in range(kind.count):
        try:
            refused += not read(kind, tmp_path, damaged(name, number))
        except BaseException as error:
            raise AssertionError(f"damaged({name!r}, {number}) ended in {type(error).__name__}: {error}") from error
    if name not in ("statistics", "tuning", "result of evaluate", "record of a job", "synth's counts", "media bmp"):
        assert refused, "no damage was found at all: the file was not read"
