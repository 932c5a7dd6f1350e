"""A real server process, asked by the real `openai` client and by clients that mean no good."""

import base64
import http.client
import io
import json
import signal
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

import cogstyle
from cogstyle.cli.main import main
from cogstyle.sampling.options import Options
from tests.server.running import PATIENCE, Server, serving

openai = pytest.importorskip("openai")
pytest.importorskip("fastapi")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # OpenAI ends its own service, not the API


def client(server: Server, token: str = "none") -> "openai.OpenAI":
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key=token, max_retries=0, timeout=PATIENCE)


def png(shade: int = 200, size: tuple[int, int] = (64, 48)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (shade, 40, 40)).save(file, "png")
    return file.getvalue()


def test_the_openai_client(server, debug_bundle):
    """Create, retrieve, list, download, delete; the video is the pipeline's, to the byte."""
    with client(server) as ours:
        made = ours.videos.create(
            prompt="一个红色圆形 😀", seconds="4", size="96x96", model="bundle", extra_body={"seed": 7, "levels": 1}
        )
        assert (made.object, made.status, made.seconds, made.size) == ("video", "queued", "4", "96x96")
        done = ours.videos.poll(made.id, poll_interval_ms=20)
        assert done.status == "completed" and done.progress == 100 and done.error is None and done.completed_at
        options = Options(seed=7, levels=1, frame_rate=1.0, upscale=True)  # 4 seconds: one keyframe a second
        (video,) = cogstyle.load(debug_bundle).sample(["一个红色圆形 😀"], [7], options)
        assert ours.videos.download_content(done.id).read() == video.encoded(".mp4")
        sheet = ours.videos.download_content(done.id, variant="spritesheet").read()
        assert Image.open(io.BytesIO(sheet)).size == (5 * 98, 98)
        info = server.get(f"/v1/videos/{done.id}/content?variant=json")
        assert info["fps"] == done.fps == 2 and info["frames"] == done.num_frames == 9 and info["id"] == done.id
        others = [ours.videos.create(prompt=f"{n}", extra_body={"levels": 0}).id for n in range(3)]
        assert [one.id for one in ours.videos.list(limit=2)][:4] == [*reversed(others), done.id]  # over two pages
        assert [one.id for one in ours.videos.list(order="asc")][-3:] == others
        assert [model.id for model in ours.models.list()] == ["bundle"]
        for identity in (done.id, *others):
            assert ours.videos.delete(identity).deleted
            with pytest.raises(openai.NotFoundError, match="there is no video"):
                ours.videos.delete(identity)


@pytest.mark.parametrize("way", ["upload", "data url", "json"])
def test_a_first_frame_is_kept(server, debug_bundle, tmp_path, way):
    picture, fields = png(), {"prompt": "a red circle", "levels": 0}
    address = "data:image/png;base64," + base64.b64encode(picture).decode()
    if way == "json":
        made = server.post(**fields, input_reference={"image_url": address})
    else:
        sent = {"input_reference": picture} if way == "upload" else {}
        extra = {"levels": 0} | ({} if sent else {"input_reference": {"image_url": address}})
        with client(server) as ours:
            made = ours.videos.create(prompt="a red circle", **sent, extra_body=extra).to_dict()
    assert server.finished(made["id"])["status"] == "completed" and made["pictures"] == 1
    (tmp_path / "a.png").write_bytes(picture)
    video = cogstyle.load(debug_bundle)("a red circle", levels=0, first_frame=tmp_path / "a.png")
    status, body = server.ask("GET", f"/v1/videos/{made['id']}/content")
    assert status == 200 and body == video.encoded(".mp4")


def test_fields_of_other_engines(server):
    """Width, height, number of frames and frames a second, as vLLM-Omni and SGLang have them."""
    made = server.post(prompt="x", width=96, height=96, num_frames=17, fps=8)
    wanted = {"size": "96x96", "levels": 2, "frame_rate": 2.0, "seconds": "2", "fps": 8.0}
    assert {name: made[name] for name in wanted} == wanted
    status, _ = server.ask("DELETE", f"/v1/videos/{made['id']}")
    assert status == 200


def test_in_betweening_is_the_command_s(server, debug_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = [png(shade) for shade in (0, 120, 250)]
    for name, picture in zip("abc", pictures, strict=True):
        (tmp_path / f"{name}.png").write_bytes(picture)
    argv = ["interpolate", "a.png", "b.png", "c.png", "--prompt", "x", "--levels", "1", "--frame-rate", "2"]
    assert main([*argv, "--out", "v.mp4", "--bundle", str(debug_bundle), "--quiet"]) == 0
    boundary = "xXx"
    parts = [
        f'name="{name}"\r\n\r\n{value}'.encode()
        for name, value in (("prompt", "x"), ("seconds", "1.0"), ("levels", "1"))
    ]
    parts += [f'name="images"; filename="{n}.png"\r\n\r\n'.encode() + picture for n, picture in enumerate(pictures)]
    body = b"".join(b"--xXx\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--xXx--\r\n"
    status, answer = server.ask("POST", "/v1/videos", body, Content_Type=f"multipart/form-data; boundary={boundary}")
    assert status == 200, answer
    made = json.loads(answer)
    assert made["num_frames"] == 5 and server.finished(made["id"])["status"] == "completed"
    assert server.ask("GET", f"/v1/videos/{made['id']}/content")[1] == (tmp_path / "v.mp4").read_bytes()


BAD = [
    (b"{", "no JSON"),
    (b"[1]", "must be a JSON object"),
    (b"[" * 100_000, "no JSON"),
    (b"", "no JSON"),
    (b"\xff\xfe", "no JSON"),
    ({}, "field prompt is missing"),
    ({"prompt": 5}, "prompt 5 must be"),
    ({"prompt": " "}, "prompt is empty"),
    ({"prompt": "x" * 2001}, "2,001 characters, at most 2,000"),
    ({"prompt": "word " * 60}, "text span"),
    ({"prompt": "\ud83d"}, "surrogate"),
    ({"prompt": "x", "seconds": "3"}, "5 keyframes last 1, 2, 4 seconds"),
    ({"prompt": "x", "seconds": "nan"}, "seconds 'nan' must be"),
    ({"prompt": "x", "seconds": [4]}, "seconds"),
    ({"prompt": "x", "size": "1280x720"}, "it makes 32x32 and 96x96"),
    ({"prompt": "x", "width": 96}, "size '96xNone' is none of bundle"),
    ({"prompt": "x", "width": 96, "height": 96, "size": "96x96"}, "exclude each other"),
    ({"prompt": "x", "fps": 24, "levels": 1}, "9 frames are shown at 2, 4, 8, 16 a second"),
    ({"prompt": "x", "fps": 8, "seconds": 4}, "seconds and fps exclude each other"),
    ({"prompt": "x", "model": "../../etc/passwd"}, "is not served; there are bundle"),
    ({"prompt": "x", "seed": -1}, "seed -1 must be"),
    ({"prompt": "x", "seed": 2**63}, "below 2^63"),
    ({"prompt": "x", "levels": 4}, "levels 4 must be 0 to 3"),
    ({"prompt": "x", "num_frames": 6}, "5, 9, 17, 33"),
    ({"prompt": "x", "levels": 1, "num_frames": 9}, "exclude each other"),
    ({"prompt": "x", "temperature": 0}, "temperature"),
    ({"prompt": "x", "out": "/etc/x"}, "unknown field 'out'"),
    ({"prompt": "x", "input_reference": "/etc/passwd"}, "fetches no addresses"),
    ({"prompt": "x", "input_reference": {"image_url": "http://localhost/"}}, "fetches no addresses"),
    ({"prompt": "x", "input_reference": {"file_id": "f"}}, "image_url alone"),
    (
        {"prompt": "x", "input_reference": "data:image/png;base64,aGFsbG8="},
        "cannot read image input_reference: it is no",
    ),
    ({"prompt": "x", "input_reference": "data:image/png;base64,%%"}, "no base64"),
    ({"prompt": "x", "images": ["data:image/png;base64,"]}, "give 2 to 5"),
    ({"prompt": "x", "images": 3}, "images 3"),
    ({"prompt": "x", "images": [3] * 6}, "give 2 to 5"),
]


@pytest.mark.parametrize(("body", "message"), BAD)
def test_wrong_requests_are_answered_with_a_sentence(server, body, message):
    found, answer = server.ask("POST", "/v1/videos", body, Content_Type="application/json")
    said = json.loads(answer)["error"]
    assert found == 400 and message in said["message"] and said["type"] == "invalid_request_error"
    assert "\n" not in said["message"] and len(said["message"]) < 400 and "/tmp" not in said["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/videos/video_0", 404, "there is no video 'video_0'"),
        ("DELETE", "/v1/videos/video_0", 404, "there is no video"),
        ("GET", "/v1/videos/..%2f..%2fetc%2fpasswd/content", 404, "there is no"),
        ("GET", "/v1/videos/%2e%2e/content", 404, "there is no"),
        ("GET", "/v1/videos/video_0%00/events", 404, "there is no"),
        ("GET", "/v1/../queue.sqlite", 404, "there is nothing at"),
        ("GET", "/v1/videos?limit=0", 400, "limit '0'"),
        ("GET", "/v1/videos?after=x", 404, "there is no video 'x'"),
        ("GET", "/v1/videos?order=up", 400, "order 'up'"),
        ("PUT", "/v1/videos", 405, "PUT is not for this address"),
        ("GET", "/", 404, "there is nothing at '/'"),
    ],
)  # fmt: skip
def test_addresses_that_lead_nowhere(server, method, path, status, message):
    found, answer = server.ask(method, path)
    assert found == status and message in json.loads(answer)["error"]["message"]


def test_large_bodies(server):
    """What says its size, what says none, and what lies about its kind."""
    headers = {"Content_Type": "application/json"}
    status, answer = server.ask("POST", "/v1/videos", b'{"prompt": "' + b"x" * 33_000_000 + b'"}', **headers)
    assert status == 413 and "at most 32,000,000 are read" in answer.decode()
    chunks = (b"y" * 1_000_000 for _ in range(40))
    connection = http.client.HTTPConnection(server.host, timeout=PATIENCE)
    connection.request("POST", "/v1/videos", chunks, {"Content-Type": "application/json"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    with socket.create_connection(tuple(server.host.split(":")), timeout=PATIENCE) as line:
        line.sendall(f"POST /v1/videos HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: {10**15}\r\n\r\n".encode())
        assert b" 413 " in line.recv(4096)
    form = "multipart/form-data; boundary=x"
    cut = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n'
    for body in (b"no form", b"--x\r\n" * 99, cut):
        status, answer = server.ask("POST", "/v1/videos", body, Content_Type=form)
        assert status == 400 and json.loads(answer)["error"]["message"], (body, answer)
    assert server.get("/health") == {"status": "ok"}


def test_a_large_picture_is_a_picture(server):
    """30 MB of noise: decoded, cut to the bundle's size, and no more than that is kept."""
    noise = np.random.default_rng(0).integers(0, 256, (3200, 3200, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "bmp")
    with client(server) as ours:
        made = ours.videos.create(prompt="x", input_reference=file.getvalue(), extra_body={"levels": 0})
        assert ours.videos.poll(made.id, poll_interval_ms=20).status == "completed"


def test_events_show_the_video_grow(server):
    made = server.post(prompt="a red circle", levels=3, size="96x96")
    connection = http.client.HTTPConnection(server.host, timeout=PATIENCE)
    connection.request("GET", f"/v1/videos/{made['id']}/events")
    answer = connection.getresponse()
    assert answer.status == 200 and answer.getheader("content-type").startswith("text/event-stream")
    blocks = [
        dict(line.split(": ", 1) for line in block.splitlines())
        for block in answer.read().decode().split("\n\n")
        if "event" in block
    ]
    connection.close()
    states = [json.loads(block["data"]) for block in blocks if block["event"] == "video"]
    frames = {
        frame["time"]: frame["image"]
        for block in blocks
        if block["event"] == "frames"
        for frame in json.loads(block["data"])
    }
    assert states[-1]["status"] == "completed" and [one["progress"] for one in states] == sorted(
        one["progress"] for one in states
    )
    assert set(frames) <= {n / 8 for n in range(33)} and 0.0 in frames
    picture = Image.open(io.BytesIO(base64.b64decode(frames[0.0].removeprefix("data:image/webp;base64,"))))
    assert picture.size == (32, 32)


def test_token_and_other_pages(debug_bundle, tmp_path):
    """Without the token nothing; from a page elsewhere, or by another name of this machine, nothing."""
    with serving(tmp_path, debug_bundle, "--token", "geheim") as server:
        assert server.ask("GET", "/health")[0] == 200
        for given in (
            {},
            {"Authorization": "Bearer geheiM"},
            {"Authorization": "geheim"},
            {"Authorization": "Bearer \xe9"},
        ):
            status, answer = server.ask("GET", "/v1/videos", **given)
            assert status == 401 and "asks for its token" in answer.decode()
        right = {"Authorization": "Bearer geheim"}
        assert server.ask("GET", "/v1/videos", **right)[0] == 200
        for trick in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
            assert server.ask("GET", "/v1/videos", **right, **trick)[0] == 403
        assert server.ask("GET", "/v1/videos", **right, Origin=server.address)[0] == 200
        with client(server, "geheim") as ours, client(server, "other") as theirs:
            assert not ours.videos.list().data
            with pytest.raises(openai.AuthenticationError):
                theirs.videos.list()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_who_watches_does_not_hold_up_the_end(debug_bundle, tmp_path, number):
    with serving(tmp_path, debug_bundle) as server:
        made = [server.post(prompt="a red circle", seed=seed, size="96x96")["id"] for seed in range(40)]
        with closing(http.client.HTTPConnection(server.host, timeout=PATIENCE)) as connection:
            connection.request("GET", f"/v1/videos/{made[-1]}/events")
            answer = connection.getresponse()
            assert answer.readline().startswith(b"event: ")
            server.stop(number)
            assert server.process.returncode in (-signal.SIGTERM, 130)
            assert b'"completed"' not in answer.read()  # its last chunk comes


@pytest.mark.slow
def test_killed_and_started_again(debug_bundle, tmp_path):
    """kill -9 in the middle of a batch: nothing is lost, and every video is the one that it would have been."""
    with serving(tmp_path, debug_bundle) as server:
        made = [server.post(prompt="a red circle", seed=seed, size="96x96")["id"] for seed in range(16)]
        parts, end = (
            [tmp_path / "videos" / identity / "video.mp4.part" for identity in made],
            time.monotonic() + PATIENCE,
        )
        while not any(part.exists() for part in parts):
            assert time.monotonic() < end
            time.sleep(0.002)
        server.stop(signal.SIGKILL)
        assert not all((tmp_path / "videos" / identity / "video.mp4.json").exists() for identity in made)
    with serving(tmp_path, debug_bundle) as server:
        assert (
            main(["serve", "--data", str(tmp_path), "--bundle", str(debug_bundle), "--port", "0"]) == 2
        )  # it is in use
        assert {server.finished(identity)["status"] for identity in made} == {"completed"}
        pipe = cogstyle.load(debug_bundle)
        whole = pipe.sample(["a red circle"] * 16, [*range(16)], Options(frame_rate=1.0, upscale=True))
        for identity, video in zip(made, whole, strict=True):
            assert server.ask("GET", f"/v1/videos/{identity}/content")[1] == video.encoded(".mp4")
        waiting = [server.post(prompt="a red circle", seed=seed, size="96x96")["id"] for seed in range(32)]
        server.stop(signal.SIGTERM)
        assert server.process.returncode in (0, -signal.SIGTERM)
    assert not [*tmp_path.rglob("*.scratch")]
    with sqlite3.connect(tmp_path / "queue.sqlite") as db:
        kept = {row[0] for row in db.execute("SELECT id FROM videos WHERE status != 'failed'")}
    assert {*made, *waiting} == kept


def peak(process: int) -> int:
    """The most kilobytes of memory that a process held."""
    with open(f"/proc/{process}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


@pytest.mark.slow
def test_two_hundred_requests_of_sixteen_clients(debug_bundle, tmp_path):
    """None lost, none twice, each its own; memory does not grow with what was made, and a full queue says so."""
    with serving(tmp_path, debug_bundle, "--queue", "60") as server, client(server) as ours:

        def order(number: int) -> tuple[int, str]:
            fields = {"prompt": f"number {number}", "extra_body": {"levels": 0, "seed": number}}
            while True:
                try:
                    return number, ours.videos.create(**fields).id
                except openai.RateLimitError as error:
                    assert "the queue holds 60" in str(error)
                    time.sleep(0.2)

        def burst(numbers: range) -> dict[int, str]:
            with ThreadPoolExecutor(16) as clients:
                made = dict(clients.map(order, numbers))
                videos = list(clients.map(server.finished, made.values()))
            assert {video["status"] for video in videos} == {"completed"}
            assert all(video["prompt"] == f"number {number}" for number, video in zip(made, videos, strict=True))
            return made

        made = burst(range(80))
        before = peak(server.process.pid)
        made |= burst(range(80, 200))
        assert peak(server.process.pid) - before < 100_000
        assert len(set(made.values())) == 200
        assert sorted(one.id for one in ours.videos.list(order="asc", limit=50)) == sorted(made.values())
        stamps = [(tmp_path / "videos" / identity / "video.mp4").stat().st_mtime_ns for identity in made.values()]
        for number in (0, 63, 199):
            info = server.get(f"/v1/videos/{made[number]}/content?variant=json")
            assert (info["prompt"], info["options"]["seed"]) == (f"number {number}", number)
    assert stamps == [(tmp_path / "videos" / identity / "video.mp4").stat().st_mtime_ns for identity in made.values()]
