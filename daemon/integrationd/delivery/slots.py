"""The daemon's own limit on attempts under way at a time."""

from collections.abc import Callable


class Slots:
    """Counts the attempts that may still start.

    Args:
        limit: How many may be under way at a time.
        on_room: Called when there is room again after there was none.
    """

    def __init__(self, limit: int, on_room: Callable[[], None]) -> None:
        self.free = limit
        self._limit = limit
        self._on_room = on_room

    def resize(self, limit: int) -> None:
        """Let another number be under way; those above it are let finish."""
        had_none = self.free <= 0
        self.free += limit - self._limit
        self._limit = limit
        if had_none and self.free > 0:
            self._on_room()

    def take(self) -> None:
        """Begin an attempt."""
        self.free -= 1

    def give_back(self) -> None:
        """End an attempt."""
        self.free += 1
        if self.free == 1:
            self._on_room()
