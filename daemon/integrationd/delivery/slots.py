"""The daemon's own limit on attempts under way at a time, shared in turns."""

from typing import Protocol


class Waiter(Protocol):
    """What waits for a slot."""

    def wake(self) -> None:
        """Have it ask again."""
        ...


class Slots:
    """Counts the attempts that may still start.

    Whoever finds none free stands in a queue, and each in it is sure of one slot before whoever
    came later gets any. So a line that always has work holds up no other.

    Args:
        limit: How many may be under way at a time.

    Attributes:
        free: How many may start now; below zero while the limit was lowered.
    """

    def __init__(self, limit: int) -> None:
        self.free = limit
        self._limit = limit
        self._queue: dict[Waiter, None] = {}

    def resize(self, limit: int) -> None:
        """Let another number be under way; those above it are let finish."""
        self.free += limit - self._limit
        self._limit = limit
        self._wake()

    def reserve(self, waiter: Waiter, wanted: int) -> int:
        """Take up to ``wanted`` slots and return how many.

        Who gets none is woken when it may ask again. Who wants none any more leaves the queue.
        """
        if wanted <= 0:
            self.leave(waiter)
            return 0
        room = self.free - self._ahead_of(waiter)
        if room <= 0:
            self._queue.setdefault(waiter)
            return 0
        self._queue.pop(waiter, None)
        taken = min(wanted, room)
        self.free -= taken
        return taken

    def release(self, count: int = 1) -> None:
        """Give slots back: an attempt has ended, or fewer were started than reserved."""
        if count > 0:
            self.free += count
            self._wake()

    def leave(self, waiter: Waiter) -> None:
        """Have somebody wait no more."""
        if waiter in self._queue:
            del self._queue[waiter]
            self._wake()

    def has_waiting(self, waiter: Waiter) -> bool:
        """Say whether somebody waits for a slot."""
        return waiter in self._queue

    def _ahead_of(self, waiter: Waiter) -> int:
        """Count those in the queue before somebody; all of them if it is not in it."""
        for place, one in enumerate(self._queue):
            if one is waiter:
                return place
        return len(self._queue)

    def _wake(self) -> None:
        for waiter, _ in zip(self._queue, range(self.free), strict=False):
            waiter.wake()
