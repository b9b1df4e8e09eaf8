"""A webhook goes the way of design 10: each gate before the next, kept before it is answered."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.virtual_time import VirtualClock, VirtualLoop, run_virtually
from tests.webhooks.world import (
    CONNECTIONS,
    OTHER_SECRET,
    PATH,
    SECRET,
    HookWorld,
    sign,
    told,
)

from integrationd.errors import JournalFullError
from integrationd.sdk import WebhookReply, WebhookRequest

EVENT = {"event": "payment.received", "data": {"receipt": "R1"}}


def reasons(world: HookWorld) -> list[str]:
    return [refused.reason for refused in world.refused]


async def test_good_webhook_is_kept_and_answered_as_the_provider_expects(idle: HookWorld) -> None:
    answer = await idle.tell(EVENT)

    assert (answer.status_code, answer.json()) == (200, {"ResultCode": 0})
    assert answer.headers["content-type"] == "application/json"
    (kept,) = await idle.inbox()
    assert (kept.connection, kept.provider, kept.tenant) == ("till", "till", "default")
    assert (kept.body, kept.proof, kept.source) == (told(EVENT), "signature", "127.0.0.1")
    assert (kept.types, kept.reply_status, kept.repeats) == ("payment.paid", 200, 0)


async def test_headers_are_kept_without_their_secrets(idle: HookWorld) -> None:
    body = told(EVENT)
    given = {"x-till-signature": sign(body), "authorization": "Basic eHg6eXk=", "x-note": SECRET}

    await idle.send(body, headers=given)

    (kept,) = await idle.inbox()
    headers = json.loads(kept.headers)
    assert headers["x-note"] != SECRET
    assert "eHg6eXk=" not in kept.headers
    assert sign(body) not in kept.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-till-signature": ""},
        {"x-till-signature": sign(told(EVENT), OTHER_SECRET)},
        {"x-till-signature": sign(told(EVENT) + b" ")},
    ],
)
async def test_unproved_webhook_gets_401_and_changes_nothing(
    idle: HookWorld, headers: Mapping[str, str]
) -> None:
    answer = await idle.send(told(EVENT), headers=headers)

    assert answer.status_code == 401
    assert SECRET not in answer.text
    assert await idle.inbox() == []
    assert await idle.events("payment") == []
    assert len(idle.refused) == 1


async def test_stale_webhook_gets_400_and_changes_nothing(tmp_path: Path) -> None:
    connections = {"till": {"provider": "till", "config": {"secret": SECRET, "scheme": "timed"}}}
    world = HookWorld(tmp_path, connections)
    async with world.running(delivers=False):
        body, at_s = told(EVENT), world.clock.now_ms() // 1000 - 600
        headers = {"till-signature": f"t={at_s},v1={sign(b'%d.%s' % (at_s, body))}"}

        answer = await world.send(body, headers=headers)

        assert (answer.status_code, reasons(world)) == (400, ["stale"])
        assert await world.inbox() == []


async def test_too_large_body_is_refused_before_anything_is_looked_at(tmp_path: Path) -> None:
    rules = {"till": {**CONNECTIONS["till"], "webhook": {"allow_from": ["203.0.113.0/24"]}}}
    world = HookWorld(tmp_path, rules, webhooks={"max_body": "2KiB"})
    async with world.running(delivers=False):
        answer = await world.send(b"x" * 3000)
        streamed = await world.client.post(PATH, content=endless())

        assert (answer.status_code, streamed.status_code) == (413, 413)
        assert world.refused == []


async def test_body_that_is_cut_off_is_not_taken_for_a_whole_one(idle: HookWorld) -> None:
    """A form, or an unsigned body, may look whole wherever it is cut."""
    path = f"/hooks/{idle.addresses.of_connection('booth')}"
    body = told(EVENT)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body) + 10}\r\n\r\n"
    port = idle.client.base_url.port

    async with await anyio.connect_tcp("127.0.0.1", port or 0) as stream:
        await stream.send(head.encode() + body)
    await idle.tell(id="evt-later")

    assert [kept.connection for kept in await idle.inbox()] == ["till"]


async def endless() -> Any:
    for _ in range(100):
        yield b"x" * 1000


async def test_foreign_source_is_refused_before_its_signature_is_looked_at(tmp_path: Path) -> None:
    rules = {"till": {**CONNECTIONS["till"], "webhook": {"allow_from": ["203.0.113.0/24"]}}}
    world = HookWorld(tmp_path, rules)
    async with world.running(delivers=False):
        world.till.verify_webhook = unreachable

        answer = await world.tell(EVENT)

        assert (answer.status_code, reasons(world)) == (403, ["source_not_allowed"])


def unreachable(_self: Any, _request: WebhookRequest) -> Any:
    raise AssertionError("the signature was looked at")


async def test_source_behind_a_trusted_proxy_is_the_one_that_the_proxy_names(
    tmp_path: Path,
) -> None:
    rules = {"till": {**CONNECTIONS["till"], "webhook": {"allow_from": ["203.0.113.0/24"]}}}
    world = HookWorld(tmp_path, rules, webhooks={"trusted_proxies": ["127.0.0.1"]})
    async with world.running(delivers=False):
        body = told(EVENT)
        answers = [
            await world.send(body, headers={"x-till-signature": sign(body), "x-forwarded-for": by})
            for by in ("198.51.100.1", "203.0.113.9, 198.51.100.1", "198.51.100.1, 203.0.113.9")
        ]

        assert [answer.status_code for answer in answers] == [403, 403, 200]
        assert (await world.inbox())[0].source == "203.0.113.9"


async def test_source_cannot_be_made_up_without_a_trusted_proxy(tmp_path: Path) -> None:
    rules = {"till": {**CONNECTIONS["till"], "webhook": {"allow_from": ["203.0.113.0/24"]}}}
    world = HookWorld(tmp_path, rules)
    async with world.running(delivers=False):
        body = told(EVENT)
        headers = {"x-till-signature": sign(body), "x-forwarded-for": "203.0.113.9"}

        answer = await world.send(body, headers=headers)

        assert answer.status_code == 403
        assert world.refused[0].source == "127.0.0.1"


async def test_source_that_comes_too_often_is_put_off_before_any_signature(tmp_path: Path) -> None:
    world = HookWorld(tmp_path, webhooks={"rate_limit": "1/m", "burst": 3})
    async with world.running(delivers=False):
        answers = [await world.tell(EVENT) for _ in range(3)]
        world.till.verify_webhook = unreachable
        late = await world.tell(EVENT)

        assert [answer.status_code for answer in answers] == [200] * 3
        assert (late.status_code, late.headers["retry-after"]) == (429, "5")


async def test_address_may_be_required_although_it_is_signed(tmp_path: Path) -> None:
    rules = {"till": {**CONNECTIONS["till"], "webhook": {"require_address": True}}}
    world = HookWorld(tmp_path, rules)
    async with world.running(delivers=False):
        body, address = told(EVENT), world.addresses.of_connection("till")

        plain, handed_out = await world.send(body), await world.send(body, f"/hooks/{address}")
        unsigned = await world.send(body, f"/hooks/{address}", headers={})

        assert (plain.status_code, handed_out.status_code) == (404, 200)
        assert unsigned.status_code == 401


async def test_unsigned_webhook_needs_its_address(tmp_path: Path) -> None:
    world = HookWorld(tmp_path)
    async with world.running(delivers=False):
        address = world.addresses.of_connection("booth")

        plain = await world.send(told(EVENT), "/webhooks/till/booth", headers={})
        handed_out = await world.send(told(EVENT), f"/hooks/{address}", headers={})

        assert (plain.status_code, handed_out.status_code) == (401, 200)
        assert [kept.proof for kept in await world.inbox()] == ["token"]


async def test_unreadable_webhook_that_is_signed_is_kept_for_a_person(idle: HookWorld) -> None:
    answer = await idle.send(b"{not JSON")

    assert answer.status_code == 200
    (kept,) = await idle.inbox()
    assert kept.note is not None
    assert (kept.state, kept.body) == ("unreadable", b"{not JSON")


async def test_unreadable_webhook_that_nobody_signed_is_not_kept(idle: HookWorld) -> None:
    path = f"/hooks/{idle.addresses.of_connection('booth')}"

    answer = await idle.send(b"{not JSON", path, headers={})

    assert (answer.status_code, reasons(idle)) == (400, ["unreadable"])
    assert await idle.inbox() == []


async def test_webhook_that_no_journal_can_hold_is_unreadable(idle: HookWorld) -> None:
    body = b'{"id":"e","tells":[{"type":"t","event":"x.y","data":{"who":"\\ud800"}}]}'

    answer = await idle.send(body)

    assert answer.status_code == 200
    assert [kept.state for kept in await idle.inbox()] == ["unreadable"]


@pytest.mark.parametrize("boom", ["bug", "exit"])
async def test_plugin_that_raises_costs_a_500_and_the_webhook_comes_again(
    idle: HookWorld, boom: str
) -> None:
    answer = await idle.tell(EVENT, boom=boom)

    assert answer.status_code == 500
    assert "KeyError" not in answer.text
    assert await idle.inbox() == []
    assert reasons(idle) == ["plugin_error"]
    assert (await idle.tell(EVENT)).status_code == 200


async def test_plugin_that_raises_while_verifying_costs_a_500_only(idle: HookWorld) -> None:
    def verify(_self: Any, _request: WebhookRequest) -> Any:
        raise MemoryError

    idle.till.verify_webhook = verify

    assert (await idle.tell(EVENT)).status_code == 500
    assert await idle.inbox() == []


async def test_full_journal_costs_a_503_so_that_it_comes_again(idle: HookWorld) -> None:
    def refuse(*, is_low: bool = False) -> None:
        raise JournalFullError

    refuse_new_work, idle.journal.refuse_new_work = idle.journal.refuse_new_work, refuse  # type: ignore[method-assign] # what a full disk does
    full = await idle.tell(EVENT)
    idle.journal.refuse_new_work = refuse_new_work  # type: ignore[method-assign] # as it was

    assert (full.status_code, full.headers["retry-after"]) == (503, "5")
    assert await idle.inbox() == []
    assert (await idle.tell(EVENT)).status_code == 200


async def test_decision_of_the_plugin_is_the_reply_and_is_kept(idle: HookWorld) -> None:
    asked: list[bytes] = []

    async def decide(request: WebhookRequest) -> WebhookReply:
        asked.append(request.body)
        assert len(await idle.inbox()) == 1, "asked before it was kept"
        return WebhookReply.of_json({"ResultCode": "C2B00012"})

    idle.till.decision = staticmethod(decide)

    first, again = await idle.tell(EVENT), await idle.tell(EVENT)

    assert first.json() == again.json() == {"ResultCode": "C2B00012"}
    assert len(asked) == 1
    assert (await idle.inbox())[0].reply_body == b'{"ResultCode":"C2B00012"}'


async def test_copy_that_comes_during_the_decision_gets_that_decision(idle: HookWorld) -> None:
    may_go, came = anyio.Event(), anyio.Event()

    async def decide(_request: WebhookRequest) -> WebhookReply:
        came.set()
        await may_go.wait()
        return WebhookReply.of_text("no")

    idle.till.decision = staticmethod(decide)
    answers: list[str] = []

    async def send() -> None:
        answers.append((await idle.tell(EVENT)).text)

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await came.wait()
        group.start_soon(send)
        await idle.until(lambda: repeated(idle))
        may_go.set()

    assert answers == ["no", "no"]


async def repeated(world: HookWorld) -> bool:
    return (await world.inbox())[0].repeats == 1


async def test_decision_that_fails_leaves_the_reply_as_it_was(idle: HookWorld) -> None:
    async def decide(_request: WebhookRequest) -> WebhookReply:
        raise OSError("the app is not there")

    idle.till.decision = staticmethod(decide)

    answer = await idle.tell(EVENT)

    assert (answer.status_code, answer.json()) == (200, {"ResultCode": 0})
    await idle.until_webhook("applied")


def test_decision_that_takes_too_long_leaves_the_reply_as_it_was(tmp_path: Path) -> None:
    async def decide(_request: WebhookRequest) -> WebhookReply:
        await anyio.sleep(3600)
        return WebhookReply.of_text("too late")

    async def story(loop: VirtualLoop) -> None:
        world = HookWorld(tmp_path, clock=VirtualClock(loop))
        loop.is_busy = lambda: world.journal.is_busy
        world.till.decision = staticmethod(decide)
        transport = httpx2.ASGITransport(app=world.hooks._app)
        world.client = httpx2.AsyncClient(transport=transport, base_url="http://hooks")
        async with world.opened():
            answer = await world.tell(EVENT)

            assert (answer.status_code, answer.json()) == (200, {"ResultCode": 0})
            assert 7.0 <= loop.now < 8.0

    run_virtually(story)


async def test_reply_comes_as_ever_while_nothing_is_delivered(idle: HookWorld) -> None:
    """The delivery side is not there at all; every webhook is answered and kept."""
    call = await idle.accept()

    with anyio.fail_after(10):
        answers = [
            await idle.tell({"ours": call.id, "what": "done"}, id=f"evt-{number}")
            for number in range(50)
        ]

    assert {answer.status_code for answer in answers} == {200}
    assert len(await idle.inbox()) == 50


async def test_reply_comes_as_ever_while_every_send_hangs(world: HookWorld) -> None:
    for number in range(20):
        world.till.gates[f"R-{number}"] = anyio.Event()
        await world.accept(own=f"R-{number}", script="slow")
    await world.until(lambda: started(world))

    with anyio.fail_after(10):
        answers = [
            await world.tell({"ours": f"R-{number}", "what": "done"}, id=f"evt-{number}")
            for number in range(20)
        ]

    assert {answer.status_code for answer in answers} == {200}
    await world.until_webhook("held")


async def started(world: HookWorld) -> int:
    return len(world.till.sends)


async def test_reload_changes_the_rules_and_keeps_the_listener(tmp_path: Path) -> None:
    world = HookWorld(tmp_path)
    async with world.running(delivers=False):
        assert (await world.tell(EVENT)).status_code == 200
        tables = world.settings.model_dump(exclude_unset=True)
        tables["connections"]["till"]["webhook"] = {"allow_from": ["203.0.113.0/24"]}

        world.hooks.use(type(world.settings).model_validate(tables))

        assert (await world.tell(EVENT)).status_code == 403
