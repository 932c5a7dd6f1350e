"""Run a case in a child process: whatever it does, this process lives on and says what went wrong."""

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import suppress
from pathlib import Path

import cv2

from cogstyle.cli.main import main
from cogstyle.data import dataset_card, encode, workers
from tests.fuzz.cases import make_case

SECONDS = 8.0  # a case takes a tenth of a second
MEMORY = 2 << 30  # bytes beside what the parent has
OUTSIDE = 97  # exit status of a case that touched what is not its own
WRITES = {"os.mkdir": 1, "os.remove": 1, "os.rmdir": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.truncate": 1,
          "os.chmod": 1, "shutil.rmtree": 1, "shutil.move": 2, "shutil.copyfile": 2}  # fmt: skip


def run_case(seed: int, number: int, ground: Path, folder: Path) -> tuple[str, str]:
    """Returns what is wrong ("" for nothing) and the case in words."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    inside = folder / "here"
    inside.mkdir()
    argv, what = make_case(seed, number, ground, inside)
    said = f"{what} | cogstyle {' '.join(map(repr, argv))}"
    return verdict(*run_argv(argv, folder), argv), said


def run_argv(argv: list[str], folder: Path) -> tuple[int | None, str]:
    """Run a command line in `folder`/here: its exit status (None: it hung and was killed), and its stderr."""
    cv2.setNumThreads(1)  # a fork has none of its threads, and would wait for them
    pid = os.fork()
    if pid == 0:
        _child(argv, folder)
    return _wait(pid), (folder / "stderr").read_text("utf-8", "replace")


def verdict(status: int | None, error: str, argv: list[str]) -> str:
    """What is wrong with how a case ended, in one line."""
    lines = [line for line in error.split("\n") if line.strip()]
    last = lines[-1][:300] if lines else ""
    if status is None:
        return f"hangs: {last}"
    if "Traceback" in error:
        where = [line.strip() for line in lines if line.startswith("  File") and "/cogstyle/" in line]
        return f"traceback: {last} ({where[-1] if where else '?'})"
    if status < 0:
        return f"killed by signal {-status}: {last}"
    if status == OUTSIDE:
        return f"outside its folder: {last}"
    if "out of memory" in error:
        return f"allocates: {last}"
    many = argv[0] == "encode" or "--prompts" in " ".join(argv)  # these go on after a bad entry, and name each
    if status == 1 and many and last.startswith("cogstyle: "):
        return ""
    if status not in (0, 2):
        return f"exit status {status}: {last}"
    if status == 2 and not many and (len(lines) != 1 or not last.startswith("cogstyle: ")):
        return f"{len(lines)} lines: {' / '.join(lines)[:400]}"
    if status == 2 and last in ("cogstyle:", "cogstyle: "):
        return "says nothing"
    return ""


def in_process(*work, **options):
    """Do the work that encode spreads over processes in this one, which is a child already."""
    return workers.spread(*work, **{**options, "workers": 0})


def _wait(pid: int) -> int | None:
    """Exit status of the child, negative for a signal, None if it had to be killed."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    for one in (pid, -pid):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _child(argv: list[str], folder: Path) -> None:
    status = 99
    try:
        os.setpgid(0, 0)
        os.chdir(folder / "here")
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), number)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        os.environ |= {"HOME": str(folder / "here"), "TMPDIR": str(folder / "here")}
        tempfile.tempdir = str(folder / "here")
        warnings.resetwarnings()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        sys.addaudithook(_guard(folder))
        encode.spread = dataset_card.spread = in_process  # worker processes take seconds to start
        status = main(argv)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def _guard(folder: Path):
    """An audit hook that ends the process before it changes anything outside `folder`, or calls another machine."""
    root = os.path.realpath(folder)

    def check(place) -> None:
        if isinstance(place, int) or place is None:
            return
        path = os.path.realpath(os.fsdecode(place))
        if not path.startswith((root + "/", "/dev/", "/proc/")) and path != root:
            os.write(2, f"writes {path}\n".encode())
            os._exit(OUTSIDE)

    def hook(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            check(arguments[0])
        elif event in WRITES:
            for place in arguments[: WRITES[event]]:
                check(place)
        elif event in ("socket.connect", "socket.getaddrinfo"):
            os.write(2, f"{event} {arguments}\n".encode())
            os._exit(OUTSIDE)

    return hook
