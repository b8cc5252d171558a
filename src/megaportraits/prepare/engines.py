"""Two ways to run the same function over many items: processes of this machine, or Ray Data on as many as there are.

Neither decides anything: results lie in the store, under names and with bytes that depend on the item alone. An engine
only reports what has been done, in whatever order.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from megaportraits.errors import ConfigError, DataError, MegaPortraitsError
from megaportraits.prepare.sources import Item

Work = Callable[[Item], dict[str, Any]]


def run_local(work: Work, items: Sequence[Item], workers: int) -> Iterator[dict[str, Any]]:
    """Run in a pool of processes; a worker that dies is replaced and its item given out again.

    Whether an item is given up is `work`'s decision (it counts attempts), so the order of deaths does not matter.

    Args:
        work: picklable.
        items: what to do.
        workers: processes; 1 works in this process.

    Yields:
        `work`'s results as they come.

    Raises:
        MegaPortraitsError, OSError: raised by `work`, for instance because the disk is full.
    """
    if workers <= 1:
        for item in items:
            yield work(item)
        return
    # A worker is one thread: more would fight for the same cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    waiting = deque(items)
    busy: dict[Connection, tuple[Any, Item]] = {}
    pool = [_start(work) for _ in range(min(workers, len(items)))]
    try:
        for process, connection in pool:
            _give(process, connection, waiting, busy)
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                process, item = busy.pop(ready)
                try:
                    result = ready.recv()
                except (EOFError, OSError):
                    process.join()
                    ready.close()
                    waiting.appendleft(item)
                    process, ready = _start(work)
                    pool.append((process, ready))
                else:
                    if isinstance(result, BaseException):
                        raise result
                    yield result
                _give(process, ready, waiting, busy)
    finally:
        for process, connection in pool:
            with suppress(OSError):
                connection.close()
            process.terminate()
        for process, _ in pool:
            process.join()


def _start(work: Work) -> tuple[Any, Connection]:
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(work, there), daemon=True)
    process.start()
    there.close()
    return process, here


def _give(process: Any, connection: Connection, waiting: deque[Item], busy: dict[Connection, tuple[Any, Item]]) -> None:
    if waiting:
        item = waiting.popleft()
        busy[connection] = process, item
        with suppress(OSError):  # a worker that is dead already is noticed when its answer does not come
            connection.send(item)


def _serve(work: Work, connection: Connection) -> None:
    """A worker's life: items in, results out, until the other end closes."""
    with suppress(EOFError, KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        while True:
            item = connection.recv()
            try:
                connection.send(work(item))
            except MegaPortraitsError as error:
                connection.send(DataError(error.message, fix=error.fix))
            except OSError as error:
                connection.send(OSError(*error.args))


def run_ray(work: Work, items: Sequence[Item], workers: int, address: str | None = None) -> Iterator[dict[str, Any]]:
    """Run on Ray Data; a worker or machine that dies has its items done elsewhere.

    Args:
        work: as for `run_local`; its output folder must be the same on every machine.
        items: what to do.
        workers: actors, one core each.
        address: of a running cluster; None starts Ray on this machine.

    Raises:
        ConfigError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    except ImportError as error:
        raise ConfigError("Ray is not installed.", fix='Run: pip install "megaportraits[ray]"') from error
    settings: dict[str, Any] = {"address": address} if address else {"address": "local", "num_cpus": workers}
    try:
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"Ray cannot be started: {error}", fix="Check --address, or leave it out.") from error
    context = DataContext.get_current()
    context.enable_progress_bars = False
    # A video may take minutes and no two take the same, so an actor gets one at a time.
    blocks = min(len(items), 20_000)
    try:
        rows = ray.data.from_items([{"item": _plain(item)} for item in items], override_num_blocks=blocks)
        done = rows.map(
            cast(Any, _RayWorker),
            fn_constructor_args=(work,),
            compute=ActorPoolStrategy(size=max(min(workers, len(items)), 1)),
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=-1,
        )
        for row in done.iter_rows():
            result = dict(row["result"])
            if result.get("stop"):
                raise DataError(str(result["stop"]), fix="What is done is kept; the same line goes on.")
            yield result
    finally:
        if address is None:
            ray.shutdown()


def _plain(item: Item) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(item).items()}


class _RayWorker:
    """`work` as a Ray Data transformation of rows."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        fields = dict(row["item"])
        if fields.get("box") is not None:
            fields["box"] = tuple(float(side) for side in fields["box"])
        try:
            result = {"stop": "", **self._work(Item(**fields))}
        except (MegaPortraitsError, OSError) as error:
            result = {"stop": str(error), "key": "", "clips": 0, "frames": 0, "error": ""}
        return {"result": {**result, "error": result["error"] or ""}}
