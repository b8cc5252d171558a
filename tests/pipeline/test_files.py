"""`animate_file`: times, sound, refused inputs, Ctrl-C, memory; and the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import ExifTags, Image
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.config import ModelConfig
from megaportraits.errors import ConfigError, FaceError, MediaError, OutputTakenError
from megaportraits.media import VideoReader, read_image, write_image
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import save_base
from megaportraits.pipeline import AnimateOptions, Avatar, Background, animate_file, plan_output
from megaportraits.pipeline.files import AnimateReport

from .conftest import SIZE, moved, write_video

TIMES = [0, 3001, 6007, 20000, 20333, 30000]
CROP = AnimateOptions(crop=True, size=SIZE)


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory, portrait: np.ndarray) -> Path:
    return write_image(tmp_path_factory.mktemp("photo") / "photo.png", portrait)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory, portrait: np.ndarray) -> Path:
    """Six frames at uneven times, one of them without a face."""
    frames = [moved(portrait, 2.0 * i) for i in range(6)]
    frames[3] = np.zeros_like(frames[3])
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_video(path, frames, TIMES, time_base=Fraction(1, 90000))


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.conftest import TINY

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_base(path, BaseModel(ModelConfig.model_validate(TINY)))
    return path


def run(*arguments: object) -> tuple[int, str]:
    """The command line in this process: exit code, and what it says."""
    result = CliRunner().invoke(app, ["animate", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return 1, str(result.exception)
    return result.exit_code, result.output


def test_times_and_counts_are_kept(avatar: Avatar, photo: Path, clip: Path, tmp_path: Path) -> None:
    done: list[tuple[int, int | None]] = []
    report = animate_file(
        avatar, photo, clip, tmp_path / "a.mp4", CROP, progress=lambda n, total: done.append((n, total))
    )
    frames = list(VideoReader(tmp_path / "a.mp4"))
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(t, 90000) for t in TIMES]
    assert (report.frames, report.held, report.faces, report.interrupted) == (6, 1, 1, False)
    assert done == [(n, 6) for n in range(1, 7)]
    assert any("held" in line for line in report.lines())


def test_sound_comes_along(avatar: Avatar, photo: Path, clip: Path, tmp_path: Path) -> None:
    driver = tmp_path / "driver.mp4"
    with av.open(str(driver), "w") as output, av.open(str(clip)) as source:
        video = output.add_stream_from_template(source.streams.video[0])
        sound = output.add_stream("aac", rate=44100, layout="mono")
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = video
                output.mux(packet)
        for start in range(0, 22050, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, start
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    animate_file(avatar, photo, driver, tmp_path / "a.mp4", CROP)

    def packets(path: Path) -> list[tuple[Fraction, bytes]]:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size]

    copied = packets(tmp_path / "a.mp4")
    assert len(copied) > 10
    assert copied == packets(driver)[: len(copied)]


def test_side_by_side_is_three_squares(avatar: Avatar, photo: Path, clip: Path, tmp_path: Path) -> None:
    animate_file(avatar, photo, clip, tmp_path / "a.mp4", CROP, side_by_side=tmp_path / "b.mp4")
    frame = next(iter(VideoReader(tmp_path / "b.mp4"))).image.astype(int)
    assert frame.shape == (SIZE, 3 * SIZE, 3)
    driver, result = frame[:, SIZE : 2 * SIZE], frame[:, 2 * SIZE :]
    assert np.abs(driver - result).mean() < 3  # the echo repeats its driver; the rest is H.264


@pytest.mark.parametrize("moving", [True, False])
def test_results_whose_names_are_taken_meanwhile_are_all_kept(
    avatar: Avatar, photo: Path, clip: Path, tmp_path: Path, moving: bool
) -> None:
    suffix = ".mp4" if moving else ".png"
    out, beside = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"

    def another_run(done: int, expected: int | None) -> None:
        out.touch()
        beside.touch()

    driver = clip if moving else photo
    with pytest.raises(OutputTakenError) as caught:
        animate_file(avatar, photo, driver, out, CROP, side_by_side=beside, progress=another_run)
    assert {kept.name for _, kept in caught.value.taken} == {f"a-2{suffix}", f"b-2{suffix}"}
    assert out.stat().st_size == beside.stat().st_size == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a-2{suffix}", f"a{suffix}", f"b-2{suffix}", f"b{suffix}"]
    for _, kept in caught.value.taken:
        assert (len(list(VideoReader(kept))) == 6) if moving else read_image(kept).any()


def test_a_still_driver_gives_a_still(avatar: Avatar, photo: Path, tmp_path: Path) -> None:
    report = animate_file(avatar, photo, photo, tmp_path / "a.png", CROP)
    assert read_image(tmp_path / "a.png").shape == (SIZE, SIZE, 3)
    assert report.frames == 1 and len(report.lines()) == 1


@pytest.mark.parametrize("mark", [True, False])
def test_outputs_are_marked_as_synthetic_unless_switched_off(
    avatar: Avatar, photo: Path, clip: Path, tmp_path: Path, mark: bool
) -> None:
    options = AnimateOptions(crop=True, size=SIZE, max_seconds=0.1)
    row = tmp_path / "row.mp4"
    animate_file(avatar, photo, clip, tmp_path / "a.mp4", options, side_by_side=row, mark=mark)
    animate_file(avatar, photo, photo, tmp_path / "a.png", options, mark=mark)
    for path in (tmp_path / "a.mp4", row):
        with av.open(str(path)) as container:
            assert container.metadata.get("comment", "").startswith("Synthetic: MegaPortraits model ") == mark
    with Image.open(tmp_path / "a.png") as image:
        assert (ExifTags.Base.ImageDescription in image.getexif()) == mark


def test_transparent_video_is_written(avatar: Avatar, photo: Path, clip: Path, tmp_path: Path) -> None:
    options = AnimateOptions(background=Background.TRANSPARENT, size=SIZE, max_seconds=0.1)
    report = animate_file(avatar, photo, clip, tmp_path / "a.webm", options)
    assert report.frames == len(list(VideoReader(tmp_path / "a.webm"))) == 3


def test_source_video_gives_its_first_good_frame_and_the_report_asks_whether_the_driver_was_meant(
    avatar: Avatar, photo: Path, clip: Path, tmp_path: Path
) -> None:
    report = animate_file(avatar, clip, photo, tmp_path / "a.png", CROP)
    assert report.frames == 1
    assert report.lines()[-1].endswith(f"were they swapped? Then: megaportraits animate {photo} {clip}")


def test_no_face_leaves_no_file(avatar: Avatar, photo: Path, tmp_path: Path) -> None:
    driver = write_video(tmp_path / "driver.mp4", [np.zeros((64, 64, 3), np.uint8)] * 3)
    with pytest.raises(FaceError, match="in any frame"):
        animate_file(avatar, photo, driver, tmp_path / "a.mp4", CROP)
    assert [p.name for p in tmp_path.iterdir()] == ["driver.mp4"]


def test_outputs_are_planned_before_work(photo: Path, clip: Path, tmp_path: Path) -> None:
    plain, transparent = AnimateOptions(), AnimateOptions(background=Background.TRANSPARENT)
    assert plan_output(photo, clip, None, plain) == Path("photo_clip.mp4")
    assert plan_output(photo, clip, None, transparent) == Path("photo_clip.webm")
    assert plan_output(photo, photo, None, plain) == Path("photo_photo.png")
    for output, options, words in (
        ("a.png", plain, "the output must be a video"),
        ("a.mp4", transparent, "with transparency"),
        ("a", plain, "must be a video"),
    ):
        with pytest.raises(MediaError, match=words):
            plan_output(photo, clip, tmp_path / output, options)
    with pytest.raises(MediaError, match="replace its own input"):
        plan_output(photo, clip, clip, plain, overwrite=True)
    with pytest.raises(ConfigError, match="same file"):
        plan_output(photo, clip, tmp_path / "a.mp4", plain, side_by_side=tmp_path / "a.mp4")


def test_memory_does_not_grow_with_the_driver(avatar: Avatar, photo: Path, clip: Path, tmp_path: Path) -> None:
    pictures = [frame.image for frame in VideoReader(clip)][:3]

    def peak(count: int) -> int:
        driver = write_video(tmp_path / f"{count}.mp4", [pictures[i % 3] for i in range(count)])
        tracemalloc.start()
        animate_file(avatar, photo, driver, tmp_path / f"out{count}.mp4", CROP)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(5)
    assert peak(120) < peak(20) + 1_000_000  # a hundred frames more would be 15 MB


def test_command_line_runs_a_real_network(photo: Path, clip: Path, tiny_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "a.mp4"
    arguments = (photo, clip, "-o", out, "--weights", tiny_weights, "--motion", "relative", "--size", "64")
    code, said = run(*arguments)
    assert code == 0, said
    assert "Wrote 6 frames" in said
    assert VideoReader(out).info.width == 512  # the whole photo
    code, said = run(*arguments)
    assert code == 1
    assert "exists already" in said
    assert run(*arguments, "--overwrite")[0] == 0


def test_what_lies_on_its_side_is_turned_and_the_report_says_so(
    avatar: Avatar, portrait: np.ndarray, tmp_path: Path
) -> None:
    sideways = write_image(tmp_path / "sideways.png", np.ascontiguousarray(np.rot90(portrait[:400])))
    driver = write_image(tmp_path / "driver.png", np.ascontiguousarray(np.rot90(moved(portrait, 0), 2)))
    report = animate_file(avatar, sideways, driver, tmp_path / "a.png", AnimateOptions(size=SIZE))
    assert "The photograph lay on its side: it was turned by 90 degrees clockwise." in report.lines()
    assert "The driver was upside down: it was turned by 180 degrees." in report.lines()
    assert read_image(report.output).shape == (400, 512, 3)


def write_hdr(path: Path, image: np.ndarray) -> Path:
    """The PQ twin of a picture, white at 203 cd/m2, as a video of two frames."""
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    light = (203 / 10000 * ((image / 255) ** 2.4 @ to_bt2020.T)) ** 0.1593017578125
    signal = ((0.8359375 + 18.8515625 * light) / (1 + 18.6875 * light)) ** 78.84375
    deep = np.rint(65535 * signal).astype(np.uint16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 16, 1
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(deep, format="rgb48le")
            limited = frame.reformat(format="yuv420p10le", dst_colorspace=9, src_color_range=2, dst_color_range=1)
            container.mux(stream.encode(limited))
        container.mux(stream.encode(None))
    return path


def test_hdr_video_is_source_driver_and_background_with_the_contrast_of_its_twin(
    avatar: Avatar, portrait: np.ndarray, tmp_path: Path
) -> None:
    twin = moved(portrait, 0)
    hdr, sdr = write_hdr(tmp_path / "hdr.mp4", twin), write_video(tmp_path / "sdr.mp4", [twin] * 2)
    options = AnimateOptions(background="driver")
    results = []
    for path in (hdr, sdr):
        report = animate_file(avatar, path, path, tmp_path / f"{path.stem}-out.mp4", options)
        told = [line for line in report.lines() if "HDR" in line]
        expected = [f"The {name} is HDR video (PQ): it was tone-mapped to BT.709." for name in ("source", "driver")]
        assert told == (expected if path == hdr else [])
        results.append(next(iter(VideoReader(report.output))).image.astype(float))
    assert np.std(results[0]) == pytest.approx(np.std(results[1]), rel=0.05)
    assert np.abs(results[0] - results[1]).mean() < 4


def test_which_face_is_asked_only_where_nobody_said() -> None:
    lines = [
        " ".join(AnimateReport(Path("a.mp4"), 6, 0, faces, face, False, None).lines())
        for faces, face in ((2, None), (2, 1), (1, None))
    ]
    assert ["--face N" in line for line in lines] == [True, False, False]


def test_command_line_takes_the_drivers_face(photo: Path, tiny_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    arguments = (photo, photo, "-o", out, "--weights", tiny_weights, "--size", "64", "--driver-face")
    code, said = run(*arguments, "2")
    assert code == 1 and "at least 2 faces in the driver" in said and not out.exists()
    assert run(*arguments, "1")[0] == 0


def test_a_color_that_would_do_nothing_is_refused(photo: Path, tmp_path: Path) -> None:
    code, said = run(photo, photo, "-o", tmp_path / "a.png", "--color", "#ff0000")
    assert code == 1 and "--background color" in said


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.jpg", None, "no such file"),
        ("empty.jpg", b"", "empty"),
        ("notes.txt", b"a text, not a picture\n" * 20, "expected an image or a video"),
        ("broken.mp4", b"\0\0\0\x20ftypisom" + bytes(2000), "opens as neither"),
    ],
)
def test_command_line_refuses_bad_files(
    photo: Path, clip: Path, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    bad = tmp_path / name
    if content is not None:
        bad.write_bytes(content)
    for pair in ((bad, clip), (photo, bad)):
        code, said = run(*pair, "-o", tmp_path / "a.mp4")
        assert code == 1
        assert words in said and name in said
    code, said = run(tmp_path, clip, "-o", tmp_path / "a.mp4")
    assert code == 1 and "folder" in said


@pytest.mark.posix
@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_interrupt_leaves_a_playable_file(
    photo: Path, clip: Path, tiny_weights: Path, tmp_path: Path, signal_name: str
) -> None:
    pictures = [frame.image for frame in VideoReader(clip)]
    driver = write_video(tmp_path / "long.mp4", [pictures[0]] * 3000)
    out = tmp_path / "a.mp4"
    command = [sys.executable, "-m", "megaportraits", "animate", photo, driver, "-o", out, "--weights", tiny_weights]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [str(part) for part in [*command, "--crop"]],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        while not any(part.stat().st_size for part in tmp_path.glob(".a.*")):  # the first frames are written
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.Signals[signal_name])
        said = process.communicate()[0].decode()
    assert process.returncode == 130, said
    assert "Stopped early" in said
    assert len(list(VideoReader(out))) >= 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "long.mp4"]
