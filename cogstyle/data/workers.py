"""Work spread over processes that may die: a decoder that crashes takes one item with it, never the run."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing.connection import wait as wait_for_end
from typing import Any, TypeVar

from cogstyle.errors import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 3  # chunks a worker that are handed out at a time

_work: Any = None  # a worker process's own


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(
    make_work: Callable[[], Callable[[Sequence[Item]], Result]],
    chunks: Iterable[Sequence[Item]],
    *,
    workers: int,
    lost: Callable[[Item], Result],
) -> Iterator[tuple[Sequence[Item], Result]]:
    """Yield each chunk with its result, in the order in which they are ready.

    Args:
        make_work: called once a process, gives the function that turns a chunk into its result; can be pickled.
        workers: processes; 0: this one, which an item may end.
        lost: the result of an item whose worker died on it.

    Raises:
        ConfigError: if processes cannot start.
    """
    if workers == 0:
        work = make_work()
        for chunk in chunks:
            yield chunk, work(chunk)
        return
    left, next_chunk = iter(chunks), None
    running: dict[Future[Result], Sequence[Item]] = {}
    pool = _pool(make_work, workers)
    try:
        while True:
            try:
                while len(running) < AHEAD * workers and (next_chunk := next_chunk or next(left, None)):
                    running[pool.submit(_run, next_chunk)] = next_chunk
                    next_chunk = None
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield running.pop(future), result
            except BrokenProcessPool:
                suspects = [*running.values(), *([next_chunk] if next_chunk else [])]
                running, next_chunk = {}, None
                yield from _one_by_one(make_work, suspects, lost)
                pool = _pool(make_work, workers)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _one_by_one(
    make_work: Callable[[], Callable[[Sequence[Item]], Result]],
    chunks: list[Sequence[Item]],
    lost: Callable[[Item], Result],
) -> Iterator[tuple[Sequence[Item], Result]]:
    """One item at a time in one process: who dies now is known."""
    pool = _pool(make_work, 1)
    try:
        for item in (item for chunk in chunks for item in chunk):
            try:
                result: Result = pool.submit(_run, [item]).result()
            except BrokenProcessPool:
                result = lost(item)
                pool = _pool(make_work, 1)
            yield [item], result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _pool(make_work: Callable[[], Any], workers: int) -> ProcessPoolExecutor:
    context = _context()
    pool = ProcessPoolExecutor(workers, context, _start, (make_work,))
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        raise ConfigError("worker processes cannot start") from None
    return pool


@cache
def _context() -> Any:
    """Processes that inherit no threads of torch and of decoders, and need not import torch once more each."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cogstyle.data.encode"])
    return context


def _start(make_work: Callable[[], Any]) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:  # a killed parent cannot tell its workers
        wait_for_end([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    _work = make_work()


def _run(chunk: Sequence[Any]) -> Any:
    return _work(chunk)
