"""Rewards of somebody's: a server on this machine, a TorchScript network."""

import base64
import io
import json
import threading
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import torch

from cogstyle.errors import TrainingError
from cogstyle.training.rewards import Clip, Reward, RewardConfig

CLIP = Clip(np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3), [0.0, 0.5], "ein roter Kreis 圆")


class Stub(BaseHTTPRequestHandler):
    """Answers with the sum of the frames; other paths misbehave."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        frames = np.load(io.BytesIO(base64.b64decode(asked["frames"])), allow_pickle=False)
        self.server.asked = {**asked, "frames": frames}
        answers = {"/number": str(int(frames.sum())), "/object": '{"reward": 0.5}', "/words": "well", "/null": "null"}
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://example.org/")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answers[self.path].encode())

    def log_message(self, *_):
        pass


def test_a_reward_at_an_address(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # asked by nobody
    server = HTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        total = Reward([RewardConfig(f"{address}/number", weight=2.0), RewardConfig(f"{address}/object", weight=-1.0)])
        assert total(CLIP) == 2.0 * CLIP.frames.sum(dtype=int) - 0.5
        assert server.asked["caption"] == CLIP.caption and server.asked["seconds"] == [0.0, 0.5]
        assert np.array_equal(server.asked["frames"], CLIP.frames)
        for path, said in (("words", "fails"), ("null", "gives None"), ("away", "it answers 302")):
            with pytest.raises(TrainingError, match=said):
                Reward([RewardConfig(f"{address}/{path}")])(CLIP)
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(TrainingError, match=r"fails: .*refused"):
        Reward([RewardConfig(f"{address}/number")])(CLIP)


class Mean(torch.nn.Module):
    def forward(self, x_BCFHW: torch.Tensor) -> torch.Tensor:
        return x_BCFHW.mean((1, 2, 3, 4))[:, None]


def test_a_reward_of_torchscript(tmp_path):
    path = tmp_path / "mean.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Mean()).save(str(path))
    (tmp_path / "mean.toml").write_text("frames = 2\nsize = 4\n")
    reward = Reward([RewardConfig(str(path))])
    assert reward(CLIP) == pytest.approx(CLIP.frames.mean() / 255, abs=1e-6) and len(reward.digests[0]) == 64
    (tmp_path / "mean.toml").write_text("frames = 3\nsize = 4\n")
    with pytest.raises(TrainingError, match="2 frames, the extractor needs 3"):
        Reward([RewardConfig(str(path))])(CLIP)
