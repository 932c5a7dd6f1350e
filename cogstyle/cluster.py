"""Rows of work on a Ray cluster (extra `cluster`): the same workers as here, on many machines that share a folder."""

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from cogstyle.errors import ConfigError

Row = dict[str, Any]  # values that JSON has; "id" among them
Work = Callable[[list[Row]], Iterable[Row]]
LIVES = 3  # times that the rows of a worker that died are tried again


def on_ray(make_work: Callable[[], Work], rows: Sequence[Row], *, workers: int, gpus: int, batch: int) -> Iterator[Row]:
    """Yield the result of every row, as it is ready.

    Rows of a worker that dies are given to another one, so work must leave alone what is there already. A row that
    raises is its own result: its id, ok False and the error.

    Args:
        make_work: called once a worker, gives the function that turns rows into results; can be pickled.
        workers: actors; 0: as many as the cluster has room for.
        gpus: of each actor.
        batch: the most rows that an actor is given at a time.

    Raises:
        ConfigError: without ray, without a cluster, or if the run fails as a whole.
    """
    if not rows:
        return
    data = _ray()
    import ray
    from ray.exceptions import RayError

    workers = min(workers or _room(gpus), len(rows))
    batch = min(batch, -(-len(rows) // workers))
    count = -(-len(rows) // batch)
    texts = [{name: json.dumps(value) for name, value in row.items()} for row in rows]  # Arrow leaves texts as they are
    pool = data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers)
    lives = {"max_restarts": LIVES, "max_task_retries": LIVES}
    try:
        with warnings.catch_warnings(action="ignore"):  # Ray 2.64 will have another way to say `lives`
            results = data.from_items(texts, override_num_blocks=count).map_batches(
                Actor,
                fn_constructor_args=(make_work, os.getcwd()),
                compute=pool,
                batch_size=batch,
                batch_format="numpy",
                num_cpus=1,
                num_gpus=gpus,
                **lives,
            )
        for result in results.iter_rows():
            yield {name: json.loads(value) for name, value in result.items()}
    except (RayError, ray.data.exceptions.RayDataUserCodeException) as error:
        last = str(error).strip().splitlines()[-1]
        raise ConfigError(f"the run on Ray ended: {last}; what is done is kept, so run it again") from None


class Actor:
    """Work as Ray calls it: columns of JSON texts in and out, in the driver's folder."""

    def __init__(self, make_work: Callable[[], Work], folder: str) -> None:
        os.chdir(folder)
        self.work = make_work()

    def __call__(self, columns: dict[str, Any]) -> dict[str, list[str]]:
        rows = [
            dict(zip(columns, map(json.loads, values), strict=True)) for values in zip(*columns.values(), strict=True)
        ]
        try:
            results = [*self.work(rows)]
        except Exception:  # one strange row must not take the others with it
            results = [result for row in rows for result in self._one(row)]
        names = dict.fromkeys(name for result in results for name in result)
        return {name: [json.dumps(result.get(name)) for result in results] for name in names}

    def _one(self, row: Row) -> list[Row]:
        try:
            return [*self.work([row])]
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            return [
                {"id": row["id"], "file": "", "ok": False, "error": said, "made": False, "notes": [], "refused": []}
            ]


def has_gpus() -> bool:
    """Whether the cluster has any.

    Raises:
        ConfigError: as `on_ray`.
    """
    _ray()
    import ray

    return ray.cluster_resources().get("GPU", 0) >= 1


def _room(gpus: int) -> int:
    import ray

    found = ray.cluster_resources()
    return max(1, int(found.get("GPU", 0) // gpus if gpus else found.get("CPU", 1) - 1))  # one runs what is around them


def _ray() -> Any:
    """ray.data of the cluster of RAY_ADDRESS, or that runs here, or a new one on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError('--engine ray needs ray (pip install "cogstyle[cluster]")') from None
    if not ray.is_initialized():
        try:
            ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"no Ray cluster: {str(error).splitlines()[0]}") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    return ray.data
