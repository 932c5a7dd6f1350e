"""Any file is read by time, as a viewer sees it, and nothing but the file is opened."""

import os
import shutil
import socket
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from cogstyle.errors import MediaError
from cogstyle.video import Video, VideoReader, open_video, read_image, read_last_frames, reading, square
from tests.videos import clock, refer, turn, write_clock


def test_read_image_crops_the_middle(tmp_path):
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 200
    Image.fromarray(picture).save(tmp_path / "p.png")
    assert (read_image(tmp_path / "p.png", 32) == 200).all()
    (tmp_path / "bad.png").write_bytes(b"no image")
    for name in ("bad.png", "missing.png"):
        with pytest.raises(MediaError, match="cannot read image"):
            read_image(tmp_path / name, 32)


def test_the_end_of_a_video_is_read_by_time(tmp_path):
    frames = np.stack([np.full((48, 64, 3), 10 * k, np.uint8) for k in range(25)])  # 3 s at 8 a second
    Video(frames, 8.0).save(tmp_path / "v.mp4")
    last = read_last_frames(tmp_path / "v.mp4", 3, frame_rate=2.0, size=32)
    assert last.shape == (3, 32, 32, 3)
    assert np.abs(last.mean((1, 2, 3)) - [160, 200, 240]).max() < 4  # 2 s, 2.5 s and 3 s
    short = read_last_frames(tmp_path / "v.mp4", 3, frame_rate=0.5, size=32)
    assert len(short) == 2  # it is too short for a third
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    for name in ("bad.mp4", "none.mp4"):
        with pytest.raises(MediaError, match=f"cannot read video .*{name}"):
            read_last_frames(tmp_path / name, 3, frame_rate=2.0, size=32)


# ---------------------------------------------------------------- reading by time

EVERY = [k / 8 for k in range(33)]  # 4 s


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("odd.mkv", {"size": (63, 47), "codec": "ffv1", "pix_fmt": "bgr0"}),
        ("ten_bits.mkv", {"codec": "ffv1", "pix_fmt": "yuv420p10le"}),
        ("sound.mp4", {"audio": True}),
        ("old.avi", {"codec": "mpeg4"}),
        ("stream.ts", {}),
    ],
)
def test_any_file_is_read_by_time(tmp_path, name, options):
    with VideoReader(write_clock(tmp_path / name, EVERY, **options)) as video:
        assert 4.0 < video.duration < 4.2 and video.last == pytest.approx(4.0, abs=0.002)
        frames = video.frames_at([0.0, 0.5, 1.0, 3.5, 4.0], 32)
    assert frames.shape == (5, 32, 32, 3)
    assert clock(frames) == pytest.approx([0.0, 0.5, 1.0, 3.5, 4.0], abs=0.1)


def test_a_frame_is_shown_until_the_next_one_comes(tmp_path):
    """Variable frame rate: half of the time nothing new happens."""
    path = write_clock(tmp_path / "v.mkv", [0.0, 0.1, 0.2, 3.0, 3.05, 3.1, 6.0], codec="ffv1", pix_fmt="bgr0")
    with VideoReader(path) as video:
        frames = video.frames_at([0.15, 2.9, 3.0, 5.9, 6.0, 9.0], 16)
    assert clock(frames) == pytest.approx([0.1, 0.2, 3.0, 3.1, 6.0, 6.0], abs=0.06)


def test_moments_are_found_by_seeking(tmp_path, monkeypatch):
    path = write_clock(tmp_path / "long.mp4", [k / 20 for k in range(120)], gop=20)
    sought = []
    with VideoReader(path) as video:
        seek = video._seek
        monkeypatch.setattr(video, "_seek", lambda time: (seek(time), sought.append(time)))
        assert clock(video.frames_at([4.0, 4.5], 16)) == pytest.approx([4.0, 4.5], abs=0.1)
        assert sought == [pytest.approx(4.0, abs=0.01)]
        first = next(video.container.decode(video.stream)).time
        assert first > 4.0  # decoding went on from there, not from the start
        assert clock(video.frames_at([1.0], 16)) == pytest.approx([1.0], abs=0.1)  # and back


def test_what_cannot_be_sought_is_read_from_its_start(tmp_path, monkeypatch):
    def refuse(self, time):
        raise av.error.InvalidDataError(1, "no index")

    monkeypatch.setattr(VideoReader, "_seek", refuse)
    with VideoReader(write_clock(tmp_path / "v.mp4", EVERY)) as video:
        assert video.duration == pytest.approx(4.125, abs=0.01)
        assert clock(video.frames_at([3.0, 3.5], 16)) == pytest.approx([3.0, 3.5], abs=0.1)


def test_turned_and_stretched_pictures_come_out_upright(tmp_path):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = (200, 0, 0)  # red at the left, blue at the right
    picture[:, 32:] = (0, 0, 200)
    path = turn(write_clock(tmp_path / "v.mp4", [0.0, 0.5], picture=picture))
    with VideoReader(path) as video:
        frame = video.frames_at([0.0], 16)[0].astype(int)
    assert frame[3, 8, 0] > 150 > frame[3, 8, 2] + 100 and frame[12, 8, 2] > 150 > frame[12, 8, 0] + 100
    picture[:, :14] = picture[:, 50:] = 255
    wide = write_clock(tmp_path / "wide.mp4", [0.0, 0.5], picture=picture, aspect=Fraction(3, 2))
    with VideoReader(wide) as video:  # 96 x 48 when shown: the middle 32 of 64 columns fill the square
        frame = video.frames_at([0.0], 48)[0].astype(int)
    assert frame.shape == (48, 48, 3) and frame[24, :20, 0].min() > 150 > frame[24, :, 1].max()
    assert np.array_equal(square(np.arange(12, dtype=np.uint8).reshape(2, 6, 1), 2, pixel_aspect=0.5)[0, 0], 1)


def test_colours_follow_what_the_file_says(tmp_path):
    """The same numbers are another colour in BT.709 than in BT.601."""
    planes = [np.full(shape, value, np.uint8) for shape, value in (((32, 32), 100), ((8, 32), 90), ((8, 32), 200))]
    found = {}
    for name, matrix, height in (("bt601", 5, 32), ("bt709", 1, 32), ("unsaid", 2, 32), ("unsaid_hd", 2, 720)):
        path = tmp_path / f"{name}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=8)
            stream.width, stream.height, stream.pix_fmt = 32, height, "yuv420p"
            stream.codec_context.colorspace = matrix
            frame = av.VideoFrame.from_ndarray(
                np.concatenate([plane.repeat(height // 32 + 1, 0)[: len(plane) * height // 32] for plane in planes]),
                format="yuv420p",
            )
            frame.colorspace = matrix
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        with VideoReader(path) as video:
            found[name] = video.frames_at([0.0], 8)[0, 4, 4].tolist()
    assert np.allclose(found["bt601"], [213, 54, 21], atol=4) and np.allclose(found["bt709"], [227, 68, 18], atol=4)
    assert found["unsaid"] == found["bt601"] and found["unsaid_hd"] == found["bt709"]


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


# ---------------------------------------------------------------- as a viewer sees it


@pytest.mark.parametrize("matrix", [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0),
                                    (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)])  # fmt: skip
def test_turned_and_mirrored_pictures(tmp_path, matrix):
    """Where the matrix sends each corner of the picture, there its colour is seen."""
    corners = {(-1, -1): (200, 0, 0), (1, -1): (0, 160, 0), (-1, 1): (0, 0, 200), (1, 1): (200, 200, 200)}
    picture = np.zeros((48, 48, 3), np.uint8)
    for (x, y), colour in corners.items():
        picture[24 * (y > 0) :, 24 * (x > 0) :][:24, :24] = colour
    path = turn(write_clock(tmp_path / "v.mp4", [0.0, 0.5], size=(48, 48), picture=picture), matrix)
    a, b, c, d = matrix
    with open_video(path) as video:
        for frame in (video.frames_at([0.0], 48)[0], next(video.frames())):
            for (x, y), colour in corners.items():
                column, row = a * x + c * y, b * x + d * y
                assert np.abs(frame[24 + 12 * row, 24 + 12 * column].astype(int) - colour).max() < 12


def write_frames(path, pictures, *, codec="libx264", rate=8, pix_fmt="yuv420p", options=None, b_frames=2, form="rgb24"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.gop_size = pix_fmt, 12
        stream.codec_context.max_b_frames = b_frames
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=form)))
        container.mux(stream.encode())
    return path


RISING = [np.full((32, 32, 3), 5 * k, np.uint8) for k in range(33)]  # as bright as `clock` reads at 8 a second


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_avi_with_b_frames_begins_with_its_first_picture(tmp_path, codec, b_frames):
    with VideoReader(write_frames(tmp_path / "v.avi", RISING, codec=codec, b_frames=b_frames)) as video:
        assert (video.last, video.duration) == pytest.approx((4.0, 4.125))
        assert clock(video.frames_at([0.0, 0.125, 0.5, 2.0, 4.0], 16)) == pytest.approx([0, 0.125, 0.5, 2, 4], abs=0.1)
        assert clock(video.frames_at([3.0], 16)) == pytest.approx([3.0], abs=0.1)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_cut_transport_streams_begin_where_decoding_can(tmp_path, codec):
    data = write_frames(
        tmp_path / "whole.ts", RISING, codec=codec, rate=25 if codec == "mpeg2video" else 8
    ).read_bytes()
    (tmp_path / "cut.ts").write_bytes(data[len(data) // 5 :])
    with VideoReader(tmp_path / "cut.ts") as video:
        step = 1 / video.rate
        found = clock(video.frames_at([0.0, step, 4 * step], 16))
    assert np.allclose(np.subtract(found, found[0]), [0, 0.125, 0.5], atol=0.1)
    assert 0.5 < found[0] < 2.0


@pytest.mark.parametrize("offsets", [(0, 0), (5000, 0), (0, 5000)])
def test_joined_transport_streams_are_read_to_their_end(tmp_path, offsets):
    data = b""
    for number, offset in enumerate(offsets):
        path = write_frames(tmp_path / f"{number}.ts", RISING)
        with av.open(str(path)) as source, av.open(str(tmp_path / "moved.ts"), "w") as moved:
            stream = moved.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.pts, packet.dts, packet.stream = (
                        packet.pts + 90_000 * offset,
                        packet.dts + 90_000 * offset,
                        stream,
                    )
                    moved.mux(packet)
        data += (tmp_path / "moved.ts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(data)
    with VideoReader(tmp_path / "joined.ts") as video:
        assert (video.last, video.duration) == pytest.approx((8.125, 8.25), abs=0.01)
        shown = clock(video.frames_at([0.0, 4.0, 4.125, 5.125, 8.125], 16))
        assert shown == pytest.approx([0, 4, 0, 1, 4], abs=0.1) and len(list(video.frames())) == 66


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("v.mov", "qtrle", "argb"), ("v.mov", "png", "rgba"), ("v.webm", "libvpx-vp9", "yuva420p")],
)
def test_transparent_videos_are_laid_over_white(tmp_path, name, codec, pix_fmt):
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[:, :16] = (0, 255, 0, 0)  # green that nobody sees
    picture[:, 16:] = (200, 0, 0, 255)
    options = {"auto-alt-ref": "0"} if "vp9" in codec else {}
    path = write_frames(
        tmp_path / name, [picture] * 9, codec=codec, pix_fmt=pix_fmt, form="rgba", b_frames=0, options=options
    )
    with VideoReader(path) as video:
        frames = [*video.frames_at([0.0, 0.5, 1.0], 32), video.frames_at([0.25], 32)[0], *video.frames()]
    for frame in frames:
        assert (
            np.abs(frame[8, 4].astype(int) - 255).max() < 3 and np.abs(frame[8, 28].astype(int) - [200, 0, 0]).max() < 3
        )
    assert len(frames) == 13


def test_interlaced_fields_become_frames(tmp_path):
    """A bar that moves between two fields leaves a comb where lines of both are shown as one frame."""
    pictures = []
    for k in range(12):
        picture = np.zeros((64, 96, 3), np.uint8)
        for field in (0, 1):
            picture[field::2, 6 * k + 3 * field : 6 * k + 3 * field + 12] = 220
        pictures.append(picture)
    path = write_frames(tmp_path / "v.mp4", pictures, options={"x264-params": "tff=1"})
    with VideoReader(path) as video:
        assert video.interlaced and video.last == pytest.approx(11 / 8, abs=0.01)
        frames = np.stack(list(video.frames())).astype(int)
    assert len(frames) == 12 and np.abs(np.diff(frames[2:-2, 8:-8, :, 0], axis=1)).mean() < 2


@pytest.mark.parametrize(("size", "matrix"), [((720, 576), 5), ((1280, 544), 1), ((960, 720), 1), ((640, 480), 5)])
def test_untagged_colours_are_those_that_players_show(tmp_path, size, matrix):
    """BT.709 beyond the sizes of television, whichever side is larger."""
    found = []
    for said in (2, matrix):
        frame = av.VideoFrame.from_ndarray(np.full((size[1] * 3 // 2, size[0]), 90, np.uint8), format="yuv420p")
        with av.open(str(tmp_path / "v.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=8)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.colorspace = frame.colorspace = said
            container.mux([*stream.encode(frame), *stream.encode()])
        with VideoReader(tmp_path / "v.mkv") as video:
            found.append(video.frames_at([0.0], 8)[0, 4, 4].tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["v.mp4", "v.gif", "v.webp", "v"])
def test_our_own_videos_are_read_wherever_one_is_asked_for(tmp_path, name):
    Video(np.stack([np.full((48, 48, 3), 10 * k, np.uint8) for k in range(25)]), 8.0).save(tmp_path / name)
    with open_video(tmp_path / name) as video:
        assert (video.rate, video.last, video.duration) == pytest.approx((8.0, 3.0, 3.125), abs=0.02)
        assert len(list(video.frames())) == 25
    last = read_last_frames(tmp_path / name, 3, frame_rate=2.0, size=32)
    assert np.abs(last.mean((1, 2, 3)) - [160, 200, 240]).max() < 4


def test_a_folder_without_a_rate_can_be_seen_but_not_timed(tmp_path):
    Video(np.zeros((3, 8, 8, 3), np.uint8), 8.0).save(tmp_path / "v")
    (tmp_path / "v.json").unlink()
    with open_video(tmp_path / "v") as video:
        assert len(list(video.frames())) == 3 and video.rate is None
        with pytest.raises(MediaError, match="nothing says how many frames a second"):
            _ = video.last


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


# ---------------------------------------------------------------- nothing but the file is opened


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


CLIPS = Path(__file__).parents[2] / "shared" / "clips"


@pytest.mark.skipif(not CLIPS.exists(), reason="no real clips here")
def test_real_files():
    """AV1 without a frame count, 10-bit HEVC, phones held upright and upside down, packets out of order, damage."""
    durations = {"av1_video.mkv": 5.0, "h265_10bits.mp4": 1.0, "rotated_90.mov": 0.1, "unordered.mov": 0.125}
    for name, duration in durations.items():
        with VideoReader(CLIPS / name) as video:
            assert video.duration == pytest.approx(duration, abs=0.01)
            assert video.frames_at([k * duration / 4 for k in range(5)], 32).shape == (5, 32, 32, 3)
    with VideoReader(CLIPS / "rotated_90.mov") as one, VideoReader(CLIPS / "rotated_180.mov") as other:
        assert [next(v.container.decode(v.stream)).rotation for v in (one, other)] == [-90, -180]
    with (
        pytest.raises(MediaError, match=r"corrupted\.mp4: Invalid data"),
        VideoReader(CLIPS / "corrupted.mp4") as video,
    ):
        video.frames_at([0.0, 1.0, 2.0, 3.0, 4.0], 32)


TRIALS = CLIPS.parent / "trials"


@pytest.mark.skipif(not TRIALS.exists(), reason="no trial files here")
def test_trial_files():
    corners = {"rot90": ["b", "w", "r", "g"], "rot90hflip": ["r", "g", "b", "w"]}
    for name, wanted in corners.items():
        with open_video(TRIALS / f"{name}.mp4") as video:
            frame = video.frames_at([0.0], 96)[0].astype(int)
        found = [frame[y, x] for y in (8, 88) for x in (8, 88)]
        assert ["w" if p.min() > 200 else "rgb"[p.argmax()] for p in found] == wanted
    with open_video(TRIALS / "bf.avi") as video:
        assert video.last == pytest.approx(2.875) and video.frames_at([0.0], 96)[0, 48, 48].max() < 20
    with open_video(TRIALS / "gopcut.ts") as video:
        assert video.duration == pytest.approx(6.0) and len(list(video.frames())) == 60
    with open_video(TRIALS / "alpha_qtrle.mov") as video:
        assert (video.frames_at([0.0], 96)[0, :, :40] == 255).all()
    with open_video(TRIALS / "interlaced.mp4") as video:
        assert video.interlaced
    with pytest.raises(MediaError, match="50 times as wide"):
        open_video(TRIALS / "tinysar.mp4")
    assert len(read_last_frames(TRIALS / "own_output.webp", 3, frame_rate=2.0, size=64)) == 3
