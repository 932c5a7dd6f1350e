"""Any file is read by time: what is shown at a moment is the frame that a viewer sees then."""

import av
import numpy as np
import pytest
from PIL import Image

from cogstyle.errors import MediaError
from cogstyle.video import Video, VideoReader, open_video, read_image, read_last_frames
from tests.videos import EVERY, RISING, clock, write_clock, write_frames


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
