"""The queue on disk and the worker, without HTTP."""

import json
import sqlite3
import threading
from dataclasses import replace

import numpy as np
import pytest

import cogstyle
from cogstyle.errors import CogstyleError, FileError
from cogstyle.files import read_tensors
from cogstyle.sampling import partial_video
from cogstyle.sampling.options import Options
from cogstyle.server import worker as worker_module
from cogstyle.server.jobs import TRIES, Job, Jobs, QueueFullError
from cogstyle.server.models import open_models
from cogstyle.server.worker import Batch, LeftOffError, Worker

PICTURE = np.zeros((32, 32, 3), np.uint8)


@pytest.fixture
def jobs(tmp_path):
    return Jobs(tmp_path, longest=40)


@pytest.fixture
def models(debug_bundle):
    return open_models([str(debug_bundle)], device="cpu", dtype="float32")


def job(seed: int = 0, **options: object) -> Job:
    return Job("bundle", "a red circle", Options(seed=seed, **{"levels": 1, **options}), 0, 4.0, "32x32", 9)


def drain(jobs: Jobs, models, **options: object) -> Worker:
    """Draw until nothing is left."""
    worker = Worker(jobs, models, **{"limit": 600.0, **options})
    while (claimed := jobs.claim(16)) and not worker.stopping.is_set():
        worker.draw(claimed)
    return worker


def test_equal_options_are_claimed_together_and_what_was_begun_first(jobs):
    even = [jobs.add(job(seed), []).id for seed in range(3)]
    odd = [jobs.add(job(seed, levels=0), []).id for seed in range(2)]
    given = jobs.add(replace(job(), pictures=1), [PICTURE]).id
    assert [one.id for one in jobs.claim(16)] == even
    assert [one.id for one in jobs.claim(2)] == even[:2]  # not done: claimed again, before what waits
    for identity in even:
        jobs.complete(identity)
    assert [one.id for one in jobs.claim(16)] == odd
    jobs.separate(odd)
    assert [one.id for one in jobs.claim(16)] == odd[:1]
    jobs.fail(odd, "no")
    assert [one.id for one in jobs.claim(16)] == [given] and jobs.given(jobs.get(given))[0].is_file()


def test_the_queue_survives_and_is_bounded(jobs, tmp_path):
    made = [jobs.add(job(seed), []) for seed in range(40)]
    with pytest.raises(QueueFullError, match="40 videos wait, and the queue holds 40"):
        jobs.add(job(), [])
    jobs.claim(16)
    jobs.close()
    again = Jobs(tmp_path)
    assert [one.id for one in again.page(after=None, limit=99, newest_first=False)[0]] == [one.id for one in made]
    assert again.get(made[3].id).options == made[3].options and again.get(made[3].id).status == "in_progress"
    first, more = again.page(after=made[9].id, limit=5, newest_first=True)
    assert [one.id for one in first] == [one.id for one in made[8:3:-1]] and more
    assert again.remove(made[0].id) and not again.remove(made[0].id) and again.get(made[0].id) is None
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == sorted(one.id for one in made[1:])


def test_what_stops_the_server_again_and_again_fails(jobs):
    """A job that kills its process must not kill it for ever; a new part is a new chance."""
    identity = jobs.add(job(), []).id
    for _ in range(2 * TRIES):
        jobs.claim(1)
        jobs.advance([identity], 1, part=True)
    for _ in range(TRIES):
        assert jobs.claim(1)
    assert (
        jobs.claim(1) == []
        and jobs.get(identity).error == f"it was begun {TRIES} times, and stopped the server each time"
    )


@pytest.mark.parametrize("content", [b"no database at all, but long enough to have a header" * 9, None])
def test_a_queue_that_is_none_is_one_line(tmp_path, content):
    if content is None:
        with sqlite3.connect(tmp_path / "queue.sqlite") as db:
            db.execute("PRAGMA user_version = 99")
    else:
        (tmp_path / "queue.sqlite").write_bytes(content)
    with pytest.raises(FileError, match=r"has format 99|cannot use .*queue\.sqlite"):
        Jobs(tmp_path)


@pytest.mark.parametrize("parts", [1, 4, 5])
def test_a_stopped_batch_goes_on_from_its_last_part(jobs, models, debug_bundle, monkeypatch, parts):
    """Nothing is drawn twice, and the videos are those of an undisturbed pipeline."""
    ids = [jobs.add(job(seed), []).id for seed in range(3)]
    written, plain = [], partial_video.write_part
    worker = Worker(jobs, models, limit=600.0)
    monkeypatch.setattr(worker_module, "SPARING", 0.0)

    def stop(path, tokens_FL, part, mark):
        plain(path, tokens_FL, part, mark)
        written.append(path)
        if len(written) == 3 * parts:
            raise LeftOffError  # as a kill does: nothing more is written

    monkeypatch.setattr(partial_video, "write_part", stop)
    worker.draw(jobs.claim(16))
    assert {jobs.get(identity).status for identity in ids} == {"in_progress"}
    jobs.close()
    jobs = Jobs(jobs.data)
    drain(jobs, models)
    assert len(written) == 3 * 6  # a first frame, 4 keyframes, a level
    pipe = cogstyle.load(debug_bundle)
    whole = pipe.sample(["a red circle"] * 3, [0, 1, 2], Options(levels=1))
    for identity, video in zip(ids, whole, strict=True):
        assert jobs.get(identity).status == "completed" and jobs.get(identity).progress == 100
        assert jobs.video(identity).read_bytes() == video.encoded(".mp4")
        assert json.loads((jobs.folder(identity) / "video.mp4.json").read_text())["id"] == identity
        assert sorted(path.suffix for path in jobs.folder(identity).iterdir()) == [".json", ".mp4", ".png", ".png"]


def test_a_server_that_is_told_to_stop_loses_nothing(jobs, models, monkeypatch):
    """What was drawn since the last part that was written is written then."""
    identity, plain = jobs.add(job(), []).id, Batch.keep
    worker, seen = Worker(jobs, models, limit=600.0), []

    def keep(self, part):
        plain(self, part)
        seen.append(part.tokens_BFL)
        if len(seen) == 4:
            worker.stopping.set()

    monkeypatch.setattr(Batch, "keep", keep)
    worker.draw(jobs.claim(16))
    (part,) = jobs.folder(identity).glob("*.part")
    assert (read_tensors(part)[0]["tokens"] == seen[-1][0]).all() and len(seen) == 4
    drain(jobs, models)
    assert jobs.get(identity).status == "completed" and len(seen) == 6


@pytest.mark.parametrize("border", [1, 3, 5])
def test_a_new_job_joins_those_that_are_drawn(jobs, models, debug_bundle, monkeypatch, border):
    """At the border of a frame; it catches up, then all go on side by side, and nothing is drawn twice."""
    ids, seen, plain = [jobs.add(job(seed), []).id for seed in range(2)], [], Batch.keep

    def keep(self, part):
        seen.append(len(self.ids))
        if len(seen) == border:
            ids.append(jobs.add(job(9), []).id)
            jobs.add(job(levels=0), [])  # of another kind: it waits
        plain(self, part)

    monkeypatch.setattr(Batch, "keep", keep)
    drain(jobs, models)
    other = [1] * 5  # a first frame and 4 keyframes; of the others also a level
    assert seen == [2] * border + [1] * border + [3] * (6 - border) + other
    pipe = cogstyle.load(debug_bundle)
    for identity, seed in zip(ids, (0, 1, 9), strict=True):
        (alone,) = pipe.sample(["a red circle"], [seed], Options(levels=1))
        assert jobs.video(identity).read_bytes() == alone.encoded(".mp4") and jobs.get(identity).tries == 0


def test_one_bad_job_does_not_fail_its_batch(jobs, models):
    good, bad = jobs.add(job(), []), jobs.add(replace(job(), prompt="word " * 60), [])
    other = jobs.add(replace(job(), model="gone"), [])
    drain(jobs, models)
    assert jobs.get(good.id).status == "completed"
    assert "text span" in jobs.get(bad.id).error and "'gone' is not served" in jobs.get(other.id).error


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("odd"), CogstyleError("no numbers")])
def test_a_batch_that_fails_is_drawn_one_by_one(jobs, models, monkeypatch, error):
    ids, plain = [jobs.add(job(seed), []).id for seed in range(3)], cogstyle.Pipeline.sample

    def sample(self, prompts, seeds, *args, **options):
        if 1 in seeds:
            raise error
        return plain(self, prompts, seeds, *args, **options)

    monkeypatch.setattr(cogstyle.Pipeline, "sample", sample)
    drain(jobs, models)
    assert [jobs.get(identity).status for identity in ids] == ["completed", "failed", "completed"]
    said = jobs.get(ids[1]).error
    assert said == (str(error) if isinstance(error, CogstyleError) else f"the server failed: {type(error).__name__}")


def test_a_damaged_part_is_drawn_anew(jobs, models):
    identity = jobs.add(job(), []).id
    (jobs.folder(identity) / "video.mp4.part").write_bytes(b"no part")
    drain(jobs, models)
    assert jobs.get(identity).status == "completed"


def test_time_limit_and_deleting_end_a_job(jobs, models, monkeypatch):
    monkeypatch.setattr(worker_module, "PATIENCE", 0.0)
    monkeypatch.setattr(worker_module, "SPARING", 0.0)
    late, gone = jobs.add(job(), []).id, jobs.add(job(levels=0), []).id
    drain(jobs, models, limit=1e-9)
    assert "longer than 1e-09 seconds" in jobs.get(late).error
    gone = jobs.add(job(levels=2), []).id
    plain = partial_video.write_part

    def delete(*values):
        plain(*values)
        jobs.remove(gone)

    monkeypatch.setattr(partial_video, "write_part", delete)
    drain(jobs, models)
    jobs.sweep()
    assert jobs.get(gone) is None and not jobs.folder(gone).exists()


def test_old_videos_are_swept(jobs, models):
    identity = jobs.add(job(), []).id
    drain(jobs, models)
    jobs.sweep(older_than=jobs.get(identity).completed_at)
    assert jobs.get(identity)
    jobs.sweep(older_than=jobs.get(identity).completed_at + 1)
    assert jobs.get(identity) is None and not jobs.folder(identity).exists()


def test_many_threads_queue_at_once(tmp_path):
    jobs, made = Jobs(tmp_path), []
    threads = [
        threading.Thread(target=lambda: made.extend(jobs.add(job(), [PICTURE]).id for _ in range(5))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 40 == len(jobs.page(after=None, limit=99, newest_first=True)[0])
