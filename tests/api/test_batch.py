"""Batches: up to a thousand calls, all or none, and an error names the one at fault."""

from typing import Any

import pytest
from tests.api.world import ApiWorld, code_of, pointer_of

HOLD: dict[str, Any] = {"operation": "rehearsal.hold"}


async def accepted(world: ApiWorld) -> int:
    total: int = (await world.client.get("/v1/ledger")).json()["total"]["accepted"]
    return total


async def test_calls_of_a_batch_are_answered_in_their_order(world: ApiWorld) -> None:
    calls = [{**HOLD, "reference": {"type": "n", "id": str(number)}} for number in range(5)]

    answer = await world.client.post("/v1/calls/batch", json={"calls": calls})

    items = answer.json()["items"]
    assert answer.status_code == 202
    assert [item["reference"]["id"] for item in items] == list("01234")
    for item in items:
        waited = await world.client.get(f"/v1/calls/{item['id']}", headers={"Prefer": "wait=5"})
        assert waited.json()["state"] == "completed"


async def test_thousand_calls_are_taken_and_one_more_is_not(idle: ApiWorld) -> None:
    full = await idle.client.post("/v1/calls/batch", json={"calls": [HOLD] * 1000})
    over = await idle.client.post("/v1/calls/batch", json={"calls": [HOLD] * 1001})

    assert full.status_code == 202
    assert len({item["id"] for item in full.json()["items"]}) == 1000
    assert code_of(over, 422) == "invalid"
    assert pointer_of(over) == "/calls"
    assert await accepted(idle) == 1000


@pytest.mark.parametrize(
    ("wrong", "code", "pointer"),
    [
        ({**HOLD, "colour": "red"}, "invalid", "/calls/2/colour"),
        ({**HOLD, "priority": "urgent"}, "invalid", "/calls/2/priority"),
        ({**HOLD, "payload": {"script": []}}, "invalid", "/calls/2/payload/script"),
        ({**HOLD, "metadata": 7}, "invalid", "/calls/2/metadata"),
        ({**HOLD, "tenant": "school"}, "no_such_tenant", "/calls/2/tenant"),
        ({**HOLD, "ordering_key": "k"}, "not_available", "/calls/2/ordering_key"),
        ({**HOLD, "expires_in": -1}, "invalid", "/calls/2/expires_in"),
        ({**HOLD, "connection": "nobody"}, "not_configured", "/calls/2/connection"),
        ({"operation": "sms.sned"}, "unknown_operation", "/calls/2/operation"),
        ({}, "invalid", "/calls/2"),
        (None, "invalid", "/calls/2"),
    ],
)
async def test_batch_with_one_wrong_call_is_refused_as_a_whole(
    idle: ApiWorld, wrong: Any, code: str, pointer: str
) -> None:
    answer = await idle.client.post("/v1/calls/batch", json={"calls": [HOLD, HOLD, wrong, HOLD]})

    assert code_of(answer, 422) == code
    assert pointer_of(answer) == pointer
    assert await accepted(idle) == 0


async def test_batch_that_names_one_reference_twice_is_refused_as_a_whole(idle: ApiWorld) -> None:
    named = {**HOLD, "payload": {"reference": "INV-1"}}

    answer = await idle.client.post("/v1/calls/batch", json={"calls": [HOLD, named, named]})

    assert code_of(answer, 409) == "reference_taken"
    assert await accepted(idle) == 0


async def test_empty_batch_is_refused(idle: ApiWorld) -> None:
    answer = await idle.client.post("/v1/calls/batch", json={"calls": []})

    assert code_of(answer, 422) == "invalid"


@pytest.mark.parametrize(
    "body", [{}, [], {"calls": {}}, {"calls": [HOLD], "colour": 1}, {"calls": "x"}, 7]
)
async def test_batch_of_another_shape_is_refused(idle: ApiWorld, body: Any) -> None:
    answer = await idle.client.post("/v1/calls/batch", json=body)

    assert code_of(answer, 422) == "invalid"


async def test_calls_of_a_batch_carry_keys_of_their_own(idle: ApiWorld) -> None:
    calls = [{**HOLD, "idempotency_key": "a"}, {**HOLD, "idempotency_key": "b"}, HOLD]
    first = (await idle.client.post("/v1/calls/batch", json={"calls": calls})).json()["items"]

    again = (await idle.client.post("/v1/calls/batch", json={"calls": calls})).json()["items"]

    same = [one["id"] == other["id"] for one, other in zip(first, again, strict=True)]
    assert same == [True, True, False]
    assert await accepted(idle) == 4


async def test_key_twice_in_a_batch_is_one_call(idle: ApiWorld) -> None:
    calls = [{**HOLD, "idempotency_key": "a"}] * 2

    items = (await idle.client.post("/v1/calls/batch", json={"calls": calls})).json()["items"]

    assert items[0]["id"] == items[1]["id"]
    assert await accepted(idle) == 1


async def test_batch_refuses_a_key_for_all(idle: ApiWorld) -> None:
    answer = await idle.client.post(
        "/v1/calls/batch", json={"calls": [HOLD]}, headers={"Idempotency-Key": "k"}
    )

    assert code_of(answer, 400) == "bad_request"
    assert "idempotency_key" in answer.json()["hint"]
