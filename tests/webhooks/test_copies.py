"""A copy of a webhook gets the reply of the first and changes nothing."""

from collections import Counter
from pathlib import Path

import anyio
import httpx2
from tests.webhooks.world import CONNECTIONS, PATH, HookWorld, told

from integrationd.sdk import WebhookReply

EVENT = {"event": "payment.received", "data": {"receipt": "R1"}}


async def test_copy_gets_the_same_reply_and_no_row_of_its_own(idle: HookWorld) -> None:
    first = await idle.tell(EVENT)
    await idle.until_webhook("applied")
    idle.till.webhook_reply = lambda _self, _request: WebhookReply.of_text("changed", 202)

    again = await idle.tell(EVENT)

    assert (again.status_code, again.content) == (first.status_code, first.content)
    (kept,) = await idle.inbox()
    assert (kept.repeats, kept.repeated_at_ms is not None) == (1, True)
    assert await idle.events("payment") == ["payment.received"]
    assert await idle.events("webhook") == ["webhook.received"]
    (data,) = await idle.data_of("webhook.received")
    assert (data["webhook"], data["types"]) == (kept.id, kept.types)


async def test_copy_is_known_by_the_providers_id_although_its_bytes_differ(
    idle: HookWorld,
) -> None:
    await idle.tell(EVENT)
    await idle.tell({**EVENT, "data": {"receipt": "R1", "sent": "again"}})

    assert [kept.repeats for kept in await idle.inbox()] == [1]


async def test_same_id_on_another_connection_is_another_webhook(tmp_path: Path) -> None:
    world = HookWorld(tmp_path, {**CONNECTIONS, "other": CONNECTIONS["till"]})
    async with world.running(delivers=False):
        await world.send(told(EVENT))
        await world.send(told(EVENT), "/webhooks/till/other")

        assert {kept.connection for kept in await world.inbox()} == {"till", "other"}


async def test_webhook_without_an_id_is_known_by_its_bytes_and_path(idle: HookWorld) -> None:
    await idle.tell(EVENT, id="")
    await idle.tell(EVENT, id="")
    await idle.tell({**EVENT, "data": {}}, id="")
    await idle.send(told(EVENT, id=""), f"{PATH}/timeout")

    assert sorted(kept.repeats for kept in await idle.inbox()) == [0, 0, 1]


async def test_copy_after_a_restart_gets_the_same_reply_and_no_row(tmp_path: Path) -> None:
    first = HookWorld(tmp_path)
    async with first.running(delivers=False):
        before = await first.tell(EVENT)
        await first.until_webhook("applied")

    again = HookWorld(tmp_path)
    async with again.running(delivers=False):
        after = await again.tell(EVENT)

        assert (after.status_code, after.content) == (before.status_code, before.content)
        assert [kept.repeats for kept in await again.inbox()] == [1]
        assert await again.events("payment") == ["payment.received"]


async def test_hundred_copies_at_once_make_one_row_and_one_event(idle: HookWorld) -> None:
    answers: list[httpx2.Response] = []

    async def send() -> None:
        answers.append(await idle.tell(EVENT))

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(send)

    await idle.until_webhook("applied")
    assert Counter((one.status_code, one.content) for one in answers) == {
        (200, b'{"ResultCode":0}'): 100
    }
    assert [kept.repeats for kept in await idle.inbox()] == [99]
    assert await idle.events("payment") == ["payment.received"]
