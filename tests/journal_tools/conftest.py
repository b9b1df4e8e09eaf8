"""A journal with calls in every state, closed, for the tools to work on."""

import asyncio
from pathlib import Path

import pytest
from tests.fake_clock import START_MS, FakeClock
from tests.journal.cases import KEY, accept, claim_one, complete, new, opened, sent

from integrationd.journal import Received
from integrationd.sdk import outcome as said


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a journal with 20 delivered, 3 refused, 2 unknown, 1 processing, 10 pending.

    Two webhooks are in its inbox.
    """
    path = tmp_path / "journal.db"
    asyncio.run(_fill(path))
    (tmp_path / "instance.key").write_text(KEY.hex())
    (tmp_path / "instance.key").chmod(0o600)
    return path


async def _fill(path: Path) -> None:
    async with opened(path) as journal:
        for number in range(20):
            await accept(journal, new(key=f"key-{number}"))
            await complete(journal, await claim_one(journal))
        outcomes = [said.Rejected(reason="no")] * 3 + [said.Uncertain(reason="timeout")] * 2
        for outcome in outcomes:
            await accept(journal, new(recipients=("a", "b")))
            lease = await claim_one(journal)
            await journal.leases.settle(lease, sent(lease, outcome, START_MS))
        await accept(journal, new())
        await claim_one(journal)
        for _ in range(10):
            await accept(journal, new(metadata=b'{"order": 1}'))
        for number in range(2):
            await journal.inbox.keep(webhook(number))


def webhook(number: int) -> Received:
    """Return a webhook as it is kept."""
    return Received(
        id=f"w{number}",
        tenant="default",
        connection="till",
        provider="mpesa",
        received_at_ms=START_MS,
        source="127.0.0.1",
        method="POST",
        path="",
        query="",
        headers="{}",
        body=b"{}",
        proof="token",
        address_call_id=None,
        dedupe=bytes([number]),
        reply_status=200,
        reply_type="",
        reply_body=b"",
        types="paid",
        state="applied",
        note=None,
    )
