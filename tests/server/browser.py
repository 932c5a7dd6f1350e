"""A headless Chromium, told what to do over its own protocol through a pipe: nothing to install but the browser."""

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE = 60.0


def find() -> str | None:
    """Where a browser is, None without one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab."""

    def __init__(self, browser: "Browser", context: str) -> None:
        self.browser, self.context = browser, context
        made = browser.send("Target.createTarget", url="about:blank", browserContextId=context)
        self.session = browser.send("Target.attachToTarget", targetId=made["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **values: object) -> Any:
        return self.browser.send(method, self.session, **values)

    def events(self, method: str) -> list[Any]:
        """What the tab has told of one kind."""
        self.run("0")  # reads what waits in the pipe
        return [e["params"] for e in self.browser.told if e["method"] == method and e.get("sessionId") == self.session]

    def open(self, address: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        phone = width < 600
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.send("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str) -> Any:
        """The value of an expression once it is true."""
        end = time.monotonic() + PATIENCE
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"{script}\n{self.run('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def key(self, key: str, *, ctrl: bool = False) -> None:
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}
        text = {"Enter": "\r", " ": " "}.get(key, "") if not ctrl else ""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "modifiers": 2 * ctrl}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def choose_files(self, selector: str, *paths: Path) -> None:
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def keep_downloads(self, folder: Path) -> None:
        """Write what is downloaded into a folder, under its own name."""
        values = {"behavior": "allow", "downloadPath": str(folder), "browserContextId": self.context}
        self.browser.send("Browser.setDownloadBehavior", **values)

    def picture(self, *, whole: bool = True) -> bytes:
        """A PNG of the page."""
        return base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"])


class Browser:
    """A running browser."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process, self.numbers = process, itertools.count(1)
        self.told: list[Any] = []
        self.buffer = b""

    def send(self, method: str, session: str | None = None, **values: object) -> Any:
        """Send a command and return its answer; what the browser tells meanwhile is kept in `told`."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": values} | ({"sessionId": session} if session else {})
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        while (answer := self.read()).get("id") != number:
            self.told.append(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def read(self) -> Any:
        assert self.process.stdout is not None
        while b"\0" not in self.buffer:
            more = self.process.stdout.read1(1 << 20)  # type: ignore[attr-defined]
            assert more, "the browser ended"
            self.buffer += more
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def page(self) -> Page:
        """A tab that shares nothing with the others."""
        return Page(self, self.send("Target.createBrowserContext")["browserContextId"])


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser with its profile in `folder`."""
    program = find()
    assert program is not None
    flags = ["--remote-debugging-pipe", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    flags += ["--no-first-run", "--hide-scrollbars", f"--user-data-dir={folder}", "about:blank"]
    command = ["sh", "-c", 'exec "$@" 3<&0 4>&1', "sh", program, *flags]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        browser = Browser(process)
        yield browser
        browser.send("Browser.close")
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
