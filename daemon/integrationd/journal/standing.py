"""Where a journal stands when it is opened: against its mark, and after an earlier version."""

from pathlib import Path

from integrationd.journal import sqlite
from integrationd.journal.chain import Position, read_commit, sign_attempts
from integrationd.journal.mark import Mark, MarkFile, Trust

LEASES_PER_COMMIT_BITS = 20
_ACTED = "The disk or somebody changed its files."


def loss_at_opening(
    db: sqlite.Connection, file: MarkFile, position: Position, *, is_upgraded: bool
) -> str:
    """Compare a journal with its mark; return what must be told, empty if all is well.

    Args:
        db: The journal.
        file: Its mark.
        position: Where its log ends.
        is_upgraded: An earlier version has written to it last, whose marks are not sealed.
    """
    (mark, trust), commit = file.read(), read_commit(db)
    if trust is Trust.PLAIN and not is_upgraded:
        trust = Trust.FORGED
    if trust is Trust.FORGED:
        return (
            "The journal's high-water mark was not made with this instance key, or is damaged, so"
            f" nobody can tell whether the journal has lost commits. {_ACTED}\n"
        )
    if trust is Trust.MISSING and commit:
        return (
            "The journal's high-water mark is gone, so nobody can tell whether the journal has"
            f" lost commits. {_ACTED}\n"
        )
    return _told_loss(mark, commit, position)


def _told_loss(mark: Mark, commit: int, position: Position) -> str:
    if commit >= mark.commit and position.event >= mark.event and position.attempt >= mark.attempt:
        return ""
    return (
        f"The journal has lost commits: it ends at commit {commit} and event {position.event},"
        f" but commit {mark.commit} and event {mark.event} had been made durable. {_ACTED}"
        " Calls accepted in between are gone.\n"
    )


def sign_upgrade(db: sqlite.Connection, key: bytes) -> bool:
    """Sign what an earlier version left; say whether one has.

    Raises:
        sqlite3.Error: As the library says.
    """
    row = db.execute("SELECT gone, plain FROM attempt_anchor WHERE signature = x''").fetchone()
    if row is None:
        return False
    db.execute("UPDATE attempt_anchor SET signature = ?", (sign_attempts(key, *row),))
    return True


def first_lease_id(db: sqlite.Connection) -> int:
    """Return a number that no earlier lease had: commits are counted, and none makes so many."""
    return read_commit(db) << LEASES_PER_COMMIT_BITS


def last_call_seq(db: sqlite.Connection) -> int:
    """Return the number of the latest call, 0 if there is none."""
    found: int | None = db.execute("SELECT max(seq) FROM call").fetchone()[0]
    return found or 0


class AlarmFile:
    """Keeps a loss that was noticed until somebody acknowledges it.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str:
        """Return the alarm; empty where there is none, or the disk had no room for its text."""
        try:
            return self._path.read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def write(self, text: str) -> None:
        """Raise it.

        Raises:
            OSError: The disk is full or failing.
        """
        self._path.write_text(text, "utf-8")

    def remove(self) -> None:
        """Take it back."""
        self._path.unlink(missing_ok=True)
