"""Runs one function over many items: in processes of this machine, or with Ray Data on one machine or many.

The result does not depend on the engine: the function writes files whose names and bytes depend on the item alone. An
engine only reports finished items, in any order.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from megaportraits.choices import EngineName
from megaportraits.config.options import convert_options
from megaportraits.errors import ConfigError, DataError, MegaPortraitsError
from megaportraits.extras import optional_dependency

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ATTEMPTS = 2
"""How often work on an item may start without finishing before the item is given up."""


@dataclass(frozen=True)
class Engine:
    """Where the work runs.

    Attributes:
        name: "local" or "ray".
        workers: number of processes or actors, at least 1.
        address: address of a Ray cluster; None starts Ray on this machine.
        gpu: with Ray, whether the work needs a GPU; actors then share the cluster's GPUs evenly.

    Raises:
        ConfigError: `workers` is less than 1, or there is an address without Ray.
    """

    name: EngineName = "local"
    workers: int = 1
    address: str | None = None
    gpu: bool = False

    def __post_init__(self) -> None:
        convert_options(self)
        if self.workers < 1:
            raise ConfigError(f"Expected at least 1 process, got {self.workers}.", fix="Give 1 or more.")
        if self.address is not None and self.name != "ray":
            raise ConfigError("--address: expected with --engine ray.", fix="Add --engine ray.")

    def run(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Generator[Result]:
        """Run `work` on every item; yields results in any order. See `run_local` and `run_ray`."""
        if self.name == "ray":
            return run_ray(work, items, self.workers, self.address, gpu=self.gpu)
        return run_local(work, items, self.workers)


class Attempts:
    """Counts attempts at each item in files, so that an item that crashes its workers is given up on any machine.

    Args:
        folder: for these files; created when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, key: str) -> int:
        """Record that work on an item starts. Returns how often it already started in this run without finishing."""
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(b".")
        return path.stat().st_size - 1

    def end(self, key: str) -> None:
        """Record that work on an item has finished."""
        (self._folder / key).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete all records. Call it only while no worker is running."""
        shutil.rmtree(self._folder, ignore_errors=True)


class WorkerDiedError(MegaPortraitsError):
    """A worker process ended before it finished its work."""


def run_local(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, *, again: bool = True
) -> Generator[Result]:
    """Run in a pool of processes. A worker that dies is replaced, and its item is tried again.

    `work` decides whether to give up an item (see `Attempts`), so the order in which workers die does not matter.

    Only this process receives Ctrl-C. When the generator ends, raises an error or is interrupted, it terminates its
    workers and waits for them. If this process is killed, its workers exit by themselves.

    Args:
        work: picklable function.
        items: its arguments.
        workers: number of processes; with 1 the work runs in this process.
        again: whether to replace dead workers. If False, a dead worker is an error, and so is any exception of `work`.

    Yields:
        The results of `work` in the order in which they are finished.

    Raises:
        MegaPortraitsError, OSError: raised by `work`, for instance because the disk is full. If `again` is False, every
            exception of `work`.
        WorkerDiedError: a worker died, and `again` is False.
    """
    if workers <= 1:
        for item in items:
            yield work(item)
        return
    # One thread for each worker: more threads would compete for the same cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    waiting = deque(items)
    busy: dict[Connection, tuple[Any, Item]] = {}
    told = (MegaPortraitsError, OSError) if again else (Exception,)
    pool: list[tuple[Any, Connection]] = []
    try:
        for _ in range(min(workers, len(items))):
            pool.append(_start(work, told))
            _give(*pool[-1], waiting, busy)
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                process, item = busy.pop(ready)
                try:
                    result = ready.recv()
                except (EOFError, OSError) as error:
                    process.join()
                    ready.close()
                    if not again:
                        raise WorkerDiedError(
                            "A worker process died, perhaps because memory ran out.",
                            fix="Run the same command again with fewer processes: finished items are kept.",
                        ) from error
                    waiting.appendleft(item)
                    process, ready = _start(work, told)
                    pool.append((process, ready))
                else:
                    if isinstance(result, _Raised):
                        raise result.error from RuntimeError(result.trace)
                    yield result
                _give(process, ready, waiting, busy)
    finally:
        for process, connection in pool:
            with suppress(OSError):
                connection.close()
            process.terminate()
        for process, _ in pool:
            process.join()


def run_apart(work: Callable[..., Result], *arguments: Any) -> Result:
    """One call in a separate process; function, arguments and result are pickled. Raises the exceptions of `work`."""
    (result,) = run_local(_PendingCall(work), [arguments], 2, again=False)
    return result


@dataclass(frozen=True)
class _PendingCall(Generic[Result]):
    work: Callable[..., Result]

    def __call__(self, arguments: tuple[Any, ...]) -> Result:
        return self.work(*arguments)


@dataclass(frozen=True)
class _Raised:
    """An exception of `work`, as a worker sends it to the parent."""

    error: Exception
    trace: str

    @staticmethod
    def of(error: Exception) -> _Raised:
        trace = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # its constructor takes other arguments
            kind = OSError if isinstance(error, OSError) else RuntimeError
            error = kind(*error.args) if kind is OSError else kind(f"{type(error).__name__}: {error}")
        return _Raised(error, trace)


def _start(work: Callable[[Any], Any], told: tuple[type[Exception], ...]) -> tuple[Any, Connection]:
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(work, there, told), daemon=True)
    # The worker inherits the signal mask, so that it ignores Ctrl-C from its start on; the parent handles it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    there.close()
    return process, here


def _give(process: Any, connection: Connection, waiting: deque[Item], busy: dict[Connection, tuple[Any, Item]]) -> None:
    if waiting:
        item = waiting.popleft()
        busy[connection] = process, item
        with suppress(OSError):  # a dead worker is noticed in `run_local`, when its connection ends
            connection.send(item)


def _serve(work: Callable[[Any], Any], connection: Connection, told: tuple[type[Exception], ...]) -> None:
    """The worker process: receive items and send results until the connection closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            item = connection.recv()
            try:
                result = work(item)
            except told as error:
                connection.send(_Raised.of(error))
            else:
                connection.send(result)


def _end_with_parent() -> None:
    """End this process when its parent has ended, because then no process holds the lock of the output."""
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
) -> Generator[Result]:
    """Run on Ray Data. Items of a worker or machine that dies are run elsewhere.

    Args:
        work: as for `run_local`; the files that it reads and writes must be the same on every machine.
        items: its arguments; picklable.
        workers: number of actors, with one core each.
        address: address of a running cluster; None starts Ray on this machine.
        gpu: whether actors need a GPU; they share the cluster's GPUs evenly.

    Raises:
        MissingPackageError: Ray is not installed.
        ConfigError: the cluster cannot be reached, or has no GPU where one is needed.
        DataError: `work` raised a `MegaPortraitsError` or an OSError.
    """
    with optional_dependency("ray", "The Ray engine"):
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    settings: dict[str, Any] = {"address": address} if address else {"address": "local", "num_cpus": workers}
    try:
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"Ray cannot be started: {error}", fix="Check --address, or leave it out.") from error
    context = DataContext.get_current()
    context.enable_progress_bars = False
    # Items may take minutes and differ in duration, so an actor gets one at a time.
    blocks = min(len(items), 20_000)
    actors = max(min(workers, len(items)), 1)
    share: dict[str, float] = {}
    try:
        if gpu:
            gpus = ray.cluster_resources().get("GPU", 0)
            if not gpus:
                raise ConfigError("Expected a Ray cluster with a GPU, found none.", fix="Take --device cpu.")
            # Ray divides a GPU into ten-thousandths.
            share = {"num_gpus": int(min(gpus / actors, 1) * 10_000) / 10_000}
        rows = ray.data.from_items([{"item": pickle.dumps(item)} for item in items], override_num_blocks=blocks)
        # By default Ray Data restarts dead actors and repeats their rows without limit, as needed here.
        done = rows.map(
            cast(Any, _RayWorker),
            fn_constructor_args=(work,),
            compute=ActorPoolStrategy(size=actors),
            num_cpus=1,
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
            result = DataError(str(error), fix="Run the same command again: finished items are kept.")
        return {"result": pickle.dumps(result)}
