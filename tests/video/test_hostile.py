"""Damaged and hostile files are refused in one line, and nothing but the file is opened."""

import os
import shutil
import socket
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cogstyle.errors import MediaError
from cogstyle.video import Video, VideoReader, open_video, read_image, read_last_frames, reading
from tests.videos import EVERY, RISING, clock, refer, write_clock, write_frames


def test_damaged_files_are_refused_by_name(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for name in ("whole.mkv", "whole.mp4"):  # the second promises at its head more than there is
        whole = write_clock(tmp_path / name, EVERY, picture=noise, index_first=True).read_bytes()
        (cut := tmp_path / f"cut_{name}").write_bytes(whole[: len(whole) // 2])
        with VideoReader(cut) as video:
            assert 0.5 < video.duration < 3.5
            assert video.frames_at([0.0], 16).shape == (1, 16, 16, 3)
    (tmp_path / "text.mp4").write_text("no video at all")
    with av.open(str(tmp_path / "sound.m4a"), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        container.mux([*sound.encode(silence), *sound.encode()])
    for name, reason in (("text.mp4", "Invalid data"), ("none.mp4", "No such file"), ("sound.m4a", "no video stream")):
        with pytest.raises(MediaError, match=f"cannot read video .*{name}: .*{reason}"):
            VideoReader(tmp_path / name)


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp", ".avi", ".ts"])
def test_damage_is_told_in_one_line(tmp_path, suffix):
    """Changed bytes give frames or a MediaError, nothing else."""
    whole = write_frames(tmp_path / f"v{suffix}", RISING[:9], codec="mpeg4") if suffix in (".avi", ".ts") else None
    data = whole.read_bytes() if whole else Video(np.stack(RISING[:9]), 8.0).encoded(suffix)
    rng = np.random.default_rng(0)
    for number in range(24):
        damaged = np.frombuffer(data, np.uint8)[: rng.integers(1, len(data)) if number % 3 == 0 else None].copy()
        damaged[rng.integers(max(1, min(len(damaged), 64 << number)), size=number // 2)] ^= np.uint8(
            1 << rng.integers(8)
        )
        (tmp_path / f"damaged{suffix}").write_bytes(damaged.tobytes())
        for read in (read_last_frames, read_image):
            try:
                read(
                    tmp_path / f"damaged{suffix}",
                    **({} if read is read_image else {"count": 2, "frame_rate": 4.0}),
                    size=8,
                )
            except MediaError as error:
                assert "\n" not in str(error) and f"damaged{suffix}" in str(error)


@pytest.fixture
def port():
    """A port of this machine; the test fails if anything connects to it."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("scheme", ["http", "https", "rtsp", "rtmp", "tcp", "ftp", "gopher", "icecast", "hls+http"])
def test_addresses_are_names_of_files(tmp_path, monkeypatch, port, scheme):
    monkeypatch.chdir(tmp_path)
    for name in (f"{scheme}://127.0.0.1:{port}/v.mp4", f"{scheme}:127.0.0.1:{port}"):
        for path in (Path(name), name):
            with pytest.raises(MediaError, match="No such file"):
                VideoReader(Path(path))
            with pytest.raises(MediaError, match="No such file"):
                read_last_frames(Path(path), 2, frame_rate=2.0, size=32)


def test_protocols_are_names_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real = write_clock(tmp_path / "real.mp4", EVERY[:9])
    names = ("concat:real.mp4|real.mp4", "file:real.mp4", "subfile,,start,0,end,9999,,:real.mp4", "cache:real.mp4",
             "-", "pipe:0", "12:30:15.mp4", "%d.mp4", "data:video,x", "crypto:real.mp4", b"\xff\xfe.mp4")  # fmt: skip
    for name in map(os.fsdecode, names):
        with pytest.raises(MediaError, match="No such file"):
            VideoReader(Path(name))
        shutil.copy(real, name)
        with VideoReader(Path(name)) as video:
            assert clock(video.frames_at([0.5], 16)) == pytest.approx([0.5], abs=0.1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("v.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{place}\n#EXT-X-ENDLIST\n"),
        ("v.ffconcat", "ffconcat version 1.0\nfile '{place}'\n"),
        ("v.mp4", "ffconcat version 1.0\nfile '{place}'\n"),
        ("v.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5 RTP/AVP 96\n"),
        ("v.mpd", '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{place}</BaseURL></MPD>'),
        ("v.asx", '<asx version="3.0"><entry><ref href="{place}"/></entry></asx>'),
        ("v.mov", "RTSPtext\n{place}\n"),
        ("v.svg", '<svg xmlns="http://www.w3.org/2000/svg"><image href="{place}"/></svg>'),
    ],
)
def test_playlists_are_refused(tmp_path, port, name, text):
    real = write_clock(tmp_path / "real.mp4", EVERY[:9])
    for place in (f"http://127.0.0.1:{port}/x.ts", str(real), "real.mp4"):
        (tmp_path / name).write_text(text.format(place=place))
        with pytest.raises(MediaError, match=f"cannot read video .*{name}: "):
            VideoReader(tmp_path / name)


def test_reference_movies_are_refused(tmp_path):
    real = write_clock(tmp_path / "real.mp4", EVERY[:9])
    path = refer(write_clock(tmp_path / "v.mp4", EVERY[:9]), real)
    with av.open(str(path), options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        assert len(list(container.decode(video=0))) == 9  # it is one
    with pytest.raises(MediaError, match="no frames that can be decoded"):
        VideoReader(path)


def test_what_is_no_video_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.mp4").write_bytes(b"")
    for path in (*tmp_path.iterdir(), Path("/dev/zero"), Path("/proc/self/mem"), Path("/dev/stdin"), Path("a\0b")):
        with pytest.raises(MediaError, match="cannot read video ") as caught:
            list(open_video(path).frames())
        assert "\n" not in str(caught.value)


def test_pixels_that_nobody_has(tmp_path, monkeypatch):
    path = write_clock(tmp_path / "v.mp4", EVERY[:3], aspect=Fraction(3, 2))
    said, other = (b"pasp" + struct.pack(">II", *aspect) for aspect in ((3, 2), (50, 1)))
    assert said in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(said, other))
    with pytest.raises(MediaError, match="its pixels are 50 times as wide as high, at most 8"):
        VideoReader(path)
    monkeypatch.setattr(reading, "LARGEST", 64 * 48 - 1)
    with pytest.raises(MediaError, match="its frames have 3,072 pixels, at most 3,071 are read"):
        VideoReader(write_clock(tmp_path / "v.mkv", EVERY[:3]))


def test_the_cover_of_a_song_is_no_video(tmp_path):
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux([*cover.encode(picture.reformat(format="yuvj420p")), *cover.encode()])
        container.mux([*sound.encode(silence), *sound.encode()])
    with pytest.raises(MediaError, match="no video stream"):
        VideoReader(tmp_path / "song.m4a")
