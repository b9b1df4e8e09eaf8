"""Where a journal stands when it is opened: against its mark, and after an earlier version."""

from integrationd.journal import sqlite
from integrationd.journal.chain import Position, read_commit, sign_attempts
from integrationd.journal.mark import Mark, MarkFile, Trust

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
