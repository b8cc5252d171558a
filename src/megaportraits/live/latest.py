"""A slot between two threads that holds only the newest item: a slow consumer skips frames and adds no latency."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """A thread-safe slot for the newest item that has not been taken yet.

    Attributes:
        dropped: number of items that were replaced before they were taken.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Replace the item in the slot; returns False after the slot was closed."""
        with self._changed:
            if self._closed:
                return False
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify()
        return True

    def take(self) -> T | None:
        """Wait for an item newer than the last one; None when there will be no more.

        Raises:
            BaseException: the error that ended the producer, after its last item.
        """
        with self._changed:
            # With a timeout, because a wait without one cannot be interrupted by Ctrl-C on every platform.
            while self._item is None and not self._closed:
                self._changed.wait(0.2)
            item, self._item = self._item, None
            if item is None and self._error is not None:
                raise self._error
            return item

    def close(self, error: BaseException | None = None) -> None:
        """End the stream; an item that is in the slot can still be taken."""
        with self._changed:
            self._closed = True
            self._error = self._error or error
            self._changed.notify_all()


def feed(items: Iterable[T], slot: Latest[T]) -> threading.Thread:
    """Start a thread that puts the items into a slot as they arrive, until they end or the slot is closed."""

    def work() -> None:
        try:
            for item in items:
                if not slot.put(item):
                    return
        except BaseException as error:  # every error is raised again in the consumer's thread
            slot.close(error)
        else:
            slot.close()

    thread = threading.Thread(target=work, name="live", daemon=True)
    thread.start()
    return thread
