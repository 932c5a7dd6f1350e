"""A pipeline called as other libraries' are; the same from several threads; what it says of itself."""

import base64
import pydoc
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import cogstyle
from cogstyle.devices import computing_threads
from cogstyle.errors import ConfigError, PromptError

PROMPT = "a red circle"


@pytest.fixture(scope="module")
def pipe(debug_bundle):
    return cogstyle.Pipeline.from_pretrained(debug_bundle, dtype=torch.float32)


def tokens(video):
    return video.tokens.tolist()


@pytest.mark.filterwarnings("ignore:no training caption")
class TestCalls:
    def test_seeds_and_numbers_of_videos(self, pipe):
        alone = [tokens(pipe(PROMPT, seed=seed, levels=0)) for seed in (5, 6, 9)]
        assert alone[0] != alone[1]
        several = pipe(PROMPT, seed=5, num_videos_per_prompt=2, levels=0)
        assert [tokens(video) for video in several] == alone[:2]
        assert [video.info["options"]["seed"] for video in several] == [5, 6]
        listed = pipe([PROMPT, PROMPT], seed=[9, 5], levels=0)
        assert [tokens(video) for video in listed] == [alone[2], alone[0]]
        assert isinstance(pipe(PROMPT, levels=0), cogstyle.Video)

    def test_generators_draw_seeds(self, pipe):
        generator = torch.Generator().manual_seed(1)
        first, second = (tokens(pipe(PROMPT, generator=generator, levels=0)) for _ in range(2))
        assert first != second  # it goes on
        again = [torch.Generator().manual_seed(1) for _ in range(2)]
        assert [tokens(v) for v in pipe(PROMPT, generator=again, num_videos_per_prompt=2, levels=0)] == [first] * 2

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"seed": [1, 2]}, ConfigError, "2 seeds for 1 videos"),
            ({"num_videos_per_prompt": 0}, ConfigError, "num_videos_per_prompt 0"),
            ({"generator": [torch.Generator()], "num_videos_per_prompt": 2}, ConfigError, "1 generators for 2 videos"),
            ({"generator": torch.Generator(), "seed": 3}, ConfigError, "seed and generator exclude"),
            ({"seed": [-1]}, ConfigError, "seed -1 must be 0 or more"),
            ({"output_type": "gif"}, ConfigError, "output_type 'gif' must be"),
            ({"framerate": 2}, ConfigError, "unknown option framerate; known are "),
            ({"negative_prompt": 3}, ConfigError, "negative_prompt must be a text"),
            ({"negative_prompt": "blue", "guidance": 1.0}, ConfigError, "has no effect without guidance"),
            ({"negative_prompt": "blue " * 99, "guidance": 2.0}, PromptError, "the text span holds"),
        ],
    )
    def test_what_cannot_be_called(self, pipe, options, error, message):
        with pytest.raises(error, match=message):
            pipe(PROMPT, levels=0, **options)

    def test_output_types(self, pipe):
        video = pipe(PROMPT, levels=0)
        frames = pipe(PROMPT, levels=0, output_type="np")
        assert frames.dtype == np.float32 and (np.rint(frames * 255).astype(np.uint8) == video.frames).all()
        pt = pipe(PROMPT, levels=0, output_type="pt")
        assert pt.shape == (5, 3, 32, 32) and np.array_equal(pt.permute(0, 2, 3, 1).numpy(), frames)
        pictures = pipe([PROMPT], levels=0, output_type="pil")[0]
        assert [np.asarray(picture).tolist() for picture in pictures] == video.frames.tolist()
        assert [np.asarray(picture).tolist() for picture in video.to_pil()] == video.frames.tolist()

    def test_the_negative_prompt_is_the_unconditional_text(self, pipe):
        plain = tokens(pipe(PROMPT, levels=0, guidance=3.0))
        assert tokens(pipe(PROMPT, levels=0, guidance=3.0, negative_prompt=" ")) == plain
        other = pipe(PROMPT, levels=0, guidance=3.0, negative_prompt="a blue square")
        assert tokens(other) != plain and other.info["options"]["negative_prompt"] == "a blue square"
        same = pipe(PROMPT, levels=0, guidance=3.0, negative_prompt=PROMPT)  # guided away from itself: not at all
        assert tokens(same)[1:] == tokens(pipe.sample([PROMPT], [0], cogstyle.Options(levels=0, guidance=1.0))[0])[1:]

    def test_every_step_is_told(self, pipe):
        told = []
        pipe(PROMPT, levels=1, callback_on_step_end=lambda *said: told.append(said))
        drawn, totals = [said[1] for said in told], {said[2] for said in told}
        assert drawn == sorted(drawn) and totals == {drawn[-1]} and all(said[0] is pipe for said in told)
        frames = [0 if said[3]["tokens"] is None else said[3]["tokens"].shape[1] for said in told]
        assert frames == sorted(frames) and {0, 1, 2, 5} <= set(frames)

        class Stop(Exception):  # noqa: N818
            pass

        def stop(*said):
            raise Stop

        with pytest.raises(Stop):
            pipe(PROMPT, levels=0, callback_on_step_end=stop)

    def test_four_threads_give_what_one_gives(self, debug_bundle):
        """Weights are read by all of them at once, too."""
        fresh = cogstyle.load(debug_bundle)
        wanted = [tokens(cogstyle.load(debug_bundle)(PROMPT, seed=seed, levels=1)) for seed in range(4)]
        before = torch.get_num_threads()
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda seed: tokens(fresh(PROMPT, seed=seed, levels=1)), [0, 1, 2, 3, 3, 2, 1, 0]))
        assert found == wanted + wanted[::-1] and torch.get_num_threads() == before


def test_threads_come_back():
    before = torch.get_num_threads()
    with computing_threads(before + 1), computing_threads(before + 2):
        assert torch.get_num_threads() == before + 2
    assert torch.get_num_threads() == before


@pytest.mark.filterwarnings("ignore:no training caption")
def test_few_weights_are_computed_with_one_thread(pipe, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seen = []
    with computing_threads(2):
        pipe(PROMPT, levels=0, callback_on_step_end=lambda *said: seen.append(torch.get_num_threads()))
        assert torch.get_num_threads() == 2
    assert set(seen) == {1}


@pytest.mark.filterwarnings("ignore:no training caption")
def test_what_they_say_of_themselves(pipe):
    assert re.fullmatch(r"Pipeline\('.*': .*keyframes.*; 32 px, float32 on cpu\)", repr(pipe))
    video = pipe("a <red> circle", levels=0)
    assert repr(video) == f"Video(5 frames of 32 x 32, {video.fps:g} a second, 'a <red> circle')"
    shown = video._repr_html_()
    data = re.search(r'src="data:video/mp4;base64,([^"]+)"', shown)[1]
    assert base64.b64decode(data) == video.encoded(".mp4") and "<red>" not in shown
    text = pydoc.plain(pydoc.render_doc(cogstyle))
    for name in ("cogstyle.load(", "num_videos_per_prompt", "output_type", "from_pretrained"):
        assert name in text
