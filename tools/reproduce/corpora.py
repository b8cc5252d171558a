"""Generate stand-ins for the paper's corpora in the originals' layout: VoxCeleb2's videos and FFHQ's images.

The people are the shipped student's avatars, animated with the demo's rendered driver. Every video shows one person for
about two seconds, every image one person at 1024 px.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from megaportraits.faces import FaceAnalyzer
from megaportraits.media import VideoReader, VideoWriter, read_image, write_image
from megaportraits.models.storage import find_student, load_student
from megaportraits.models.student import Student
from megaportraits.ops.pictures import resize
from megaportraits.pipeline.demo import demo_driver
from megaportraits.pipeline.driver import HeadFollower
from tools.reproduce.teachers import write_teachers

UInt8 = npt.NDArray[np.uint8]
_EVERY, FPS = 2, 12.5
"""Every n-th frame of the driver is used, which has 25 frames per second; and the resulting frame rate."""
_TRACK_FPS = 25
"""Frames per second of VoxCeleb2's tracks."""
TEST_PEOPLE = 2
"""Number of people, the last ones, in VoxCeleb2's test set and FFHQ's validation set."""
_SIDE, _HEAD = 288, 256
"""Sides of a frame and of the head crop in it, pixels."""


@dataclass(frozen=True)
class Corpora:
    """Folders of the generated collections.

    Attributes:
        voxceleb2: the original videos `videos/VIDEO.mp4`, and their tracks `dev/txt/ID/VIDEO/CLIP.txt`, `test/txt/...`.
        ffhq: `images1024x1024/00000.png` and `ffhq-dataset-v2.json`.
        avatars: photographs of the people that the student learns.
        gaze, blink: networks with the interfaces of RT-GENE and RT-BENE.
    """

    voxceleb2: Path
    ffhq: Path
    avatars: Path
    gaze: Path
    blink: Path


def make_corpora(folder: Path, *, tell: Callable[[str], None] = print) -> Corpora:
    """Fill a folder with both collections. Existing files are kept.

    Args:
        folder: the output folder.
        tell: called with a line for each collection.
    """
    made = Corpora(*(folder / name for name in ("voxceleb2", "ffhq", "avatars", "rt_gene.onnx", "rt_bene.onnx")))
    done = folder / "complete"
    if done.is_file():
        return made
    photos = _photos()
    student = load_student(find_student("nano"))
    drivers = _driver_crops()
    half = len(drivers) // 2
    for number, name in enumerate(photos):
        part = "test" if number >= len(photos) - TEST_PEOPLE else "dev"
        # The two videos of a person have different motions. So do different people, who start at different frames.
        for turn, crops in enumerate((drivers[:half], drivers[half:])):
            video, person = f"{name.upper():_<10}{turn}", f"id{number:05d}"  # the length of YouTube's video names
            file = made.voxceleb2 / "videos" / f"{video}.mp4"
            if not file.is_file():
                begin = 3 * number % half
                _write_video(file, _draw(student, name, crops[begin:] + crops[:begin], seed=number))
            track = made.voxceleb2 / part / "txt" / person / video / "00001.txt"
            track.parent.mkdir(parents=True, exist_ok=True)
            track.write_text(_track(person, video, round(half / FPS * _TRACK_FPS)), encoding="utf-8")
    tell(f"{made.voxceleb2}: {2 * len(photos)} videos of {len(photos)} people")
    labels = {}
    for number, photo in enumerate(photos.values()):
        category = "validation" if number >= len(photos) - TEST_PEOPLE else "training"
        labels[str(number)] = {"category": category}
        picture = resize(_square(read_image(photo)), 1024)
        _write(made.ffhq / "images1024x1024" / f"{number:05d}.png", picture)
    (made.ffhq / "ffhq-dataset-v2.json").write_text(json.dumps(labels), encoding="utf-8")
    tell(f"{made.ffhq}: {len(photos)} pictures")
    for name in list(photos)[:2]:
        _write(made.avatars / f"{name}.png", read_image(photos[name]))
    write_teachers(made.gaze, made.blink)
    tell(f"{made.avatars}, {made.gaze} and {made.blink}")
    done.touch()
    return made


def _photos() -> dict[str, Path]:
    folder = Path(str(resources.files("megaportraits"))) / "assets" / "demo" / "avatars"
    return {path.stem: path for path in sorted(folder.glob("*.jpg"))}


def _driver_crops() -> list[UInt8]:
    """Head crops of the demo's driver."""
    follower = HeadFollower(FaceAnalyzer(), _HEAD)
    frames = itertools.islice(VideoReader(demo_driver()), 0, None, _EVERY)
    seen = (follower.look(frame).head for frame in frames)
    return [head.image for head in seen if head is not None]


@torch.inference_mode()
def _draw(student: Student, name: str, crops: Sequence[UInt8], *, seed: int) -> Iterator[UInt8]:
    """An avatar's frames over a background gradient of two colours that are specific to the avatar."""
    identity = student.identity(torch.tensor([student.find(name)]))
    rng = np.random.default_rng(seed)
    upper, lower = rng.uniform(0.2, 0.8, (2, 3))
    ramp = np.linspace(0, 1, _SIDE)[:, None, None]
    plate = np.broadcast_to(upper * (1 - ramp) + lower * ramp, (_SIDE, _SIDE, 3))
    x, y = (_SIDE - _HEAD) // 2, _SIDE - _HEAD  # shoulders reach the lower edge
    for crop in crops:
        made = student.render(torch.from_numpy(crop).permute(2, 0, 1)[None] / 255, identity)
        assert made.alpha is not None, "the shipped student predicts mattes"
        image, alpha = (t[0].permute(1, 2, 0).numpy() for t in (made.image, made.alpha))
        frame = plate.copy()
        inside = frame[y : y + _HEAD, x : x + _HEAD]
        frame[y : y + _HEAD, x : x + _HEAD] = image * alpha + inside * (1 - alpha)
        yield (frame * 255).round().astype(np.uint8)


def _track(person: str, video: str, frames: int) -> str:
    """A track file in VoxCeleb2's format, with the same face box in all frames."""
    box = " \t".join(f"{number:.3f}" for number in (0.25, 0.25, 0.5, 0.6))
    rows = "".join(f"{number:06d} \t{box}\n" for number in range(frames))
    head = (
        f"Identity  : \t{person}\nReference : \t{video}\nOffset    : \t0\nFV Conf   : \t20.0\t(1)\nASD Conf  : \t5.0\n"
    )
    return f"{head}\nFRAME \tX \tY \tW \tH\n{rows}"


def _write_video(path: Path, frames: Iterator[UInt8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=FPS, overwrite=True) as writer:
        for frame in frames:
            writer.write(frame)


def _write(path: Path, picture: UInt8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, picture.astype(np.uint8), overwrite=True)


def _square(picture: UInt8) -> UInt8:
    """The central square of an image."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    return picture[top : top + side, left : left + side]


if __name__ == "__main__":
    make_corpora(Path(sys.argv[1]))
