"""The one thread that draws: it takes jobs of a kind side by side, keeps parts, and goes on from them.

A job that comes while others of its kind are drawn joins them: see `sampling/continuous.py`.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cogstyle.devices import choose_threads
from cogstyle.errors import BundleError, CogstyleError
from cogstyle.pictures import write_png
from cogstyle.sampling import cost, partial_video
from cogstyle.sampling.batch import write
from cogstyle.sampling.continuous import LARGEST_BATCH, Continuous, Item
from cogstyle.sampling.outputs import Output, beside, changes
from cogstyle.sampling.partial_video import PartialVideo
from cogstyle.sampling.pipeline import Pipeline
from cogstyle.sampling.request import Request, begin, identify
from cogstyle.server.jobs import Job, Jobs
from cogstyle.server.models import Model
from cogstyle.server.previews import Previews
from cogstyle.video import Video

KEPT = 2  # pipelines with their weights
SPARING = 5.0  # times the seconds that writing parts took are drawn before they are written again
PATIENCE = 0.2  # seconds between two looks at what was deleted or takes too long
THUMBNAIL, KEYFRAMES = ".thumbnail.png", ".keyframes.png"  # beside a video

log = logging.getLogger("cogstyle.server")


class LeftOffError(Exception):
    """The server stops, or nobody wants any video of the batch any more; parts are kept."""


@dataclass(frozen=True, kw_only=True)
class Drawn(Item):
    """A job with the request that makes its video, and where that goes."""

    job: Job


class Worker(threading.Thread):
    """Draws what is queued until it is told to stop.

    Args:
        limit: seconds that one job may take.
        keep: seconds that a finished video is kept; None: for ever.
    """

    def __init__(self, jobs: Jobs, models: Mapping[str, Model], *, limit: float, keep: float | None = None) -> None:
        super().__init__(name="worker", daemon=True)
        self.jobs, self.models, self.limit, self.keep = jobs, models, limit, keep
        self.previews, self.stopping = Previews(), threading.Event()
        self._pipes: OrderedDict[str, Pipeline] = OrderedDict()

    def stop(self) -> None:
        """Leave off at the next step, and wait until that is done."""
        self.stopping.set()
        self.jobs.news.set()
        self.join()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.jobs.news.clear()
                if self.stopping.is_set():  # set before the news that were just cleared
                    return
                self.jobs.sweep(older_than=None if self.keep is None else time.time() - self.keep)
                if jobs := self.jobs.claim(LARGEST_BATCH):
                    self.draw(jobs)
                else:
                    self.jobs.news.wait(60.0)
            except Exception:  # a full disk, say: the queue is still there
                log.exception("the queue cannot be worked on; trying again")
                self.stopping.wait(1.0)

    def draw(self, jobs: Sequence[Job]) -> None:
        """Make the videos of jobs of one kind, and of those that join; each that cannot be made says why."""
        begun, found = list(jobs), self.begin(jobs)

        def join() -> list[Drawn]:
            new = self.jobs.join(jobs[0].kind, LARGEST_BATCH - len(begun))
            begun.extend(new)
            return self.begin(new)

        if found:
            pipe = self.pipeline(jobs[0].model)
            videos = Continuous(pipe, found, join)
            while group := self.wanted(videos):
                try:
                    Batch(self, pipe, group).make(videos)
                except LeftOffError:
                    break
                except Exception as error:
                    videos.drop(group)
                    self.fail([one.job for one in group], error)
        self.jobs.survived([job.id for job in begun])

    def begin(self, jobs: Sequence[Job]) -> list[Drawn]:
        """Jobs ready to be drawn, without those that cannot be or are done."""
        found = []
        for job in jobs:
            try:
                request, output = self.request(self.pipeline(job.model), job), Output(self.jobs.video(job.id))
                if changes(output.path, request.identity, ()) == []:  # the server was stopped just before it said so
                    self.jobs.complete(job.id)
                else:
                    found.append(Drawn(request, output, job.alone, job=job))
            except Exception as error:
                self.fail([job], error)
        return found

    def wanted(self, videos: Continuous[Drawn]) -> list[Drawn]:
        """Who is drawn next, as the queue has them now; those that were deleted or have failed are dropped."""
        now = [(one, self.jobs.get(one.job.id)) for one in videos.items]
        videos.items = [replace(one, job=job) for one, job in now if job is not None and not job.finished]
        return videos.group()

    def fail(self, jobs: Sequence[Job], error: Exception) -> None:
        """A batch that failed is drawn one by one, so that the guilty says so and the others are made."""
        if not isinstance(error, CogstyleError):
            log.error("drawing %s failed", ", ".join(job.id for job in jobs), exc_info=error)
        if len(jobs) > 1:
            self.jobs.separate([job.id for job in jobs])
        else:
            inner = f"the server failed: {type(error).__name__}"
            self.jobs.fail([jobs[0].id], public(str(error), self.jobs) if isinstance(error, CogstyleError) else inner)

    def pipeline(self, name: str) -> Pipeline:
        """The pipeline of a model; of those not used for long the weights are dropped."""
        if name not in self.models:
            raise BundleError(f"model {name!r} is not served any more; there are {', '.join(self.models)}")
        pipe = self._pipes.get(name) or self.models[name].load()
        self._pipes[name] = pipe
        self._pipes.move_to_end(name)
        while len(self._pipes) > KEPT:
            self._pipes.popitem(last=False)
        if pipe.device.type == "cpu":
            torch.set_num_threads(choose_threads(pipe.bundle.model_config, packed=pipe.bundle.packed))
        return pipe

    def request(self, pipe: Pipeline, job: Job) -> Request:
        """What makes the video of a job, with what a stopped server left of it."""
        files = [str(path) for path in self.jobs.given(job)]
        given = {} if not files else {"first_frame": files[0]} if len(files) == 1 else {"images": files}
        request = identify(pipe, Request(job.prompt, job.options, given=given))
        part = Output(self.jobs.video(job.id)).part
        try:
            return begin(pipe, request, part)
        except BundleError as error:  # a damaged part, or one of other weights
            log.warning("%s is drawn anew: %s", job.id, error)
            part.unlink(missing_ok=True)
            return begin(pipe, request)


class Batch:
    """Videos that are drawn side by side."""

    def __init__(self, worker: Worker, pipe: Pipeline, drawn: Sequence[Drawn]) -> None:
        self.worker, self.jobs, self.pipe, self.drawn = worker, worker.jobs, pipe, drawn
        self.ids = [one.job.id for one in drawn]
        self.options = drawn[0].job.options
        self.rate = pipe.rate(self.options)
        starts = [one.request.start for one in drawn if one.request.start is not None]
        self.start = partial_video.together(starts) if starts else None
        self.part = self.start
        config = pipe.bundle.model_config
        self.left = cost.steps(config, self.options, self.start)
        given = _given(drawn[0].request, config.tokens)
        self.total = cost.steps(config, self.options, given)
        self.began = self.noted = self.looked = self.saved = time.monotonic()
        self.cost = 0.0  # seconds that the last parts took to write

    def make(self, videos: Continuous[Drawn]) -> None:
        """Draw and write all videos, or draw up to the border where others join.

        Raises:
            LeftOffError: if the server stops, or none is wanted any more.
        """
        self.jobs.advance(self.ids, self.percent)
        made = videos.draw(self.drawn, on_part=self.keep, progress=self.progress)
        if not made:
            self.save()
            self.note()
        wanted = self.jobs.alive(self.ids)
        for one, video in made:
            if one.job.id in wanted:
                self.write(one, video)

    @property
    def percent(self) -> int:
        return min(99, int(100 * (1 - self.left / self.total)) if self.total else 99)

    def keep(self, part: PartialVideo) -> None:
        """Take note of what there is of each video, and write it unless that would cost more than it saves."""
        self.part = part
        if time.monotonic() - self.saved >= SPARING * self.cost:
            self.save()
        self.show()

    def save(self) -> None:
        """Write what there is of each video, so that a start after any stop goes on from here."""
        if self.part is None or self.part is self.start:
            return
        start, wanted = time.monotonic(), self.jobs.alive(self.ids)
        for one, tokens_FL in zip(self.drawn, self.part.tokens_BFL, strict=True):
            if one.job.id in wanted:
                partial_video.write_part(one.output.part, tokens_FL, self.part, one.request.mark)
        self.note(part=True)
        self.saved = time.monotonic()
        self.cost = self.saved - start

    def note(self, *, part: bool = False) -> None:
        now = time.monotonic()
        self.noted, seconds = now, now - self.noted
        self.jobs.advance(self.ids, self.percent, seconds, part=part)

    def show(self) -> None:
        """Frames for those who watch."""
        if self.part is not None:
            for identity, tokens_FL in zip(self.ids, self.part.tokens_BFL, strict=True):
                self.worker.previews.show(identity, self.pipe, tokens_FL, self.rate * 2**self.part.level)

    def progress(self, steps: int) -> None:
        """Called after every step: the place where a batch can be left off."""
        self.left -= steps
        now = time.monotonic()
        if self.worker.stopping.is_set():
            self.save()
            raise LeftOffError
        if now - self.looked < PATIENCE:
            return
        self.looked = now
        self.note()
        self.show()
        limit = self.worker.limit
        late = [one.job.id for one in self.drawn if one.job.spent + now - self.began > limit]
        wanted = self.jobs.alive(self.ids)
        if late := [identity for identity in late if identity in wanted]:
            self.jobs.fail(late, f"it took longer than {limit:g} seconds, the limit of this server")
        if not wanted.difference(late):
            raise LeftOffError

    def write(self, one: Drawn, video: Video) -> None:
        """The video and what goes beside it; after this it is done."""
        out, identity = one.output.path, one.job.id
        key = replace(video, frames=video.frames[:: 2**self.options.levels])
        write_png(beside(out, THUMBNAIL), video.frames[0])
        write_png(beside(out, KEYFRAMES), key.contact_sheet(len(key.frames), scale=1))
        names = {name: _names(files) for name, files in one.request.given.items()}
        info = {**video.info, "id": identity, "model": one.job.model}
        write(replace(video, info=info), replace(one.request, given=names), one.output)
        self.jobs.complete(identity)


def _names(files: str | list[str]) -> str | list[str]:
    """Files without the folder that they lie in, which is nobody's business."""
    return Path(files).name if isinstance(files, str) else [Path(file).name for file in files]


def _given(request: Request, tokens: int) -> PartialVideo | None:
    """What a request was given, as far as its cost goes."""
    blank_BFL = torch.empty(1, request.known, tokens)
    return PartialVideo(blank_BFL, whole=request.whole) if request.known else None


def public(message: str, jobs: Jobs) -> str:
    """A message without the server's paths."""
    return message.replace(f"{jobs.data}/", "")
