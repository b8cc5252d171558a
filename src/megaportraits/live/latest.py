"""One slot between two threads that holds the newest item only: who is slow drops frames, and never lags."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """The newest item put in and not yet taken.

    Attributes:
        dropped: how many items were replaced before anybody took them.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Replace what is there; False when nobody wants more."""
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
            BaseException: what ended the other side, after its last item.
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
        """No more items; what is there can still be taken."""
        with self._changed:
            self._closed = True
            self._error = self._error or error
            self._changed.notify_all()


def feed(items: Iterable[T], slot: Latest[T]) -> threading.Thread:
    """Put the items into a slot from a thread of its own, as they come, until they or the takers end."""

    def work() -> None:
        try:
            for item in items:
                if not slot.put(item):
                    return
        except BaseException as error:  # every error belongs to the taker's thread
            slot.close(error)
        else:
            slot.close()

    thread = threading.Thread(target=work, name="live", daemon=True)
    thread.start()
    return thread
