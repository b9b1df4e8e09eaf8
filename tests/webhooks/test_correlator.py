"""Notices find their calls: early, late, twice, in any order, and without a call."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from tests.webhooks.world import CONNECTIONS, HookWorld, told

from integrationd.call import CallState
from integrationd.errors import NotFoundError
from integrationd.journal import StoredWebhook
from integrationd.settings import TenantSettings

DONE = {"what": "done", "amount": "100.00"}
REFUSED = {"what": "refused"}


async def webhook(world: HookWorld, *states: str) -> StoredWebhook:
    return await world.until_webhook(*(states or ("applied",)))


async def test_notice_finds_its_call_by_our_reference(world: HookWorld) -> None:
    call = await world.waiting()

    await world.tell({"ours": call.id, **DONE})

    detail = await world.until_call(call, CallState.COMPLETED)
    assert detail.call.reason == "confirmed"
    assert (await webhook(world)).call_id == call.id


async def test_notice_finds_its_call_by_the_reference_that_the_app_gave(world: HookWorld) -> None:
    call = await world.waiting(own="INV-7")

    await world.tell({"ours": "INV-7", **DONE})

    await world.until_call(call, CallState.COMPLETED)


async def test_notice_finds_its_call_by_the_providers_reference(world: HookWorld) -> None:
    call = await world.waiting(theirs="ws_CO_1")

    await world.tell({"theirs": "ws_CO_1", **DONE})

    detail = await world.until_call(call, CallState.COMPLETED)
    assert detail.call.provider_reference == "ws_CO_1"


async def test_notice_finds_its_call_by_the_address_that_was_handed_out(world: HookWorld) -> None:
    call = await world.waiting()
    body = told(DONE)

    answer = await world.send(body, f"/hooks/{world.addresses.of_call(call.id)}")

    assert answer.status_code == 200
    await world.until_call(call, CallState.COMPLETED)
    assert (await webhook(world)).address_call_id == call.id


async def test_webhook_of_a_shared_connection_belongs_to_the_tenant_of_its_call(
    world: HookWorld,
) -> None:
    world.tenants.use({"acme": TenantSettings()})
    call = await world.waiting(tenant="acme")

    await world.tell({"ours": call.id, **DONE})

    kept = await webhook(world)
    assert (kept.call_id, kept.tenant) == (call.id, "acme")
    assert (await world.journal.inbox.get(kept.id, "acme")).tenant == "acme"
    with pytest.raises(NotFoundError):
        await world.journal.inbox.get(kept.id, "default")
    await world.tell({"what": "done", "amount": "1.00"}, id="evt-2")
    assert (await webhook(world, "unmatched", "ignored", "applied")).tenant == "default"


async def test_address_goes_before_what_the_body_names(world: HookWorld) -> None:
    addressed, named = await world.waiting(), await world.waiting()

    await world.send(
        told({"ours": named.id, **DONE}), f"/hooks/{world.addresses.of_call(addressed.id)}"
    )

    await world.until_call(addressed, CallState.COMPLETED)
    assert (await world.journal.calls.get(named.id)).state is CallState.WAITING


async def test_refusal_fails_the_call_with_the_providers_reason(world: HookWorld) -> None:
    call = await world.waiting()

    await world.tell({"ours": call.id, **REFUSED})

    detail = await world.until_call(call, CallState.FAILED)
    assert (detail.call.reason, detail.call.detail) == ("insufficient_funds", "The till says no.")


async def test_unknown_call_is_resolved_by_a_notice(world: HookWorld) -> None:
    call = await world.accept(script="uncertain")
    await world.until_call(call, CallState.UNKNOWN)

    await world.tell({"ours": call.id, **DONE})

    detail = await world.until_call(call, CallState.COMPLETED)
    assert detail.call.doubt == 0


async def test_notice_before_the_answer_to_our_request_is_held_and_then_applied(
    world: HookWorld,
) -> None:
    gate = world.till.gates["R-1"] = anyio.Event()
    call = await world.accept(own="R-1", script="slow")
    await world.until_call(call, CallState.PROCESSING)
    await world.tell({"ours": "R-1", **DONE})
    held = await webhook(world, "held")
    assert "attempted" in (held.note or "")

    gate.set()

    await world.until_call(call, CallState.COMPLETED)
    assert (await webhook(world)).seq == held.seq
    assert await world.events("call.") == ["call.waiting", "call.completed"]


async def test_notice_by_the_providers_reference_before_we_know_it_waits_for_it(
    world: HookWorld,
) -> None:
    gate = world.till.gates["R-2"] = anyio.Event()
    call = await world.accept(own="R-2", script="slow", theirs="ws_CO_2")
    await world.until_call(call, CallState.PROCESSING)
    await world.tell({"theirs": "ws_CO_2", **DONE})
    await webhook(world, "unmatched")

    gate.set()

    await world.until_call(call, CallState.COMPLETED)
    await webhook(world)


async def test_notice_races_with_the_answer_and_is_never_lost(world: HookWorld) -> None:
    """Both at the same moment, many times over: whichever comes first, the call is completed."""
    for number in range(30):
        gate = world.till.gates[f"N-{number}"] = anyio.Event()
        call = await world.accept(own=f"N-{number}", script="slow", theirs=f"ws-{number}")
        await world.until_call(call, CallState.PROCESSING)
        key = {"ours": f"N-{number}"} if number % 2 else {"theirs": f"ws-{number}"}

        async with anyio.create_task_group() as group:
            group.start_soon(world.send, told({**key, **DONE}, id=f"evt-{number}"))
            for _ in range(number):
                await anyio.lowlevel.checkpoint()
            gate.set()

        await world.until_call(call, CallState.COMPLETED)


async def test_notice_before_its_call_is_accepted_waits_for_it(world: HookWorld) -> None:
    await world.tell({"ours": "INV-9", **DONE})
    await webhook(world, "unmatched")

    call = await world.accept(own="INV-9")

    await world.until_call(call, CallState.COMPLETED)


async def test_second_notice_of_the_same_is_no_news(world: HookWorld) -> None:
    call = await world.waiting()
    await world.tell({"ours": call.id, **DONE}, id="evt-1")
    await world.until_call(call, CallState.COMPLETED)

    await world.tell({"ours": call.id, **DONE}, id="evt-2")

    last = await webhook(world)
    assert (len(await world.inbox()), last.note) == (2, "It is no news.")
    assert await world.events("call.") == ["call.waiting", "call.completed"]


async def test_earlier_news_after_the_final_word_changes_nothing(world: HookWorld) -> None:
    call = await world.waiting()
    await world.tell({"ours": call.id, **DONE}, id="evt-2")
    await world.until_call(call, CallState.COMPLETED)

    await world.tell({"ours": call.id, "what": "pending"}, id="evt-1")

    await webhook(world)
    assert (await world.journal.calls.get(call.id)).state is CallState.COMPLETED
    assert await world.events("call.contradicted") == []


async def test_money_that_nobody_asked_for_is_an_event_of_its_own(world: HookWorld) -> None:
    data = {"receipt": "SGL1", "amount": "50.00", "currency": "KES", "account": "S-12"}

    await world.tell({"event": "payment.received", "theirs": "SGL1", "data": data})

    last = await webhook(world)
    assert last.call_id is None
    (event,) = await world.data_of("payment.received")
    assert event == {**data, "webhook": last.id, "event_id": "evt-1"}


async def test_events_of_a_webhook_are_told_once_each_however_often_it_is_worked_on(
    world: HookWorld,
) -> None:
    call = await world.waiting()
    tells = [{"event": "payment.received", "id": f"evt-{n}", "data": {"n": n}} for n in range(3)]
    await world.tell(*tells, {"ours": call.id, **DONE}, {"theirs": "nobody", **DONE})
    last = await webhook(world, "unmatched")

    for _ in range(2):
        world.hooks.replay(last)
        await world.tell(id="evt-end")
        await world.until(lambda: ignored(world))

    assert [event["n"] for event in await world.data_of("payment.received")] == [0, 1, 2]
    await world.until_call(call, CallState.COMPLETED)


async def ignored(world: HookWorld) -> Sequence[StoredWebhook]:
    return [one for one in await world.inbox() if one.state == "ignored"]


@pytest.mark.parametrize(
    "paid",
    [
        {"amount": "99.99"},
        {"amount": "100.01"},
        {"amount": "10000"},
        {"amount": "100.00", "currency": "UGX"},
        {"amount": "-100.00"},
        {"amount": "0"},
    ],
)
async def test_another_sum_is_never_called_paid(world: HookWorld, paid: dict[str, str]) -> None:
    call = await world.waiting()

    await world.tell({"ours": call.id, "what": "done", **paid})

    detail = await world.until_call(call, CallState.UNKNOWN)
    assert detail.call.reason == "amount_differs"
    assert detail.call.detail is not None
    assert detail.call.detail.startswith("KES 100.00 was asked for, but ")
    assert await world.events("call.") == ["call.waiting", "call.unknown", "call.needs_attention"]


async def test_same_sum_in_other_decimals_is_paid(world: HookWorld) -> None:
    call = await world.waiting()

    await world.tell({"ours": call.id, "what": "done", "amount": "100"})

    await world.until_call(call, CallState.COMPLETED)


async def test_contradiction_is_noted_once_and_changes_no_state(world: HookWorld) -> None:
    call = await world.waiting()
    await world.tell({"ours": call.id, **DONE}, id="evt-1")
    await world.until_call(call, CallState.COMPLETED)

    for number in (2, 3):
        await world.tell({"ours": call.id, **REFUSED}, id=f"evt-{number}")
        await webhook(world)

    after = await world.journal.calls.get(call.id)
    assert (after.state, after.contradiction is not None) == (CallState.COMPLETED, True)
    assert await world.events("call.contradicted") == ["call.contradicted"]


async def test_payment_after_a_failure_is_a_contradiction(world: HookWorld) -> None:
    call = await world.waiting()
    await world.tell({"ours": call.id, **REFUSED}, id="evt-1")
    await world.until_call(call, CallState.FAILED)

    await world.tell({"ours": call.id, **DONE}, id="evt-2")

    await webhook(world)
    after = await world.journal.calls.get(call.id)
    assert after.contradiction == "The provider says that it happened, but the call is failed."


async def test_notice_that_proves_nothing_has_the_provider_asked_at_once(world: HookWorld) -> None:
    call = await world.waiting()
    found = world.till.find.__globals__["Done"]
    world.till.findings[call.id] = found(result={"status": "paid"}, reference="ws_CO_9")

    await world.tell({"ours": call.id, "what": "pending"})

    detail = await world.until_call(call, CallState.COMPLETED)
    assert world.till.asked[call.id] == 1
    assert detail.call.provider_reference == "ws_CO_9"


async def test_receipt_of_a_message_changes_its_delivery_only(world: HookWorld) -> None:
    call = await world.waiting()

    await world.tell({"ours": call.id, "delivery": "delivered"})

    await webhook(world)
    after = await world.journal.calls.get(call.id)
    assert (after.state, after.delivery) == (CallState.WAITING, "delivered")
    assert await world.events("payment.") == ["payment.delivered"]


async def test_call_of_another_connection_is_not_touched(tmp_path: Path) -> None:
    connections = {**CONNECTIONS, "other": CONNECTIONS["till"]}
    world = HookWorld(tmp_path, connections)
    async with world.running():
        call = await world.waiting(theirs="ws_CO_1")
        body = told({"ours": call.id, "theirs": "ws_CO_1", **DONE})

        await world.send(body, "/webhooks/till/other")
        await world.until_webhook("unmatched")

        at = world.addresses.of_call(call.id)
        await world.send(told({"ours": call.id}, id="evt-2"), f"/hooks/{at}")
        await world.until_webhook("applied")
        assert (await world.journal.calls.get(call.id)).state is CallState.WAITING


async def test_notice_that_means_nothing_for_a_call_is_ignored(world: HookWorld) -> None:
    await world.tell({"theirs": "ws_CO_1"})

    last = await webhook(world, "ignored")

    assert last.note == "payment.paid is about no call of ours."


async def test_unsigned_webhook_that_arrived_is_asked_about_through_its_address(
    tmp_path: Path,
) -> None:
    world = HookWorld(tmp_path)
    async with world.running():
        call = await world.waiting(connection="booth")
        path = f"/hooks/{world.addresses.of_call(call.id)}"

        answer = await world.send(told({"what": "pending", "amount": "100.00"}), path, headers={})

        assert (answer.status_code, answer.json()) == (200, {"ResultCode": 0})
        assert (await webhook(world)).proof == "token"
        await world.until(lambda: asked(world, call.id))


async def asked(world: HookWorld, call_id: str) -> int:
    count: int = world.till.asked[call_id]
    return count
