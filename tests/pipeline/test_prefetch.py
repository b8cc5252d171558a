"""The prefetching thread: order, errors, limited look-ahead, and no thread left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from megaportraits.pipeline.prefetch import prefetch


def test_items_come_in_order() -> None:
    assert list(prefetch(iter(range(100)))) == list(range(100))


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("damaged")

    stream = prefetch(items())
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(ValueError, match="damaged"):
        next(stream)


def test_only_a_few_items_wait_in_memory() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for index in range(50):
            made.append(index)
            yield index

    stream = prefetch(items(), depth=2)
    next(stream)
    deadline = time.monotonic() + 600
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 4  # one given, two waiting, one in hand
    stream.close()


def test_stopping_the_last_of_a_chain_ends_all_threads() -> None:
    def doubled() -> Iterator[int]:
        for item in prefetch(iter(range(1000)), depth=1):
            yield 2 * item

    stream = prefetch(doubled(), depth=1)
    assert [next(stream), next(stream)] == [0, 2]
    stream.close()
    assert "prefetch" not in {thread.name for thread in threading.enumerate()}


def test_an_error_at_the_head_of_a_chain_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("damaged")

    stream = prefetch(map(str, prefetch(items())))
    assert next(stream) == "1"
    with pytest.raises(ValueError, match="damaged"):
        next(stream)


def test_stopping_early_ends_the_thread() -> None:
    stream = prefetch(iter(range(1000)), depth=1)
    next(stream)
    stream.close()
    assert "prefetch" not in {thread.name for thread in threading.enumerate()}
