"""The page in a real browser, used as people use it."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.server import browser as browsers
from tests.server.running import ROOT, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browsers.find() is None, reason="needs a Chromium: apt-get install chromium"),
]
CARDS = "document.querySelectorAll('.card')"
READY = "document.getElementById('model').options.length > 0"
DONE = "[...document.querySelectorAll('.card .download')].filter((one) => !one.hidden).length"
COUNT_LIVE = """
addEventListener("DOMContentLoaded", () => {
  window.live = new Set();
  new MutationObserver(() => live.add(document.getElementById("live").src))
    .observe(document.getElementById("live"), { attributes: true, attributeFilter: ["src"] });
});
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsers.browsing(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def web(debug_bundle, tmp_path_factory):
    pytest.importorskip("fastapi")
    with serving(tmp_path_factory.mktemp("web"), debug_bundle, command="web") as running:
        yield running


@pytest.fixture
def page(browser, web):
    made = browser.page()
    made.send("Page.addScriptToEvaluateOnNewDocument", source=COUNT_LIVE)
    made.open(web.address)
    made.wait(READY)
    yield made
    assert not made.events("Runtime.exceptionThrown")
    outside = {event["request"]["url"] for event in made.events("Network.requestWillBeSent")}
    outside = {url for url in outside if not url.startswith((f"{web.address}/", "data:", f"blob:{web.address}/"))}
    assert not outside, "the page loads something from elsewhere"
    policy = [event["entry"]["text"] for event in made.events("Log.entryAdded") if "Security Policy" in str(event)]
    assert not policy


def submit(page, prompt: str) -> None:
    before = page.run(f"{CARDS}.length")
    page.run(f"document.getElementById('prompt').value = {json.dumps(prompt)}")
    page.run("document.getElementById('form').requestSubmit()")
    page.wait(f"{CARDS}.length === {before + 1} || document.getElementById('error').textContent")


def pictures(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((40, 60, 3), 60 * number, np.uint8)).save(path)
    return paths


def test_with_the_keyboard_alone(page, web, tmp_path):
    """Tab to the prompt, type, choose the pace with arrows, send; frames come one by one, then the video."""
    page.key("Tab")
    assert page.run("document.activeElement.id") == "prompt"
    page.type("一个红色圆形 😀 <b>&amp;")
    seen = []
    while page.run("document.activeElement.id") != "rate":
        page.key("Tab")
        seen.append(page.run("document.activeElement.id || document.activeElement.textContent"))
        assert len(seen) < 15, seen
    before = page.run("document.getElementById('pace').textContent")
    page.key("ArrowRight")
    pace = page.run("document.getElementById('pace').textContent")
    assert before == "1 keyframe a second: 5 keyframes tell 4 s, shown in 33 frames, 8 a second."
    assert pace == "2 keyframes a second: 5 keyframes tell 2 s, shown in 33 frames, 16 a second."
    page.run("document.getElementById('size').value = '96x96'; document.getElementById('prompt').focus()")
    for seed in range(16):  # so that the page's own waits, and is watched from its beginning on
        web.post(prompt="another", seed=seed, levels=2)
    page.key("Enter", ctrl=True)
    page.wait(f"{DONE} === 1")
    assert page.run("live.size") >= 3, "its frames were shown while it was drawn"
    assert page.run("document.querySelector('.card .prompt').textContent") == "一个红色圆形 😀 <b>&amp;"
    assert page.run("document.querySelectorAll('#strip img').length") == 5
    assert page.wait("document.getElementById('video').videoWidth") == 96
    assert page.run("document.getElementById('state').textContent") == "Done: 33 frames in 2 s, 16 a second."
    info = json.loads(page.run("document.querySelector('.card pre').textContent"))
    assert info["options"]["frame_rate"] == 2 and info["prompt"] == "一个红色圆形 😀 <b>&amp;"
    name = page.run("document.querySelector('.download').download")
    assert re.fullmatch(r"video_\w{32}\.mp4", name)
    page.keep_downloads(tmp_path)
    page.run("document.querySelector('.download').click()")
    content = web.ask("GET", f"/v1/videos/{name.removesuffix('.mp4')}/content")[1]
    end = time.monotonic() + 60
    while not ((tmp_path / name).exists() and (tmp_path / name).read_bytes() == content):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_reload_in_the_middle_and_another_tab(browser, page, web):
    submit(page, "a red circle")
    page.open(web.address)
    page.wait(f"{DONE} === 1")
    other = browser.page()
    other.open(web.address)
    other.wait(READY)
    assert other.run(f"{CARDS}.length") == 0  # its own session
    submit(other, "a blue circle")
    other.wait(f"{DONE} === 1")
    assert page.run(f"{CARDS}.length") == 1
    page.run("document.querySelector('.card .again').click()")
    assert page.run("document.getElementById('prompt').value") == "a red circle"


def test_many_at_once(page, web):
    """A browser opens six connections to a server: those who wait must not hold up the seventh."""
    for seed in range(64):
        web.post(prompt="another", seed=seed, size="96x96")
    for number in range(8):
        submit(page, f"number {number}")
    assert page.run(f"{DONE}") == 0
    page.wait(f"{DONE} === 8")
    page.run("[...document.querySelectorAll('.show')].at(-1).click()")
    page.wait("document.getElementById('video').getAttribute('aria-label') === 'number 0'")
    page.wait("document.querySelectorAll('#strip img').length === 5")


def test_deleted_twice(page, web):
    submit(page, "a red circle")
    page.wait(f"{DONE} === 1")
    identity = json.loads(page.run("sessionStorage.getItem('videos')"))[0]
    assert web.ask("DELETE", f"/v1/videos/{identity}")[0] == 200
    page.run("document.querySelector('.card .delete').click()")
    assert page.run(f"{CARDS}.length") == 0
    time.sleep(0.3)
    assert page.run("document.getElementById('error').textContent") == ""
    submit(page, "another")
    identity = json.loads(page.run("sessionStorage.getItem('videos')"))[0]
    page.wait(f"{DONE} === 1")
    web.ask("DELETE", f"/v1/videos/{identity}")
    page.open(web.address)  # what is gone is forgotten
    page.wait(f"{READY} && {CARDS}.length === 0")


def test_pictures(page, web, tmp_path):
    """Two to five are filled between, in the order that the page shows; one is a first frame; a text file is none."""
    page.run("document.querySelector('[value=between]').click()")
    page.choose_files("#files", *pictures(tmp_path, 3))
    page.wait("document.querySelectorAll('#pictures img').length === 3")
    page.run("document.querySelectorAll('#pictures li')[2].querySelector('button').click()")  # earlier
    names = page.run("[...document.querySelectorAll('#pictures img')].map((one) => one.alt).join()")
    assert names == "0.png,2.png,1.png"
    assert "3 keyframes tell 2 s, shown in 17 frames" in page.run("document.getElementById('pace').textContent")
    submit(page, "x")
    page.wait(f"{DONE} === 1")
    assert page.run("document.querySelectorAll('#strip img').length") == 3
    identity = json.loads(page.run("sessionStorage.getItem('videos')"))[0]
    video = web.get(f"/v1/videos/{identity}")
    assert (video["pictures"], video["num_frames"], video["seconds"]) == (3, 17, "2")
    page.run("document.querySelector('[value=first]').click()")
    (tmp_path / "notes.png").write_text("no picture")
    page.choose_files("#files", tmp_path / "notes.png")
    submit(page, "x")
    assert "cannot read image input_reference: it is no" in page.run("document.getElementById('error').textContent")
    page.run("document.querySelectorAll('#pictures button').forEach((one) => one.click())")
    submit(page, "x")
    assert page.run("document.getElementById('error').textContent").startswith("Choose the first frame")


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone(page, web, dark):
    page.open(web.address, width=360, height=740, dark=dark)
    page.wait(READY)
    submit(page, "w" * 40)
    page.wait(f"{DONE} === 1")
    assert page.run("document.documentElement.scrollWidth") <= 360
    small = """[...document.querySelectorAll("button, select, textarea, input[type=number], a")]
        .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 32).map((one) => one.outerHTML)"""
    assert page.run(small) == []
    ink, paper = (page.run(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert (bright[0] > bright[1] + 300) if dark else (bright[1] > bright[0] + 300)


def test_the_server_is_killed_and_comes_back(browser, debug_bundle, tmp_path):
    """The page waits, and goes on; a token is asked for once."""
    with serving(tmp_path, debug_bundle, "--token", "geheim", command="web") as web:
        page, port = browser.page(), web.host.split(":")[1]
        page.open(web.address)
        page.wait("document.getElementById('ask').open")
        page.run("document.getElementById('token').focus()")
        page.type("geheim")
        page.key("Enter")
        page.wait(READY)
        for seed in range(16):
            body = json.dumps({"prompt": "another", "seed": seed, "size": "96x96"}).encode()
            web.ask("POST", "/v1/videos", body, Authorization="Bearer geheim", Content_Type="application/json")
        submit(page, "a red circle")
        page.wait("document.getElementById('state').textContent")
        web.stop(9)
        page.wait("document.getElementById('state').textContent.includes('Trying again')")
    with serving(tmp_path, debug_bundle, "--token", "geheim", "--port", port, command="web"):
        page.wait(f"{DONE} === 1")
        assert page.run("document.querySelector('.card .prompt').textContent") == "a red circle"


def test_the_picture_in_the_docs_is_small():
    picture = ROOT / "docs/images/web.png"
    assert picture.stat().st_size < 200_000
    with Image.open(picture) as image:
        assert image.width >= 1000
