"""``verify`` finds damage of every kind, and nothing where there is none."""

import random
from pathlib import Path

import pytest
from tests.journal.cases import KEY, opened, raw

from integrationd.errors import NotFoundError
from integrationd.journal.mark import Mark, MarkFile
from integrationd.journal.verify import verify


def test_verify_finds_nothing_in_a_sound_journal(path: Path) -> None:
    report = verify(path, KEY)

    assert report.findings == []
    assert (report.calls, report.attempts, report.webhooks) == (36, 20, 2)
    assert report.events > 20


async def test_verify_reads_beside_the_daemon_that_owns_the_journal(path: Path) -> None:
    async with opened(path):
        report = verify(path, KEY)

    assert report.is_sound


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE call SET tries = tries + 1, sum = sum WHERE seq = 3", "call"),
        ("UPDATE call_body SET payload = x'7b7d' WHERE seq = 4", "payload"),
        ("DELETE FROM call_body WHERE seq = 4", "missing"),
        ("UPDATE call_result SET result = x'7b7d' WHERE seq = 5", "result"),
        ("UPDATE part SET recipient = 'c' WHERE position = 1 AND call_seq = 21", "part"),
        ("DELETE FROM part WHERE position = 1 AND call_seq = 21", "not all of its parts"),
        ("UPDATE ledger SET completed = completed + 1", "ledger"),
        ("UPDATE event SET data = '{}' WHERE seq = 2", "event 2 was changed"),
        ("DELETE FROM event WHERE seq = 2", "missing"),
        ("DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)", "commits are lost"),
        ("UPDATE attempt SET outcome = 'accepted' WHERE seq = 2", "attempt 2"),
        ("UPDATE attempt SET event_seq = 1 WHERE seq = 9", "does not carry attempt 9"),
        ("UPDATE inbox SET body = x'7b' WHERE id = 'w1'", "webhook w1 fails its checksum"),
    ],
)
def test_verify_finds_what_was_changed(path: Path, statement: str, words: str) -> None:
    with raw(path) as db:
        db.execute(statement)

    report = verify(path, KEY)

    assert any(words in finding for finding in report.findings), report.findings


def test_verify_finds_a_chain_under_another_key(path: Path) -> None:
    assert not verify(path, b"x" * 32).is_sound


def test_verify_finds_lost_commits_by_the_mark(path: Path) -> None:
    file = MarkFile(path.with_name(path.name + ".mark"), KEY)
    file.write(Mark(commit=10_000, event=10_000))
    file.close()

    report = verify(path, KEY)

    assert any("commits are lost" in finding for finding in report.findings)


def test_verify_finds_every_flip_that_changes_a_payload(path: Path) -> None:
    rng, original, missed = random.Random(5), path.read_bytes(), 0
    places = [at for at in range(len(original)) if original.startswith(b"hello", at)]

    for _ in range(60):
        damaged = bytearray(original)
        damaged[rng.choice(places) + rng.randrange(5)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        missed += verify(path, KEY).is_sound

    assert places
    assert missed == 0


def test_verify_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no journal at"):
        verify(tmp_path / "none.db", KEY)
