"""Two ways to run one function over many items: processes of this machine, or Ray Data on one machine or many.

Neither decides anything: the function writes its results to files whose names and bytes depend on the item alone. An
engine only reports what has been done, in whatever order.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

from megaportraits.config.options import convert_options
from megaportraits.errors import ConfigError, DataError, MegaPortraitsError

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ATTEMPTS = 2
"""How often work on one item may begin without coming to an end before the item is given up."""


@dataclass(frozen=True)
class Engine:
    """Where the work is done.

    Attributes:
        name: "local" or "ray".
        workers: processes or actors, at least 1.
        address: of a Ray cluster; None starts Ray here.
        gpu: with Ray, whether the work needs a GPU; actors then share the cluster's GPUs evenly.

    Raises:
        ConfigError: no worker, or an address without Ray.
    """

    name: Literal["local", "ray"] = "local"
    workers: int = 1
    address: str | None = None
    gpu: bool = False

    def __post_init__(self) -> None:
        convert_options(self)
        if self.workers < 1:
            raise ConfigError(f"Expected at least 1 process, got {self.workers}.", fix="Give 1 or more.")
        if self.address is not None and self.name != "ray":
            raise ConfigError("--address: expected with --engine ray.", fix="Add --engine ray.")

    def run(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """`work` on every item, results in any order; see `run_local` and `run_ray`."""
        if self.name == "ray":
            return run_ray(work, items, self.workers, self.address, gpu=self.gpu)
        return run_local(work, items, self.workers)


class Attempts:
    """Which items are at work, in files, so that an item that kills its workers is given up on any machine.

    Args:
        folder: made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, key: str) -> int:
        """Note that work on an item begins; how often it began before in this run without an end."""
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(b".")
        return path.stat().st_size - 1

    def end(self, key: str) -> None:
        """Note that work on an item came to its end."""
        (self._folder / key).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Forget all of them; only while nobody is at work."""
        shutil.rmtree(self._folder, ignore_errors=True)


def run_local(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Run in a pool of processes; a worker that dies is replaced and its item given out again.

    Whether an item is given up is `work`'s decision (see `Attempts`), so the order of deaths does not matter. Workers
    end with this process, also when it is killed.

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


def _start(work: Callable[[Any], Any]) -> tuple[Any, Connection]:
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


def _serve(work: Callable[[Any], Any], connection: Connection) -> None:
    """A worker's life: items in, results out, until the other end closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        while True:
            item = connection.recv()
            try:
                connection.send(work(item))
            except MegaPortraitsError as error:
                connection.send(DataError(error.message, fix=error.fix))
            except OSError as error:
                connection.send(OSError(*error.args))


def _end_with_parent() -> None:
    """End this process when its parent is gone: nobody holds the output's lock any more."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def run_ray(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    address: str | None = None,
    *,
    gpu: bool = False,
) -> Iterator[Result]:
    """Run on Ray Data; a worker or machine that dies has its items done elsewhere.

    Args:
        work: as for `run_local`; the files that it reads and writes must be the same on every machine.
        items: what to do; picklable.
        workers: actors, one core each.
        address: of a running cluster; None starts Ray on this machine.
        gpu: whether actors need a GPU; they share the cluster's evenly.

    Raises:
        ConfigError: Ray is not installed, the cluster cannot be reached, or has no GPU where one is needed.
        DataError: `work` raised an error of ours or an OSError.
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
    # An item may take minutes and no two take the same, so an actor gets one at a time.
    blocks = min(len(items), 20_000)
    actors = max(min(workers, len(items)), 1)
    share: dict[str, float] = {}
    try:
        if gpu:
            gpus = ray.cluster_resources().get("GPU", 0)
            if not gpus:
                raise ConfigError("Expected a Ray cluster with a GPU, found none.", fix="Take --device cpu.")
            # Ray shares a GPU in steps of a ten-thousandth.
            share = {"num_gpus": int(min(gpus / actors, 1) * 10_000) / 10_000}
        rows = ray.data.from_items([{"item": pickle.dumps(item)} for item in items], override_num_blocks=blocks)
        done = rows.map(
            cast(Any, _RayWorker),
            fn_constructor_args=(work,),
            compute=ActorPoolStrategy(size=actors),
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=-1,
            **share,
        )
        for row in done.iter_rows():
            result = pickle.loads(row["result"])
            if isinstance(result, DataError):
                raise result
            yield result
    finally:
        if address is None:
            ray.shutdown()


class _RayWorker(Generic[Item, Result]):
    """`work` as a Ray Data transformation of rows."""

    def __init__(self, work: Callable[[Item], Result]) -> None:
        self._work = work

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result: Result | DataError
        try:
            result = self._work(pickle.loads(row["item"]))
        except MegaPortraitsError as error:
            result = DataError(error.message, fix=error.fix)
        except OSError as error:
            result = DataError(str(error), fix="What is done is kept; the same line goes on.")
        return {"result": pickle.dumps(result)}
