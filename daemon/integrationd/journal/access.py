"""What the table families need from the journal as a whole."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from integrationd.journal import sqlite
from integrationd.journal.writer import Transaction

_Result = TypeVar("_Result")


class Access(Protocol):
    """Writes in groups, reads from the last commit."""

    def refuse_new_work(self, *, is_low: bool = False) -> None:
        """Do nothing while the journal can take new calls.

        Args:
            is_low: The work is of low priority.

        Raises:
            JournalHighWaterError: The disk is low on room, and the work can wait.
            JournalFullError: The disk is full, or has only what is kept for settling.
            JournalUnavailableError: The journal is recovering.
        """
        ...

    async def write(self, job: Callable[[Transaction], _Result], *, heavy: bool = False) -> _Result:
        """Run a write and return its result once it is durable."""
        ...

    async def write_surely(self, job: Callable[[Transaction], _Result]) -> _Result:
        """Run a write, again after each time the disk failed or was full, until it is durable.

        The job must notice for itself that it has been kept before.
        """
        ...

    async def rows(self, sql: str, parameters: sqlite.Parameters = ()) -> list[sqlite.Row]:
        """Return all rows of one SELECT."""
        ...

    async def rows_slowly(self, sql: str, parameters: sqlite.Parameters = ()) -> list[sqlite.Row]:
        """The same for a SELECT that may take long, without holding up the quick ones."""
        ...
