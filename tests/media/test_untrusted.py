"""Malicious media files: none makes the program open another file or use more than the limits allow."""

from __future__ import annotations

import os
import re
import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from megaportraits.errors import MediaError
from megaportraits.media import DEFAULT_LIMITS, Limits, VideoReader, VideoWriter, is_video, read_image, read_picture
from megaportraits.media.audio import AudioTrack
from megaportraits.media.containers import OpenMedia, demuxer_of


def video(path: Path, frames: int = 5, size: tuple[int, int] = (32, 48)) -> Path:
    with VideoWriter(path, fps=25, overwrite=True) as writer:
        for index in range(frames):
            writer.write(np.full((*size, 3), 4 * index, np.uint8))
    return path


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def playlists(target: Path) -> dict[str, str]:
    """Files that ask a player to open `target`, by their usual suffix."""
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\n{target}\n"
    return {
        "m3u8": f"{hls}#EXT-X-ENDLIST\n",
        "address.m3u8": hls.replace(str(target), f"file://{target}") + "#EXT-X-ENDLIST\n",
        "endless.m3u8": hls,
        "ffconcat": f"ffconcat version 1.0\nfile '{target}'\n",
        "mpd": (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
            f'<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL>'
            "</Representation></AdaptationSet></Period></MPD>"
        ),
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        "xspf": f"<playlist><trackList><track><location>{target}</location></track></trackList></playlist>",
        "asx": f'<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{target}" width="9" height="9"/></svg>',
    }


@pytest.mark.parametrize("kind", sorted(playlists(Path("x"))))
@pytest.mark.parametrize("disguise", ["", ".mp4", ".ts", ".jpg"])
def test_a_file_that_names_another_is_refused(tmp_path: Path, kind: str, disguise: str) -> None:
    secret = video(tmp_path / "secret.mp4")
    path = tmp_path / f"upload.{kind}{disguise}"
    path.write_text(playlists(secret)[kind])
    for read in (is_video, VideoReader, read_picture, AudioTrack.open):
        with pytest.raises(MediaError, match=re.escape(path.name)):
            read(path)


def test_sound_is_not_read_through_a_playlist(tmp_path: Path) -> None:
    secret = sound(tmp_path / "secret.m4a")
    assert AudioTrack.open(secret) is not None
    (tmp_path / "a.mp4").write_text(playlists(secret)["m3u8"])
    with pytest.raises(MediaError, match=r"a\.mp4"):
        AudioTrack.open(tmp_path / "a.mp4")


def test_ffmpeg_is_refused_every_second_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second line of defence: a demuxer of playlists, if it came into the list, would still open nothing."""
    secret = video(tmp_path / "secret.mp4")
    for kind, demuxer in (("m3u8", "hls"), ("ffconcat", "concat")):
        path = tmp_path / f"a.{kind}"
        path.write_text(playlists(secret)[kind])
        with av.open(str(path), options={"safe": "0"} if demuxer == "concat" else {}) as seen:
            assert seen.streams.video  # FFmpeg alone would follow it
        monkeypatch.setattr("megaportraits.media.containers.demuxer_of", lambda head, name=demuxer: name)
        with pytest.raises(MediaError):
            OpenMedia(path)


def test_names_with_patterns_are_names(tmp_path: Path) -> None:
    video(tmp_path / "frame-001.mp4")
    for name in ("frame-%03d.mp4", "concat:frame-001.mp4", "*.mp4"):
        with pytest.raises(MediaError, match="no such file"):
            VideoReader(tmp_path / name)
        assert VideoReader(video(tmp_path / name)).info.frames == 5


def quicktime_with_reference(path: Path, target: Path) -> Path:
    """A MOV without pictures of its own: its data reference names another file."""
    content = video(path, frames=2).read_bytes()
    at = content.index(b"dref") - 4
    size = struct.unpack(">I", content[at : at + 4])[0]
    name = target.name.encode()
    alias = bytearray(150)
    alias[6:8] = struct.pack(">H", 2)
    alias[50 : 51 + len(name)] = bytes([len(name)]) + name
    where = str(target).encode()
    alias += struct.pack(">hH", 2, len(where)) + where + b"\0" * (len(where) % 2)
    alias += struct.pack(">hH", 18, len(where)) + where + b"\0" * (len(where) % 2) + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + bytes(alias)
    dref = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    grown = content[:at] + dref + content[at + size :]
    added = len(dref) - size
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        start = grown.index(box) - 4
        old = struct.unpack(">I", grown[start : start + 4])[0]
        grown = grown[:start] + struct.pack(">I", old + added) + grown[start + 4 :]
    path.write_bytes(grown)
    return path


def test_quicktime_references_are_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target.raw"
    target.write_bytes(b"\0" * 5000)
    path = quicktime_with_reference(tmp_path / "a.mov", target)
    asked = []

    def note(address: str, flags: int, options: dict[str, str]) -> None:
        asked.append(address)
        raise OSError

    with pytest.raises(OSError), path.open("rb") as file:
        av.open(file, format="mov", options={"enable_drefs": "1", "use_absolute_path": "1"}, io_open=note)
    assert asked  # the file does refer
    with OpenMedia(path) as media:
        assert all(packet.size == 0 or bytes(packet) for packet in media.container.demux())


@pytest.mark.parametrize(
    ("suffix", "container", "codec", "demuxer"),
    [
        ("mp4", "mp4", "mpeg4", "mov"),
        ("mov", "mov", "mpeg4", "mov"),
        ("3gp", "3gp", "mpeg4", "mov"),
        ("mkv", "matroska", "mpeg4", "matroska"),
        ("webm", "webm", "libvpx-vp9", "matroska"),
        ("avi", "avi", "mpeg4", "avi"),
        ("ts", "mpegts", "mpeg2video", "mpegts"),
        ("mpg", "mpeg", "mpeg1video", "mpeg"),
        ("m1v", "mpeg1video", "mpeg1video", "mpegvideo"),
        ("flv", "flv", "flv1", "flv"),
        ("ogv", "ogg", "libvpx", "ogg"),
        ("wmv", "asf", "wmv2", "asf"),
        ("mxf", "mxf", "mpeg2video", "mxf"),
        ("y4m", "yuv4mpegpipe", "rawvideo", "yuv4mpegpipe"),
        ("h264", "h264", "libx264", "h264"),
        ("ivf", "ivf", "libvpx-vp9", "ivf"),
    ],
)
def test_containers_that_people_have_are_read(
    tmp_path: Path, suffix: str, container: str, codec: str, demuxer: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
        frames = [av.VideoFrame.from_ndarray(np.full((144, 176, 3), 9 * i, np.uint8)) for i in range(12)]
        for packet in [*(p for f in frames for p in stream.encode(f)), *stream.encode(None)]:
            out.mux(packet)
    assert demuxer_of(path.read_bytes()[:4096]) == demuxer
    assert is_video(path)
    assert 10 <= len(list(VideoReader(path))) <= 12


def patched(path: Path, box: bytes, values: bytes) -> Path:
    """The file with the fields of a box, after its version and flags, overwritten."""
    content = bytearray(path.read_bytes())
    at = content.index(box) + 8
    content[at : at + len(values)] = values
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("box", "values", "words"),
    [
        (b"stsz", struct.pack(">II", 1, 1 << 23), "at most 5000000 frames in a video, its header declares 8388608"),
        (b"elst", struct.pack(">I", 1 << 20), "at most 1000 edits in a video, its header declares 1048576"),
    ],
)
def test_headers_that_declare_more_than_any_video_has_are_refused(
    tmp_path: Path, box: bytes, values: bytes, words: str
) -> None:
    path = patched(video(tmp_path / "a.mp4"), box, values)
    for read in (is_video, VideoReader):
        with pytest.raises(MediaError, match=words):
            read(path)


def test_fragments_that_declare_too_much_and_packed_headers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "frag_keyframe+empty_moov"}) as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for packet in [*stream.encode(av.VideoFrame(48, 32, "yuv420p")), *stream.encode(None)]:
            out.mux(packet)
    assert is_video(path)
    whole = path.read_bytes()
    with pytest.raises(MediaError, match="at most 5000000 frames"):
        is_video(patched(path, b"trun", struct.pack(">I", 1 << 23)))
    path.write_bytes(whole.replace(b"udta", b"cmov"))
    with pytest.raises(MediaError, match="compressed MOV header"):
        is_video(path)


def test_plain_sound_may_have_as_many_samples_as_it_likes(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    hours = patched(path, b"stsz", struct.pack(">II", 2, 3 * 3600 * 48000))
    assert AudioTrack.open(hours) is not None


@pytest.mark.posix
def test_pipes_and_devices_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", Path(os.devnull)):
        with pytest.raises(MediaError, match="pipe or a device"):
            is_video(path)


def test_a_picture_beyond_the_limit_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0)
    head = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    # Without its pixels: whoever decodes them says that it is damaged.
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + struct.pack(">I", 70_000) + b"IDAT")
    for read in (is_video, read_image):
        with pytest.raises(MediaError, match=r"at most 200 megapixels, got 20000 x 20000"):
            read(path)
    Image.new("1", (100, 100)).save(path)
    with pytest.raises(MediaError, match=r"at most 0\.0099 megapixels, got 100 x 100"):
        read_image(path, limits=Limits(pixels=9900))
    assert read_image(path, limits=Limits(pixels=10000)).shape == (100, 100, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_large_frames_are_refused(tmp_path: Path, suffix: str) -> None:
    path = video(tmp_path / f"a{suffix}", size=(64, 96))
    with pytest.raises(MediaError, match=r"at most 0\.006143 megapixels"):
        VideoReader(path, limits=Limits(frame_pixels=6143))
    assert VideoReader(path, limits=Limits(frame_pixels=6144 + 16 * 160)).info.width == 96


def test_a_stream_that_grows_beyond_the_limit_is_not_decoded_there(tmp_path: Path) -> None:
    small, large = (video(tmp_path / f"{side}.mkv", size=(side, side)) for side in (32, 512))
    for path in (small, large):
        with av.open(str(path)) as source, av.open(str(path.with_suffix(".ts")), "w") as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(small.with_suffix(".ts").read_bytes() + large.with_suffix(".ts").read_bytes())
    assert {frame.image.shape[0] for frame in VideoReader(joined)} == {32, 512}
    reader = VideoReader(joined, limits=Limits(frame_pixels=10_000))
    assert {frame.image.shape[0] for frame in reader} == {32}
    assert reader.damage is not None


def test_long_videos_and_large_files_are_refused(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", frames=10)
    size = path.stat().st_size
    for limits, words in (
        (Limits(seconds=0.3), r"at most 0\.3 seconds, got 0\.4"),
        (Limits(frames=9), "at most 9 frames, got 10"),
        (Limits(bytes=size - 1), "at most .*, got"),
    ):
        with pytest.raises(MediaError, match=words):
            VideoReader(path, limits=limits)
    assert VideoReader(path, limits=Limits(seconds=0.4, frames=10, bytes=size)).info.frames == 10


def test_a_video_longer_than_it_says_is_stopped(tmp_path: Path) -> None:
    """A transport stream says little about itself: what counts is what comes."""
    path = video(tmp_path / "a.mkv", frames=50)
    reader = VideoReader(path, limits=Limits(frames=60, seconds=2.5))
    assert len(list(reader)) == 50
    for limits, read in ((Limits(frames=20), 20), (Limits(seconds=1.0), 26)):
        reader.limits = limits
        frames = iter(reader)
        seen = 0
        with pytest.raises(MediaError, match="at most"):
            while next(frames):
                seen += 1
        assert seen == read


def test_probing_reads_no_more_than_it_may(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    filler = b"".join(b"\x47\x1f\xff\x10" + b"\0" * 184 for _ in range(4000))
    path.write_bytes(filler)
    with pytest.raises(MediaError, match=r"no video frame was found in 0\.1 MB"):
        VideoReader(path, limits=replace(DEFAULT_LIMITS, probe_bytes=100_000))
