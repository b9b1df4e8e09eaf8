"""Migrations: forward only, each whole or not at all, with a backup before the first."""

from pathlib import Path

import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import KEY, accept, joined, new, opened, raw, run_python

from integrationd.errors import JournalError, JournalVersionError
from integrationd.events import Bus
from integrationd.journal import Journal, database, sqlite
from integrationd.journal.migrate import migrate, migrations

NEWEST = migrations()[-1][0]
NEXT = "CREATE TABLE added (one TEXT) STRICT;\nINSERT INTO added VALUES ('a;b');\n"


def version(path: Path) -> int:
    with raw(path) as db:
        found: int = db.execute("PRAGMA user_version").fetchone()[0]
    return found


def tables(path: Path) -> set[str]:
    with raw(path) as db:
        rows = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return {name for (name,) in rows}


def never(_version: int) -> None:
    raise AssertionError("a new journal needs no backup")


def steps(text: str = NEXT) -> list[tuple[int, str]]:
    return [*migrations(), (NEWEST + 1, text)]


async def test_new_journal_gets_the_newest_schema(path: Path) -> None:
    with raw(path) as db:
        migrate(db, never)

    assert version(path) == NEWEST
    assert {"call", "event", "ledger", "commit_mark"} <= tables(path)


async def test_journal_that_is_up_to_date_stays_as_it_is(path: Path, tmp_path: Path) -> None:
    async with opened(path) as journal:
        call = await accept(journal, new())

    async with opened(path) as journal:
        assert await journal.calls.get(call.id) == call

    assert not list(tmp_path.glob("*.backup"))


async def test_newer_journal_is_refused_and_left_alone(path: Path, clock: FakeClock) -> None:
    async with opened(path) as journal:
        await accept(journal, new())
    with raw(path) as db:
        db.execute(f"PRAGMA user_version = {NEWEST + 1}")
    before = path.read_bytes()
    journal = Journal(path, KEY, Bus(), clock)

    with pytest.raises(JournalVersionError, match=f"this program knows {NEWEST}"):
        await journal.open()

    await journal.close()
    assert path.read_bytes() == before


async def test_migration_keeps_the_data_and_backs_the_old_journal_up_first(path: Path) -> None:
    async with opened(path) as journal:
        call = await accept(journal, new())

    with raw(path) as db:
        sqlite.prepare_writer(db, exclusive=False)
        migrate(db, lambda old: database.back_up(db, path, old), steps())
        assert db.execute("SELECT one FROM added").fetchall() == [("a;b",)]
        assert db.execute("SELECT id FROM call").fetchall() == [(call.id,)]

    assert version(path) == NEWEST + 1
    backup = path.with_name(f"{path.name}.v{NEWEST}.backup")
    assert backup.stat().st_mode & 0o777 == 0o600
    async with opened(backup) as journal:
        assert await journal.calls.get(call.id) == call


async def test_backup_replaces_one_that_an_earlier_try_left(path: Path) -> None:
    async with opened(path):
        pass
    path.with_name(f"{path.name}.v{NEWEST}.backup").write_bytes(b"half a backup")

    with raw(path) as db:
        database.back_up(db, path, NEWEST)

    assert version(path.with_name(f"{path.name}.v{NEWEST}.backup")) == NEWEST


async def test_migration_does_not_begin_without_its_backup(path: Path) -> None:
    async with opened(path):
        pass

    def full(_version: int) -> None:
        raise OSError("No space left on device")

    with raw(path) as db, pytest.raises(OSError, match="No space"):
        migrate(db, full, steps())

    assert version(path) == NEWEST


@pytest.mark.parametrize(
    "fault",
    [
        "INSERT INTO nowhere VALUES (1);\n",
        "CREATE TABLE call (twice TEXT);\n",
        "DROP TABLE call_body;\nSELECT no_such_function();\n",
    ],
)
async def test_failing_migration_leaves_no_trace(path: Path, fault: str) -> None:
    async with opened(path) as journal:
        call = await accept(journal, new())

    with raw(path) as db:
        with pytest.raises(sqlite.SqliteError):
            migrate(db, lambda _: None, steps(joined(NEXT, fault)))
        assert not db.in_transaction

    assert version(path) == NEWEST
    assert "added" not in tables(path)
    async with opened(path) as journal:
        assert (await journal.calls.detail(call.id)).call == call


KILLED = """
import os, sys
from pathlib import Path
from integrationd.journal import sqlite
from integrationd.journal.migrate import migrate, migrations

db = sqlite.connect(Path(sys.argv[1]))
sqlite.prepare_writer(db, exclusive=False)
db.execute("PRAGMA cache_spill = ON")
db.create_function("die", 0, lambda: os.kill(os.getpid(), 9))
step = "CREATE TABLE added (one TEXT) STRICT;" + chr(10) + "DROP TABLE call_body;" + chr(10)
migrate(db, lambda _: None, [*migrations(), (migrations()[-1][0] + 1, step + "SELECT die();")])
"""


async def test_kill_in_the_middle_of_a_migration_leaves_the_old_version(path: Path) -> None:
    async with opened(path) as journal:
        call = await accept(journal, new())

    assert run_python(KILLED, path).returncode == -9

    assert version(path) == NEWEST
    async with opened(path) as journal:
        assert (await journal.calls.detail(call.id)).call == call
        assert journal.status().alarm == ""


async def test_view_that_does_not_match_the_record_is_refused(path: Path, clock: FakeClock) -> None:
    async with opened(path):
        pass
    with raw(path) as db:
        db.execute("DROP VIEW call_record")
        db.execute("CREATE VIEW call_record AS SELECT id, seq FROM call")
    journal = Journal(path, KEY, Bus(), clock)

    with pytest.raises(JournalError, match="does not match the Call record"):
        await journal.open()

    await journal.close()


def test_migrations_are_split_into_whole_statements(path: Path) -> None:
    with raw(path) as db:
        migrate(db, never)

        rows = db.execute("SELECT type, count(*) FROM sqlite_schema GROUP BY type").fetchall()

    text = "".join(text for _, text in migrations())
    assert dict(rows)["trigger"] == text.count("CREATE TRIGGER ")
    assert dict(rows)["table"] == text.count("CREATE TABLE ")
