"""Video: times, sound, rotation and damage are handled correctly in reading and writing."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from megaportraits.errors import MediaError
from megaportraits.media import VideoReader, VideoWriter, is_video
from megaportraits.media.staging import uninterrupted

TICKS = Fraction(1, 90000)
VFR = [0, 3001, 6007, 20000, 20333, 90001]
PATCHES = [(220, 30, 20), (20, 200, 40), (30, 40, 210), (200, 120, 90)]


def picture(index: int = 0, height: int = 64, width: int = 96) -> np.ndarray:
    """Four coloured quarters, all different, and a grey level that tells the frame."""
    image = np.empty((height, width, 3), np.uint8)
    h, w = height // 2, width // 2
    for patch, (rows, columns) in zip(
        PATCHES,
        [
            (slice(h), slice(w)),
            (slice(h), slice(w, None)),
            (slice(h, None), slice(w)),
            (slice(h, None), slice(w, None)),
        ],
        strict=True,
    ):
        image[rows, columns] = patch
    image[h - 8 : h + 8, w - 8 : w + 8] = 20 * (index % 12) + 10
    return image


def add_tone(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    """Fill a sound track with samples that start at time 0."""
    rate = stream.rate
    samples = (np.sin(np.arange(int(rate * seconds)) * 0.05) * 8000).astype(np.int16)
    resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
    for start in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for piece in resampler.resample(frame):
            for packet in stream.encode(piece):
                container.mux(packet)
    for packet in stream.encode(None):
        container.mux(packet)


def make_driver(
    path: Path, frames: int = 25, codec: str = "aac", rate: int = 44100, rotation: int = 0, delay: int = 0
) -> Path:
    """A 25 fps test video with sound, made by PyAV alone."""
    with av.open(str(path), "w", options={"output_ts_offset": str(delay)} if delay else {}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout="mono") if codec else None
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(frames):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
        if sound is not None:
            add_tone(container, sound, frames / 25)
    return path


def sound_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in packets if packet.size]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_variable_frame_times_come_through_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, fps=25, time_base=TICKS) as writer:
        for index, pts in enumerate(VFR):
            writer.write(picture(index), pts)
    frames = list(VideoReader(path))
    assert [frame.pts * frame.time_base for frame in frames] == [pts * TICKS for pts in VFR]
    middles = [int(frame.image[32, 48, 0]) for frame in frames]
    assert np.abs(np.array(middles) - [20 * i + 10 for i in range(6)]).max() <= 4


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_millisecond_containers_round_times_to_a_millisecond(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, fps=25, time_base=TICKS) as writer:
        for index, pts in enumerate(VFR):
            writer.write(picture(index), pts)
    times = [frame.time for frame in VideoReader(path)]
    assert times == pytest.approx([float(pts * TICKS) for pts in VFR], abs=0.00051)


def test_ntsc_rate_does_not_drift(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    with VideoWriter(tmp_path / "a.mp4", fps=rate) as writer:
        for index in range(40):
            writer.write(picture(index))
    reader = VideoReader(tmp_path / "a.mp4")
    assert reader.info.fps == rate
    assert [f.pts * f.time_base for f in reader] == [i / rate for i in range(40)]


def test_colours_survive_the_trip_through_yuv(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(picture())
    (frame,) = VideoReader(tmp_path / "a.mp4")
    for patch, (y, x) in zip(PATCHES, [(8, 8), (8, 88), (56, 8), (56, 88)], strict=True):
        assert np.abs(frame.image[y, x].astype(int) - patch).max() <= 4


def test_odd_sizes_become_even_by_repeating_the_border(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(picture(height=63, width=95))
    (frame,) = VideoReader(tmp_path / "a.mp4")
    assert frame.image.shape == (64, 96, 3)
    assert np.abs(frame.image[:, 94].astype(int) - frame.image[:, 95]).max() <= 6


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_metadata_is_applied(tmp_path: Path, degrees: int) -> None:
    reader = VideoReader(make_driver(tmp_path / "a.mp4", frames=2, codec="", rotation=degrees))
    expected = np.rot90(picture(), degrees // 90)  # the display matrix turns counter-clockwise
    frame = next(iter(reader))
    assert frame.image.shape == expected.shape == (reader.info.height, reader.info.width, 3)
    assert np.abs(frame.image.astype(int) - expected).mean() < 6


def test_wide_pixels_become_square(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for packet in [
            *stream.encode(av.VideoFrame.from_ndarray(picture(), format="rgb24")),
            *stream.encode(None),
        ]:
            container.mux(packet)
    assert VideoReader(tmp_path / "a.mp4").info.width == 128


def test_sound_packets_are_copied_unchanged(tmp_path: Path) -> None:
    driver = make_driver(tmp_path / "driver.mp4")
    reader = VideoReader(driver)
    assert reader.info.has_audio
    with VideoWriter(tmp_path / "a.mp4", fps=25, time_base=reader.info.time_base, audio_from=driver) as writer:
        for frame in reader:
            writer.write(frame.image, frame.pts)
    before, after = sound_packets(driver), sound_packets(tmp_path / "a.mp4")
    assert len(before) > 40
    assert after == before[: len(after)]
    assert len(before) - len(after) <= 1  # a last packet that starts after the last picture has ended


@pytest.mark.parametrize(("codec", "rate", "source"), [("mp2", 44100, ".mpg"), ("pcm_s16le", 22050, ".mkv")])
def test_sound_that_cannot_be_copied_is_encoded_in_sync(tmp_path: Path, codec: str, rate: int, source: str) -> None:
    driver = make_driver(tmp_path / f"driver{source}", codec=codec, rate=rate)
    reader = VideoReader(driver)
    frames = list(reader)
    with VideoWriter(tmp_path / "a.mp4", time_base=reader.info.time_base, audio_from=driver) as writer:
        for frame in frames:
            writer.write(frame.image, frame.pts)
    lag = sound_packets(driver)[0][0] - frames[0].pts * frames[0].time_base
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        sound = list(container.decode(container.streams.audio[0]))
    first = next(iter(VideoReader(tmp_path / "a.mp4")))
    # The encoder's priming (1024 samples) plays before the first sample; more would be a lag.
    assert abs(sound[0].pts * sound[0].time_base - first.pts * first.time_base - lag) <= Fraction(1024 + 16, rate)
    length = sum(frame.samples for frame in sound) / sound[0].sample_rate
    assert length == pytest.approx(1.0, abs=0.1)


def test_late_start_of_a_transport_stream_is_taken_off_both_tracks(tmp_path: Path) -> None:
    driver = make_driver(tmp_path / "driver.ts", delay=5)
    reader = VideoReader(driver)
    frames = list(reader)
    assert frames[0].time >= 5
    lag = float(sound_packets(driver)[0][0]) - frames[0].time
    with VideoWriter(tmp_path / "a.mp4", time_base=reader.info.time_base, audio_from=driver) as writer:
        for frame in frames:
            writer.write(frame.image, frame.pts)
    written = list(VideoReader(tmp_path / "a.mp4"))
    assert float(sound_packets(tmp_path / "a.mp4")[0][0]) - written[0].time == pytest.approx(lag, abs=1e-4)
    assert written[0].time < 0.1
    steps = [b.pts * b.time_base - a.pts * a.time_base for a, b in itertools.pairwise(written)]
    assert set(steps) == {Fraction(1, 25)}


@pytest.mark.parametrize(("suffix", "decoder"), [(".webm", "libvpx-vp9"), (".mov", "prores")])
def test_transparency_is_stored(tmp_path: Path, suffix: str, decoder: str) -> None:
    rgba = np.dstack([picture(), np.zeros((64, 96), np.uint8)])
    rgba[:, 48:, 3] = 255
    with VideoWriter(tmp_path / f"a{suffix}", alpha=True) as writer:
        for _ in range(3):
            writer.write(rgba)
    context = av.CodecContext.create(decoder, "r")
    with av.open(str(tmp_path / f"a{suffix}")) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        frames = (
            [f for p in packets for f in context.decode(p)]
            if suffix == ".webm"
            else [f for p in packets for f in stream.decode(p)]
        )
    alpha = frames[0].to_ndarray(format="rgba")[..., 3]
    assert alpha[:, :40].max() <= 2
    assert alpha[:, 56:].min() >= 253


def test_transparent_mp4_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="transparent"):
        VideoWriter(tmp_path / "a.mp4", alpha=True)


def test_truncated_video_gives_what_decodes_and_says_so(tmp_path: Path) -> None:
    whole = make_driver(tmp_path / "a.mkv", frames=100, codec="").read_bytes()
    (tmp_path / "b.mkv").write_bytes(whole[: len(whole) * 6 // 10])
    frames = list(VideoReader(tmp_path / "b.mkv"))
    assert 40 <= len(frames) < 100
    noise = bytearray(whole)
    noise[len(whole) // 2 : len(whole) // 2 + 500] = bytes(np.random.default_rng(0).integers(0, 255, 500, np.uint8))
    (tmp_path / "c.mkv").write_bytes(noise)
    reader = VideoReader(tmp_path / "c.mkv")
    frames = list(reader)
    assert 30 <= len(frames) <= 100
    assert all(a.pts < b.pts for a, b in itertools.pairwise(frames))


@pytest.mark.parametrize("content", [b"\0" * 4000, b"plain text, no video\n" * 100])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.mp4"):
        VideoReader(tmp_path / "a.mp4")
    with pytest.raises(MediaError):
        is_video(tmp_path / "a.mp4")


def test_sound_only_file_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        add_tone(container, container.add_stream("aac", rate=44100, layout="mono"), 0.5)
    with pytest.raises(MediaError, match="no video track"):
        VideoReader(tmp_path / "a.m4a")


def test_failing_block_keeps_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(MediaError, match="exists already"):
        VideoWriter(path)
    with pytest.raises(RuntimeError), VideoWriter(path, overwrite=True) as writer:
        writer.write(picture())
        raise RuntimeError("the network failed")
    assert path.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_empty_video_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no frame"), VideoWriter(tmp_path / "a.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_times_before_zero_are_moved_to_zero(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", time_base=TICKS) as writer:
        for pts in (-7200, -3600, 900):
            writer.write(picture(), pts)
    assert [frame.pts * frame.time_base for frame in VideoReader(tmp_path / "a.mp4")] == [
        pts * TICKS for pts in (0, 3600, 8100)
    ]


def test_times_must_increase(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="frame time above 10"), VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(picture(), 10)
        writer.write(picture(), 10)


@pytest.mark.posix
def test_interrupt_leaves_a_playable_file(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np\n"
        "from megaportraits.media import VideoWriter\n"
        "with VideoWriter(sys.argv[1]) as writer:\n"
        "    for index in range(10**9):\n"
        "        writer.write(np.full((64, 96, 3), index % 256, np.uint8))\n"
        "        if index == 30: print('ready', flush=True)\n"
    )
    path = tmp_path / "a.mp4"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() != 0
    assert len(list(VideoReader(path))) > 30
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_second_interrupt_does_not_cost_the_file() -> None:
    with uninterrupted():
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.posix
def test_full_disk_is_said_and_the_previous_file_stays(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="no limit on the size of files")
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")
    rng = np.random.default_rng(0)
    child = os.fork()
    if child == 0:  # a limit on file sizes stands in for a full disk; it needs a process of its own
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            with VideoWriter(path, overwrite=True) as writer:
                for _ in range(20):
                    writer.write(rng.integers(0, 255, (128, 128, 3), np.uint8))
        except MediaError as error:
            os._exit(0 if "cannot be written: File too large" in error.message else 2)
        except BaseException:
            os._exit(3)
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        driver = make_driver(tmp_path / f"{frames}.mp4", frames=frames, codec="")
        tracemalloc.start()
        with VideoWriter(tmp_path / f"out{frames}.mp4", audio_from=driver) as writer:
            for frame in VideoReader(driver):
                writer.write(frame.image)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(10)  # imports and caches
    assert peak(600) < peak(60) + 200_000
