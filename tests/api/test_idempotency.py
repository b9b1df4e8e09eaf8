"""``Idempotency-Key``: the same request again is the same call, and nothing is done twice."""

import asyncio
from typing import Any

import pytest
from tests.api.world import ApiWorld, code_of

HOLD: dict[str, Any] = {"operation": "rehearsal.hold", "payload": {"script": ["delivered"]}}


def key(value: str | bytes) -> Any:
    return {"Idempotency-Key": value}


async def test_repeat_gives_the_call_as_it_now_is(world: ApiWorld) -> None:
    first = await world.client.post("/v1/calls", json=HOLD, headers=key("k"))
    await world.client.get(first.headers["location"], headers={"Prefer": "wait=5"})

    again = await world.client.post("/v1/calls", json=HOLD, headers=key("k"))

    assert again.status_code == 202
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.json()["state"] == "completed"
    assert world.plugin.sends[first.json()["id"]] == 1


async def test_repeat_may_wait_for_the_result(world: ApiWorld) -> None:
    body = {**HOLD, "payload": {"script": ["slow:0.1"]}}
    await world.client.post("/v1/calls", json=body, headers=key("k"))

    again = await world.client.post(
        "/v1/calls", json=body, headers={**key("k"), "Prefer": "wait=5"}
    )

    assert again.status_code == 200
    assert again.json()["result"] == {"step": "slow:0.1"}


@pytest.mark.parametrize(
    "spelling",
    [
        '{"payload": {"script":\n ["delivered"]}, "operation": "rehearsal.hold"}',
        '{"operation":"rehearsal.\\u0068old","payload":{"script":["delivered"]}}',
        '{"operation":"rehearsal.hold","payload":{"script":["delivered"]},"connection":null}',
        '{"operation":"rehearsal.hold","payload":{"script":["delivered"]},"priority":"normal"}',
    ],
)
async def test_same_request_in_another_spelling_is_the_same(idle: ApiWorld, spelling: str) -> None:
    first = await idle.client.post("/v1/calls", json=HOLD, headers=key("k"))

    again = await idle.client.post("/v1/calls", content=spelling, headers=key("k"))

    assert again.json()["id"] == first.json()["id"]


@pytest.mark.parametrize(
    "change",
    [
        {"payload": {"script": ["rejected"]}},
        {"priority": "high"},
        {"metadata": {"a": 1}},
        {"expires_in": 60},
        {"connection": "stage"},
        {"reference": {"type": "order", "id": "1"}},
    ],
)
async def test_other_request_under_the_same_key_is_refused(
    idle: ApiWorld, change: dict[str, Any]
) -> None:
    await idle.client.post("/v1/calls", json=HOLD, headers=key("k"))

    answer = await idle.client.post("/v1/calls", json={**HOLD, **change}, headers=key("k"))

    assert code_of(answer, 422) == "idempotency_mismatch"


async def test_short_form_and_long_form_are_the_same_request(idle: ApiWorld) -> None:
    first = await idle.client.post("/v1/calls", json=HOLD, headers=key("k"))

    again = await idle.client.post("/v1/rehearsal/hold", json=HOLD["payload"], headers=key("k"))

    assert again.json()["id"] == first.json()["id"]


async def test_batch_and_single_call_share_their_keys(idle: ApiWorld) -> None:
    first = await idle.client.post("/v1/calls", json=HOLD, headers=key("clé".encode()))
    batch = {"calls": [{**HOLD, "idempotency_key": "clé"}]}

    again = await idle.client.post("/v1/calls/batch", json=batch)

    assert again.json()["items"][0]["id"] == first.json()["id"]


async def test_fifty_at_a_time_make_one_call(world: ApiWorld) -> None:
    answers = await asyncio.gather(
        *[world.client.post("/v1/calls", json=HOLD, headers=key("k")) for _ in range(50)]
    )

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    fresh = [answer for answer in answers if "idempotency-replayed" not in answer.headers]
    assert len(fresh) == 1
    assert (await world.client.get("/v1/ledger")).json()["total"]["accepted"] == 1


async def test_only_accepted_calls_are_remembered(idle: ApiWorld) -> None:
    refused = await idle.client.post("/v1/calls", json={**HOLD, "tenant": "x"}, headers=key("k"))

    accepted = await idle.client.post("/v1/calls", json=HOLD, headers=key("k"))

    assert refused.status_code == 422
    assert accepted.status_code == 202
    assert "idempotency-replayed" not in accepted.headers


@pytest.mark.parametrize(
    "value", ["", "a" * 256, b"a\x01b", b"a\x7f", "a\u200bb".encode(), b"\xff", b"a\tb"]
)
async def test_key_that_nobody_can_read_is_refused(idle: ApiWorld, value: str | bytes) -> None:
    answer = await idle.client.post("/v1/calls", json=HOLD, headers=key(value))

    assert code_of(answer, 400) == "bad_idempotency_key"


async def test_key_given_twice_is_refused(idle: ApiWorld) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")]

    answer = await idle.client.post("/v1/calls", json=HOLD, headers=headers)

    assert code_of(answer, 400) == "doubled_header"


@pytest.mark.parametrize("value", ["a" * 255, "é à ü".encode(), "' OR 1=1 --", "%_*"])
async def test_key_may_be_any_readable_text(idle: ApiWorld, value: str | bytes) -> None:
    first = await idle.client.post("/v1/calls", json=HOLD, headers=key(value))
    again = await idle.client.post("/v1/calls", json=HOLD, headers=key(value))

    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
