"""Calls after they were accepted: looked at, listed, and moved by a person."""

import asyncio
from typing import Any

import pytest
from tests.api.world import FINAL, SECRET, ApiWorld, code_of, pointer_of


async def post(world: ApiWorld, path: str, body: Any = None) -> Any:
    return await world.client.post(path, json=body) if body else await world.client.post(path)


# One call


async def test_call_is_shown_with_all_that_belongs_to_it(world: ApiWorld) -> None:
    shown = await world.play("hold", {"script": ["retryable", "delivered"]})

    first, second = shown["attempt_log"]
    assert shown["state"] == "completed"
    assert shown["result"] == {"step": "delivered"}
    assert shown["why"] is shown["until"] is None
    assert (first["number"], first["outcome"], first["reason"]) == (1, "retryable", "busy")
    assert (second["number"], second["outcome"]) == (2, "delivered")
    assert first["rule"] == "tried again later"
    assert shown["attempts"] == shown["tries"] == 2


@pytest.mark.parametrize(
    ("verb", "script", "state", "why"),
    [
        ("hold", ["slow:1"], "processing", "An attempt is under way."),
        ("ask", ["accepted"], "waiting", "The provider is asked next at"),
        ("hold", ["uncertain"], "unknown", "integrationd resolve"),
        ("ask", ["uncertain"], "unknown", "The provider is asked next at"),
        ("hold", ["retryable:60"], "pending", "Busy. The next attempt is due."),
    ],
)
async def test_open_call_says_why_it_stands_where_it_stands(
    world: ApiWorld, verb: str, script: list[str], state: str, why: str
) -> None:
    call_id = (await post(world, f"/v1/rehearsal/{verb}", {"script": script})).json()["id"]
    shown = await world.look(call_id)
    for _ in range(100):
        if shown["state"] == state and (state != "pending" or shown["tries"]):
            break
        await asyncio.sleep(0.01)
        shown = await world.look(call_id)

    assert shown["state"] == state
    assert why in shown["why"]


async def test_call_before_its_time_says_so(idle: ApiWorld) -> None:
    body = {"operation": "rehearsal.hold", "not_before": "2035-01-01T00:00:00Z"}
    shown = await idle.look((await post(idle, "/v1/calls", body)).json()["id"])

    assert shown["why"] == "It is not to go before its time. The next attempt is due."
    assert shown["until"] == "2035-01-01T00:00:00.000Z"


async def test_call_to_several_shows_its_parts(world: ApiWorld) -> None:
    shown = await world.play("hold", {"script": ["parts:dr"], "recipients": ["a", "b"]})

    assert shown["state"] == "completed"
    assert shown["detail"] == "1 of 2 recipients failed."
    assert [(part["recipient"], part["state"]) for part in shown["parts"]] == [
        ("a", "done"),
        ("b", "failed"),
    ]


async def test_unknown_call_id_is_a_404(idle: ApiWorld) -> None:
    for call_id in ("none", "0190b5f0-7c1a-7000-8000-0123456789ab", "%00", "%ff", "' OR 1=1"):
        assert code_of(await idle.client.get(f"/v1/calls/{call_id}"), 404) == "no_such_call"


# Lists


async def numbered(world: ApiWorld, count: int) -> list[str]:
    calls = [
        {"operation": "rehearsal.hold", "reference": {"type": "n", "id": str(number % 2)}}
        for number in range(count)
    ]
    answer = await world.client.post("/v1/calls/batch", json={"calls": calls})
    return [item["id"] for item in reversed(answer.json()["items"])]


async def test_list_is_paged_from_the_latest_on(idle: ApiWorld) -> None:
    ids, found, cursor = await numbered(idle, 7), list[str](), ""
    while True:
        page = (await idle.client.get(f"/v1/calls?limit=3{cursor}")).json()
        found += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"

    assert found == ids


async def test_new_calls_do_not_shift_the_pages(idle: ApiWorld) -> None:
    ids = await numbered(idle, 4)
    first = (await idle.client.get("/v1/calls?limit=2")).json()
    await numbered(idle, 3)

    second = (await idle.client.get(f"/v1/calls?limit=2&cursor={first['next']}")).json()

    assert [item["id"] for item in second["items"]] == ids[2:]


async def test_list_is_filtered(world: ApiWorld) -> None:
    done = await world.play("hold", reference={"type": "order", "id": "A%_1"})
    failed = await world.play("keyed", {"script": ["rejected"]})
    unknown = await world.play("hold", {"script": ["uncertain"]}, connection="stage")

    async def ids(**filters: str) -> list[str]:
        answer = await world.client.get("/v1/calls", params=filters)
        return [item["id"] for item in answer.json()["items"]]

    assert await ids(state="completed") == [done["id"]]
    assert await ids(state="failed") == [failed["id"]]
    assert await ids(state="unknown", operation="rehearsal.hold") == [unknown["id"]]
    assert await ids(operation="rehearsal.keyed") == [failed["id"]]
    assert await ids(reference_type="order", reference_id="A%_1") == [done["id"]]
    assert await ids(reference_id="A%_1", state="failed") == []
    assert await ids(connection="stage", tenant="default") == [
        unknown["id"],
        failed["id"],
        done["id"],
    ]
    assert await ids(tenant="school") == []


@pytest.mark.parametrize(
    "value", ["%", "_", "A%", "' OR '1'='1", "1; DROP TABLE call; --", "\0", "\udcff", "x" * 9000]
)
async def test_filters_are_compared_and_never_interpreted(idle: ApiWorld, value: str) -> None:
    await numbered(idle, 2)
    for name in ("operation", "connection", "tenant", "reference_type", "reference_id"):
        query = value.encode("utf-8", "surrogateescape")
        spelled = "".join(f"%{byte:02x}" for byte in query)
        answer = await idle.client.get(f"/v1/calls?{name}={spelled}")
        assert answer.json() == {"items": [], "next": None}

    assert len((await idle.client.get("/v1/calls")).json()["items"]) == 2


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("cursor=", 422, "invalid"),
        ("cursor=-1", 422, "invalid"),
        ("cursor=1.5", 422, "invalid"),
        ("cursor=abc", 422, "invalid"),
        ("cursor=1%27%20OR%201=1", 422, "invalid"),
        ("cursor=99999999999999999999", 422, "invalid"),
        ("cursor=%D9%A3", 422, "invalid"),
        ("limit=0", 422, "invalid"),
        ("limit=501", 422, "invalid"),
        ("limit=many", 422, "invalid"),
        ("state=lost", 422, "invalid"),
        ("state=", 422, "invalid"),
        ("order_by=id", 400, "unknown_option"),
        ("state=failed&state=pending", 400, "doubled_option"),
    ],
)
async def test_list_options_that_make_no_sense_are_refused(
    idle: ApiWorld, query: str, status: int, code: str
) -> None:
    for path in ("/v1/calls", "/v1/attempts"):
        if path == "/v1/attempts" and "state" in query:
            continue
        assert code_of(await idle.client.get(f"{path}?{query}"), status) == code


async def test_largest_cursor_shows_the_latest(idle: ApiWorld) -> None:
    ids = await numbered(idle, 2)

    page = (await idle.client.get(f"/v1/calls?cursor={2**63 - 1}")).json()

    assert [item["id"] for item in page["items"]] == ids


# A person's word


async def test_pending_call_is_cancelled_once(idle: ApiWorld) -> None:
    call_id = (await numbered(idle, 1))[0]

    cancelled = await idle.client.delete(f"/v1/calls/{call_id}")
    again = await idle.client.delete(f"/v1/calls/{call_id}")

    assert cancelled.json()["state"] == "cancelled"
    assert cancelled.json()["detail"] == "Cancelled by key:bootstrap."
    assert code_of(again, 409) == "not_cancellable"


async def test_failed_call_is_sent_again(world: ApiWorld) -> None:
    failed = await world.play("hold", {"script": ["rejected", "delivered"]})

    retried = await post(world, f"/v1/calls/{failed['id']}/retry")
    done = await world.client.get(f"/v1/calls/{failed['id']}", headers={"Prefer": "wait=5"})

    assert retried.status_code == 202
    assert retried.json()["state"] == "pending"
    assert done.json()["state"] == "completed"


@pytest.mark.parametrize(
    ("word", "state"), [("done", "completed"), ("refused", "failed"), ("repeat", "completed")]
)
async def test_unknown_call_is_settled_by_a_person(world: ApiWorld, word: str, state: str) -> None:
    unknown = await world.play("hold", {"script": ["uncertain", "delivered"]})

    told = await post(
        world, f"/v1/calls/{unknown['id']}/resolve", {"resolution": word, "note": "Asked them."}
    )
    settled = await world.client.get(f"/v1/calls/{unknown['id']}", headers={"Prefer": "wait=5"})

    assert told.status_code == 200
    assert told.json()["detail"] == f"Resolved as {word} by key:bootstrap. Asked them."
    assert settled.json()["state"] == state


@pytest.mark.parametrize(
    ("script", "cancel", "retry", "resolve"),
    [
        (["delivered"], "not_cancellable", "not_retryable", "not_resolvable"),
        (["rejected"], "not_cancellable", None, "not_resolvable"),
        (["uncertain"], "not_cancellable", "not_retryable", None),
        (["accepted"], "not_cancellable", "not_retryable", "not_resolvable"),
    ],
)
async def test_word_that_the_state_does_not_allow_is_a_409(
    world: ApiWorld, script: list[str], cancel: str, retry: str | None, resolve: str | None
) -> None:
    call = await world.play("hold", {"script": script})
    path = f"/v1/calls/{call['id']}"

    answers = {
        cancel: await world.client.delete(path),
        retry: None if retry is None else await post(world, f"{path}/retry"),
        resolve: None
        if resolve is None
        else await post(world, f"{path}/resolve", {"resolution": "done"}),
    }

    for code, answer in answers.items():
        if answer is not None:
            assert code_of(answer, 409) == code
            assert call["state"] in answer.json()["detail"]
    assert code_of(await post(world, f"{path}/acknowledge"), 409) == "conflict"
    assert (await world.look(call["id"]))["state"] == call["state"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"resolution": "maybe"}, "/resolution"),
        ({"resolution": "done", "note": "x" * 1001}, "/note"),
        ({"resolution": "done", "colour": 1}, "/colour"),
        ({"note": "x"}, ""),
    ],
)
async def test_resolution_that_makes_no_sense_is_refused(
    world: ApiWorld, body: dict[str, Any], pointer: str
) -> None:
    unknown = await world.play("hold", {"script": ["uncertain"]})

    answer = await post(world, f"/v1/calls/{unknown['id']}/resolve", body)

    assert code_of(answer, 422) == "invalid"
    assert pointer_of(answer) == pointer
    assert (await world.look(unknown["id"]))["state"] == "unknown"


async def test_word_about_no_call_is_a_404(idle: ApiWorld) -> None:
    path = "/v1/calls/none"
    answers = [
        await idle.client.delete(path),
        await post(idle, f"{path}/retry"),
        await post(idle, f"{path}/acknowledge"),
        await post(idle, f"{path}/resolve", {"resolution": "done"}),
    ]

    assert {code_of(answer, 404) for answer in answers} == {"no_such_call"}


async def test_ten_cancels_at_a_time_are_one(idle: ApiWorld) -> None:
    call_id = (await numbered(idle, 1))[0]

    answers = await asyncio.gather(*[idle.client.delete(f"/v1/calls/{call_id}") for _ in range(10)])

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9


async def test_word_on_a_call_takes_no_options(idle: ApiWorld) -> None:
    call_id = (await numbered(idle, 1))[0]

    answer = await idle.client.delete(f"/v1/calls/{call_id}?force=true")

    assert code_of(answer, 400) == "unknown_option"
    assert (await idle.look(call_id))["state"] == "pending"


async def test_no_answer_shows_a_secret_of_the_configuration(world: ApiWorld) -> None:
    payload = {"method": "POST", "path": "/o", "text": f"about {SECRET}"}
    answer = await post(world, "/v1/calls", {"operation": "http.request", "payload": payload})
    call_id = answer.json()["id"]

    shown = [
        await world.client.get(path)
        for path in (f"/v1/calls/{call_id}", "/v1/calls", "/v1/attempts", "/v1/connections")
    ]
    shown += [await world.client.get(path) for path in ("/v1/providers", "/v1/status", "/metrics")]

    assert FINAL.isdisjoint({answer.json()["state"]})
    assert not any(SECRET in one.text for one in shown)
