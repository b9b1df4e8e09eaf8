"""The event log over the API: read from a cursor, and published to by apps."""

from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
from tests.api.world import ApiWorld, code_of

from integrationd.call import EventRecord
from integrationd.journal import Transaction

ENROLLED: Mapping[str, Any] = {
    "type": "customer.enrolled",
    "data": {"customer_id": "c-1", "face_amount": 5.00},
}


async def append(world: ApiWorld, *records: EventRecord) -> None:
    def job(writing: Transaction) -> None:
        for record in records:
            writing.chain.append(writing.db, record, 1_800_000_000_000)

    await world.journal.write(job)


def told(kind: str, tenant: str | None = None, **about: str) -> EventRecord:
    return EventRecord(type=kind, data={"n": 1}, tenant=tenant, **about)


async def listed(world: ApiWorld, query: str) -> tuple[list[int], str]:
    answer = await world.client.get(f"/v1/events{query}")
    assert answer.status_code == 200, answer.text
    page = answer.json()
    return [one["seq"] for one in page["items"]], page["next"]


async def of_tenant(world: ApiWorld, tenant: str, role: str = "staff") -> httpx2.AsyncClient:
    body = {"name": f"{tenant}-{role}", "role": role, "tenant": tenant}
    made = await world.client.post("/v1/keys", json=body)
    assert made.status_code == 201, made.text
    return world.new_client({"Authorization": f"Bearer {made.json()['key']}"})


async def test_event_is_shown_with_all_that_it_tells(idle: ApiWorld) -> None:
    await append(idle, told("a.b", "default", call_id="c-1", connection="till"))

    page = (await idle.client.get("/v1/events")).json()

    assert page == {
        "items": [
            {
                "seq": 1,
                "type": "a.b",
                "at": "2027-01-15T08:00:00.000Z",
                "tenant": "default",
                "call_id": "c-1",
                "connection": "till",
                "data": {"n": 1},
            }
        ],
        "next": "1",
    }


async def test_list_goes_on_by_its_cursor_and_ends_where_it_stays(idle: ApiWorld) -> None:
    await append(idle, *[told("a.b")] * 5)

    assert await listed(idle, "?limit=3") == ([1, 2, 3], "3")
    assert await listed(idle, "?limit=3&after=3") == ([4, 5], "5")
    assert await listed(idle, "?limit=3&after=5") == ([], "5")
    assert await listed(idle, "?last=2") == ([4, 5], "5")
    assert await listed(idle, "?last=0") == ([], "5")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?type=payment.received", [2]),
        ("?type=payment.*", [2, 3]),
        ("?type=call.completed,payment.failed", [1, 3]),
        ("?type=*", [1, 2, 3, 4]),
        ("?tenant=shop", [2]),
        ("?tenant=nobody", []),
        ("?call_id=c-1", [1]),
        ("?connection=till", [2, 3]),
        ("?connection=till&type=payment.failed", [3]),
    ],
)
async def test_filters_leave_out_what_is_not_asked_for_and_the_cursor_passes_it(
    idle: ApiWorld, query: str, found: list[int]
) -> None:
    await append(
        idle,
        told("call.completed", "default", call_id="c-1"),
        told("payment.received", "shop", connection="till"),
        told("payment.failed", "default", connection="till"),
        told("config.applied"),
    )

    assert await listed(idle, query) == (found, "4")


@pytest.mark.parametrize(
    "query",
    [
        *("?after=x", "?after=-1", "?last=x", "?limit=0", "?limit=501", "?last=501"),
        *("?after=1&last=1", "?type=", "?type=Payment", "?type=a.b,", "?type=pay*"),
        "?type=" + ",".join(["a.b"] * 21),
    ],
)
async def test_options_that_make_no_sense_are_refused(idle: ApiWorld, query: str) -> None:
    answer = await idle.client.get(f"/v1/events{query}")

    assert code_of(answer, 422) == "invalid"


async def test_unknown_options_are_refused(idle: ApiWorld) -> None:
    assert code_of(await idle.client.get("/v1/events?since=1"), 400) == "unknown_option"


async def test_cursor_before_the_first_kept_event_or_behind_the_last_is_gone(
    idle: ApiWorld,
) -> None:
    await append(idle, *[told("a.b")] * 9)
    await idle.journal.write(lambda writing: writing.db.execute("DELETE FROM event WHERE seq < 5"))

    assert await listed(idle, "") == ([5, 6, 7, 8, 9], "9")
    assert await listed(idle, "?after=4") == ([5, 6, 7, 8, 9], "9")
    pruned, ahead = [await idle.client.get(f"/v1/events?after={n}") for n in (3, 10)]
    assert code_of(pruned, 410) == code_of(ahead, 410) == "events_gone"
    assert "Begin again after 4" in pruned.json()["hint"]
    assert "the log ends at event 9" in ahead.json()["detail"]


async def test_damaged_event_says_so_and_holds_up_no_other(idle: ApiWorld) -> None:
    await append(idle, told("a.b"), told("a.c"))
    await idle.journal.write(
        lambda writing: writing.db.execute("UPDATE event SET data = '{\"n' WHERE seq = 1")
    )

    page = (await idle.client.get("/v1/events")).json()

    assert [one["data"] for one in page["items"]] == [{"damaged": True}, {"n": 1}]


async def test_key_of_a_tenant_sees_its_own_events_and_none_that_are_nobodys(
    idle: ApiWorld,
) -> None:
    await append(idle, told("a.b"), told("a.b", "default"), told("a.b", "other"))

    async with await of_tenant(idle, "default", "read") as app:
        own = (await app.get("/v1/events?type=a.b")).json()
        others = (await app.get("/v1/events?type=a.b&tenant=other")).json()
        same = (await app.get("/v1/events?type=a.b&tenant=default")).json()

    assert [one["seq"] for one in own["items"]] == [2]
    assert same["items"] == own["items"]
    assert others["items"] == []


# Published by apps.


async def test_own_event_is_answered_with_its_number_and_read_by_it(idle: ApiWorld) -> None:
    answer = await idle.client.post("/v1/events", json=ENROLLED)

    assert answer.status_code == 201, answer.text
    event = answer.json()
    assert (event["seq"], event["type"], event["tenant"]) == (1, "customer.enrolled", "default")
    assert event["data"] == ENROLLED["data"]
    assert (await idle.client.get("/v1/events")).json()["items"] == [event]


async def test_reference_is_told_beside_the_data(idle: ApiWorld) -> None:
    body = {**ENROLLED, "reference": {"type": "customer", "id": "c-1"}}

    event = (await idle.client.post("/v1/events", json=body)).json()

    assert event["data"] == {
        **ENROLLED["data"],
        "reference_type": "customer",
        "reference_id": "c-1",
    }


async def test_same_key_and_body_give_the_same_event(idle: ApiWorld) -> None:
    headers = {"Idempotency-Key": "k-1"}
    first = await idle.client.post("/v1/events", json=ENROLLED, headers=headers)
    again = await idle.client.post("/v1/events", json=ENROLLED, headers=headers)
    other = await idle.client.post("/v1/events", json={**ENROLLED, "data": {}}, headers=headers)

    assert (first.json(), again.status_code) == (again.json(), 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert code_of(other, 422) == "idempotency_mismatch"
    assert (await listed(idle, ""))[0] == [1]


@pytest.mark.parametrize(
    "name", ["call.completed", "payment.mine", "link.up", "subscription.x", "integrationd.x"]
)
async def test_types_of_the_daemons_own_words_are_refused(idle: ApiWorld, name: str) -> None:
    answer = await idle.client.post("/v1/events", json={"type": name})

    assert code_of(answer, 422) == "reserved_type"
    assert answer.json()["pointer"] == "/type"


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"type": "enrolled"}, 422, "/type"),
        ({"type": "Customer.enrolled"}, 422, "/type"),
        ({"type": "customer.*"}, 422, "/type"),
        ({"type": 7}, 422, "/type"),
        ({"data": {}}, 422, ""),
        ({**ENROLLED, "data": []}, 422, "/data"),
        ({**ENROLLED, "data": {"x": "y" * 20_500}}, 413, "/data"),
        ({**ENROLLED, "colour": "red"}, 422, ""),
        ({**ENROLLED, "tenant": "nobody"}, 422, "/tenant"),
        (
            {"type": "a.b", "data": {"reference_id": 1}, "reference": {"type": "x", "id": "1"}},
            422,
            "/data/reference_id",
        ),
    ],
)
async def test_event_that_makes_no_sense_is_refused(
    idle: ApiWorld, body: dict[str, Any], status: int, pointer: str
) -> None:
    answer = await idle.client.post("/v1/events", json=body)

    assert answer.status_code == status, answer.text
    assert pointer in answer.json().get("pointer", "")
    assert await listed(idle, "") == ([], "0")


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_key_that_is_none_is_refused(idle: ApiWorld, key: str) -> None:
    answer = await idle.client.post("/v1/events", json=ENROLLED, headers={"Idempotency-Key": key})

    assert code_of(answer, 400) == "bad_idempotency_key"


async def test_staff_of_a_tenant_publishes_for_it_and_for_no_other(idle: ApiWorld) -> None:
    async with await of_tenant(idle, "default") as staff:
        own = await staff.post("/v1/events", json=ENROLLED)
        foreign = await staff.post("/v1/events", json={**ENROLLED, "tenant": "other"})

    assert own.json()["tenant"] == "default"
    assert code_of(foreign, 422) == "no_such_tenant"


async def test_who_may_only_read_publishes_nothing(idle: ApiWorld) -> None:
    async with await of_tenant(idle, "default", "read") as reader:
        answer = await reader.post("/v1/events", json=ENROLLED)

    assert code_of(answer, 403) == "role_missing"
