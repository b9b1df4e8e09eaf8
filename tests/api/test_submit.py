"""Accepting one call: what it may say, and that nothing in it is ignored."""

import datetime as dt
import json
from typing import Any

import pytest
from tests.api.world import ApiWorld, code_of, pointer_of

from integrationd.clock import SystemClock

YEAR = dt.timedelta(days=366)
SMS = {"to": "+254711000111", "message": "Ready"}


def hold(**options: Any) -> dict[str, Any]:
    return {"operation": "rehearsal.hold", **options}


def after(delta: dt.timedelta) -> str:
    now = dt.datetime.fromtimestamp(SystemClock().now_ms() / 1000, dt.UTC)
    return (now + delta).isoformat()


async def test_call_is_kept_with_its_options(idle: ApiWorld) -> None:
    due, end = after(dt.timedelta(hours=1)), after(dt.timedelta(hours=2))
    body = hold(
        connection="stage",
        tenant="default",
        priority="high",
        not_before=due,
        expires_at=end,
        reference={"type": "order", "id": "4711"},
        on_uncertain="repeat",
    )

    answer = await idle.client.post("/v1/calls", json=body)

    shown = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/calls/{shown['id']}"
    assert "idempotency-replayed" not in answer.headers
    assert shown["state"] == "pending"
    assert shown["connection"] == "stage"
    assert shown["priority"] == "high"
    assert shown["reference"] == {"type": "order", "id": "4711"}
    for name, asked in (("next_attempt_at", due), ("expires_at", end)):
        found = dt.datetime.fromisoformat(shown[name])
        assert abs(found - dt.datetime.fromisoformat(asked)) <= dt.timedelta(milliseconds=1)


async def test_expires_in_counts_from_acceptance(idle: ApiWorld) -> None:
    shown = (await idle.client.post("/v1/calls", json=hold(expires_in=90.5))).json()

    lifetime = dt.datetime.fromisoformat(shown["expires_at"]) - dt.datetime.fromisoformat(
        shown["created_at"]
    )
    assert lifetime == dt.timedelta(seconds=90.5)


async def test_call_of_the_past_is_due_at_once(world: ApiWorld) -> None:
    shown = await world.play("hold", not_before="2001-01-01T00:00:00+03:00")

    assert shown["state"] == "completed"


async def test_metadata_comes_back_byte_for_byte(idle: ApiWorld) -> None:
    metadata = '{ "b":1.50, "a" : [ 10e2,"\\u00e9é",null ],"big":123456789012345678901 }'
    body = '{"operation":"rehearsal.hold","metadata":' + metadata + "}"
    accepted = await idle.client.post("/v1/calls", content=body)

    shown = await idle.client.get(f"/v1/calls/{accepted.json()['id']}")

    assert f'"metadata":{metadata},' in shown.text


async def test_payload_is_shown_as_it_came_but_masked(idle: ApiWorld) -> None:
    payload = {"method": "POST", "path": "/o", "json": {"id": 7, "api_key": "k-123456"}}
    body = {"operation": "http.request", "payload": payload}
    accepted = await idle.client.post("/v1/calls", json=body)

    shown = await idle.look(accepted.json()["id"])

    assert shown["payload"]["json"] == {"id": 7, "api_key": "***"}
    assert "k-123456" not in accepted.text


async def test_more_urgent_calls_go_first(tmp_path: Any) -> None:
    settings = {"connections": {"stage": {"provider": "rehearsal", "concurrency": 1}}}
    made = ApiWorld(tmp_path, SystemClock(), settings)
    async with made.running():
        await made.client.post("/v1/calls", json=hold(payload={"script": ["slow:0.3"]}))
        ids = {}
        for priority in ("low", "normal", "high"):
            answer = await made.client.post("/v1/calls", json=hold(priority=priority))
            ids[priority] = answer.json()["id"]
        for call_id in ids.values():
            await made.client.get(f"/v1/calls/{call_id}", headers={"Prefer": "wait=5"})

    times = made.plugin.times_ms
    order = [times[ids[priority]] for priority in ("high", "normal", "low")]
    assert order == sorted(order)


async def test_on_uncertain_of_the_call_overrules_the_contract(world: ApiWorld) -> None:
    script = {"script": ["uncertain", "delivered"]}

    held = await world.play("repeat", script, on_uncertain="hold")
    repeated = await world.play("hold", script, on_uncertain="repeat")

    assert (held["state"], held["tries"]) == ("unknown", 1)
    assert (repeated["state"], repeated["tries"]) == ("completed", 2)


async def test_own_reference_is_taken_once_per_connection(idle: ApiWorld) -> None:
    body = hold(payload={"reference": "INV-1"})
    first = await idle.client.post("/v1/calls", json=body)

    again = await idle.client.post("/v1/calls", json=body)

    assert code_of(again, 409) == "reference_taken"
    assert first.json()["id"] in again.json()["detail"]
    assert pointer_of(again) == "/payload/reference"


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        (hold(tenant="school"), "no_such_tenant", "/tenant"),
        (hold(ordering_key="k"), "not_available", "/ordering_key"),
        (hold(colour="red"), "invalid", "/colour"),
        (hold(**{"a/b~c": 1}), "invalid", "/a~1b~0c"),
        (hold(payload={"colour": "red"}), "invalid", "/payload/colour"),
        (hold(payload={"recipients": ["a", 7]}), "invalid", "/payload/recipients/1"),
        (hold(payload={"script": []}), "invalid", "/payload/script"),
        (hold(payload=None), "invalid", "/payload"),
        (hold(reference={"type": "t", "id": "1", "x": 1}), "invalid", "/reference/x"),
        (hold(reference={"type": "t", "id": ""}), "invalid", "/reference/id"),
        (hold(reference={"type": "t\u001b[2J", "id": "1"}), "invalid", "/reference/type"),
        (hold(priority="urgent"), "invalid", "/priority"),
        (hold(on_uncertain="guess"), "invalid", "/on_uncertain"),
        (hold(metadata=[]), "invalid", "/metadata"),
        (hold(metadata={"a": "x" * 17_000}), "invalid", "/metadata"),
        (hold(idempotency_key="k"), "invalid", "/idempotency_key"),
        (hold(expires_in=1, expires_at="2030-01-01T00:00:00Z"), "invalid", "/expires_in"),
        (hold(expires_in=-1), "invalid", "/expires_in"),
        (hold(expires_in=10**18), "invalid", "/expires_in"),
        (hold(not_before="2030-01-01T00:00:00"), "invalid", "/not_before"),
        (hold(not_before=10**18), "invalid", "/not_before"),
        (hold(not_before="10000-01-01T00:00:00Z"), "invalid", "/not_before"),
        (hold(not_before="9999-12-31T00:00:00Z"), "invalid", "/not_before"),
        (hold(expires_at="9999-12-31T23:59:59.999Z"), "invalid", "/expires_at"),
        (hold(expires_at="0001-01-01T00:00:00+23:59"), "invalid", "/expires_at"),
        ({"operation": "sms.sned", "payload": SMS}, "unknown_operation", "/operation"),
        ({"operation": ""}, "unknown_operation", "/operation"),
        ({"payload": SMS}, "invalid", ""),
        (hold(connection="nobody"), "not_configured", "/connection"),
        (hold(connection="off"), "not_configured", "/connection"),
        (hold(connection="console"), "unsupported", "/connection"),
        (
            {"operation": "http.request", "payload": {"method": "GET", "path": "/"}},
            "unsupported",
            "/payload",
        ),
        (
            {
                "operation": "http.request",
                "payload": {"method": "POST", "path": "/", "headers": {"X-A": 1}},
            },
            "invalid",
            "/payload/headers",
        ),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else None,
)
async def test_what_cannot_be_done_is_refused_by_its_name(
    idle: ApiWorld, body: dict[str, Any], code: str, pointer: str
) -> None:
    answer = await idle.client.post("/v1/calls", json=body)

    assert code_of(answer, 422) == code
    assert pointer_of(answer) == pointer
    assert (await idle.client.get("/v1/ledger")).json()["total"]["accepted"] == 0


async def test_operation_without_a_connection_is_not_configured(tmp_path: Any) -> None:
    made = ApiWorld(tmp_path, SystemClock(), {"connections": {}})
    async with made.opened():
        answer = await made.client.post("/v1/sms/send", json=SMS)

    assert code_of(answer, 422) == "not_configured"
    assert "connections" in answer.json()["hint"]


async def test_route_that_holds_keeps_the_call_and_says_why(tmp_path: Any) -> None:
    settings = {"routes": {"sms.send": {"order": ["later"], "when_missing": "hold"}}}
    made = ApiWorld(tmp_path, SystemClock(), settings)
    async with made.running():
        answer = await made.client.post("/v1/sms/send", json=SMS)
        shown = await made.look(answer.json()["id"])

    assert answer.status_code == 202
    assert shown["state"] == "pending"
    assert "No connection is configured for sms.send" in shown["why"]


async def test_two_connections_without_a_route_are_ambiguous(tmp_path: Any) -> None:
    settings = {"connections": {name: {"provider": "console"} for name in ("one", "two")}}
    made = ApiWorld(tmp_path, SystemClock(), settings)
    async with made.opened():
        unclear = await made.client.post("/v1/sms/send", json=SMS)
        clear = await made.client.post("/v1/sms/send?connection=two", json=SMS)

    assert code_of(unclear, 422) == "ambiguous_route"
    assert "one, two" in unclear.json()["detail"]
    assert clear.json()["connection"] == "two"


async def test_body_of_a_mebibyte_is_taken_and_one_byte_more_is_not(idle: ApiWorld) -> None:
    for path, head in (
        ("/v1/calls", b'{"operation":"rehearsal.hold"'),
        ("/v1/rehearsal/hold", b'{"script":["delivered"]'),
        ("/v1/calls/batch", b'{"calls":[{"operation":"rehearsal.hold"}]'),
    ):
        body = head.ljust(1024 * 1024 - 1) + b"}"
        assert (await idle.client.post(path, content=body)).status_code == 202
        refused = await idle.client.post(path, content=body + b" ")
        assert code_of(refused, 413) == "too_large"


async def test_options_in_the_query_of_the_long_form_are_refused(idle: ApiWorld) -> None:
    answer = await idle.client.post("/v1/calls?priority=high", json=hold())

    assert code_of(answer, 400) == "unknown_option"


# The short form


async def test_short_form_takes_its_options_from_the_query(idle: ApiWorld) -> None:
    answer = await idle.client.post(
        "/v1/rehearsal/hold",
        params={
            "connection": "stage",
            "priority": "low",
            "not_before": "2001-02-03T04:05:06Z",
            "expires_in": "60.5",
            "reference_type": "order",
            "reference_id": "7",
            "on_uncertain": "hold",
            "tenant": "default",
        },
        json={"script": ["delivered"]},
    )

    shown = await idle.look(answer.json()["id"])
    assert answer.status_code == 202
    assert shown["operation"] == "rehearsal.hold"
    assert shown["payload"] == {"script": ["delivered"]}
    assert shown["priority"] == "low"
    assert shown["reference"] == {"type": "order", "id": "7"}
    assert shown["expires_at"] is not None


async def test_short_form_without_a_body_has_an_empty_payload(idle: ApiWorld) -> None:
    answer = await idle.client.post("/v1/rehearsal/hold")

    assert (await idle.look(answer.json()["id"]))["payload"] == {}


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("colour=red", 400, "unknown_option"),
        ("payload={}", 400, "unknown_option"),
        ("idempotency_key=k", 400, "unknown_option"),
        ("priority=low&priority=low", 400, "doubled_option"),
        ("priority=urgent", 422, "invalid"),
        ("tenant=school", 422, "no_such_tenant"),
        ("ordering_key=k", 422, "not_available"),
        ("expires_in=nan", 422, "invalid"),
        ("expires_in=inf", 422, "invalid"),
        ("expires_in=-1", 422, "invalid"),
        ("expires_in=soon", 422, "invalid"),
        ("not_before=-5", 422, "invalid"),
        ("not_before=1000000000000000000", 422, "invalid"),
        ("not_before=tomorrow", 422, "invalid"),
        ("reference_type=order", 422, "invalid"),
        ("on_uncertain=", 422, "invalid"),
        ("connection=nobody", 422, "not_configured"),
    ],
)
async def test_options_that_make_no_sense_are_named(
    idle: ApiWorld, query: str, status: int, code: str
) -> None:
    answer = await idle.client.post(f"/v1/rehearsal/hold?{query}", json={})

    assert code_of(answer, status) == code
    assert query.partition("=")[0] in answer.text or "twice" in answer.text
