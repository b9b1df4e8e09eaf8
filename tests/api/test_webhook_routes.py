"""The inbox over the API: what came, where it comes to, and having one worked on again."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.world import SECRET, ApiWorld, Unhooked, code_of
from tests.webhooks.world import TILL

from integrationd.call import new_call_id
from integrationd.clock import SystemClock
from integrationd.journal import Received
from integrationd.registry import ConnectionSpec, LoadedPlugins, load_plugins

AT_MS = 1_800_000_000_000


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Unhooked:
    """What remembers the replays of the daemon that is made next."""
    made = Unhooked()
    monkeypatch.setattr("tests.api.world.Unhooked", lambda: made)
    return made


@pytest.fixture
async def inbox(tmp_path: Path, hooks: Unhooked) -> AsyncIterator[ApiWorld]:
    """A daemon with a till, into whose inbox tests put webhooks."""
    world = ApiWorld(tmp_path, SystemClock())
    till = ConnectionSpec(
        name="till",
        provider="till",
        environment="sandbox",
        config={"secret": SECRET},
        timeout_s=10.0,
    )
    async with world.opened():
        versions = {**world.registry.versions, **load_plugins([TILL], SystemClock()).versions}
        loaded = LoadedPlugins(versions=versions, faults=())
        plan = await world.registry.plan(loaded, [*world._specs(), till])
        for connection in world.registry.commit(plan):
            await connection.retire()
        yield world


async def keep(world: ApiWorld, number: int = 1, **changes: Any) -> str:
    given = {
        "id": new_call_id(AT_MS + number),
        "tenant": "default",
        "connection": "till",
        "provider": "till",
        "received_at_ms": AT_MS + number,
        "source": "203.0.113.7",
        "method": "POST",
        "path": "",
        "query": "",
        "headers": '{"content-type":"application/json"}',
        "body": b'{"id":"evt-1"}',
        "proof": "signature",
        "address_call_id": None,
        "dedupe": str(number).encode(),
        "reply_status": 200,
        "reply_type": "application/json",
        "reply_body": b'{"ResultCode":0}',
        "types": "charge.success",
    }
    kept, _ = await world.journal.inbox.keep(Received(**{**given, **changes}))
    return kept.id


async def shown(world: ApiWorld, path: str, **params: Any) -> Any:
    answer = await world.client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_webhooks_are_listed_the_latest_first_without_their_bodies(inbox: ApiWorld) -> None:
    first, second = await keep(inbox, 1), await keep(inbox, 2)

    page = await shown(inbox, "/v1/webhooks")

    assert [item["id"] for item in page["items"]] == [second, first]
    assert page["next"] is None
    assert page["items"][1] == {
        "id": first,
        "connection": "till",
        "provider": "till",
        "tenant": "default",
        "received_at": "2027-01-15T08:00:00.001Z",
        "source": "203.0.113.7",
        "path": "",
        "types": "charge.success",
        "state": "new",
        "note": None,
        "call_id": None,
        "proof": "signature",
        "repeats": 0,
        "repeated_at": None,
        "reply_status": 200,
        "headers": None,
        "body": None,
        "body_base64": None,
    }


async def test_list_goes_on_where_a_page_ended(inbox: ApiWorld) -> None:
    kept = [await keep(inbox, number) for number in range(5)]

    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await shown(inbox, "/v1/webhooks", limit="2", **cursor)
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}

    assert seen == kept[::-1]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"connection": "till"}, [2, 1]),
        ({"connection": "nobody"}, []),
        ({"state": "ignored"}, [2]),
        ({"tenant": "school"}, [3]),
        ({"call_id": "019bc19c-0c00-7000-8000-00000000c0de"}, [2]),
        ({"connection": "till", "state": "new"}, [1]),
    ],
)
async def test_list_can_be_narrowed(
    inbox: ApiWorld, wanted: dict[str, str], numbers: list[int]
) -> None:
    kept = {1: await keep(inbox, 1), 2: await keep(inbox, 2)}
    kept[3] = await keep(inbox, 3, connection="booth", tenant="school")
    call_id = "019bc19c-0c00-7000-8000-00000000c0de"
    await inbox.journal.inbox.mark(2, "ignored", "x", call_id, AT_MS)

    page = await shown(inbox, "/v1/webhooks", **wanted)

    assert [item["id"] for item in page["items"]] == [kept[number] for number in numbers]


@pytest.mark.parametrize(
    ("params", "status"),
    [({"state": "lost"}, 422), ({"surprise": "1"}, 400), ({"limit": "0"}, 422)],
)
async def test_list_of_what_there_cannot_be_is_refused(
    inbox: ApiWorld, params: dict[str, str], status: int
) -> None:
    answer = await inbox.client.get("/v1/webhooks", params=params)

    assert code_of(answer, status)


async def test_one_webhook_is_shown_whole_and_masked(inbox: ApiWorld) -> None:
    body = b'{"id":"evt-1","token":"t0psecret-value","note":"' + SECRET.encode() + b'"}'
    one = await keep(inbox, body=body)

    found = await shown(inbox, f"/v1/webhooks/{one}")

    assert found["headers"] == {"content-type": "application/json"}
    assert '"id":"evt-1"' in found["body"].replace(" ", "")
    assert SECRET not in found["body"]
    assert "t0psecret-value" not in found["body"]
    assert found["body_base64"] is None


async def test_body_that_is_no_text_is_shown_in_base64(inbox: ApiWorld) -> None:
    one = await keep(inbox, body=b"\xff\x00")

    found = await shown(inbox, f"/v1/webhooks/{one}")

    assert base64.b64decode(found["body_base64"]) == b"\xff\x00"
    assert found["body"] is None


@pytest.mark.parametrize("path", ["/v1/webhooks/{}", "/v1/webhooks/{}/replay"])
@pytest.mark.parametrize("one", ["019bc19c-0c00-7000-8000-00000000c0de", "x", "%00", "é" * 100])
async def test_webhook_that_is_not_there_is_not_found(inbox: ApiWorld, path: str, one: str) -> None:
    method = "POST" if path.endswith("replay") else "GET"

    answer = await inbox.client.request(method, path.format(one))

    assert code_of(answer, 404) == "no_such_webhook"


async def test_replay_has_it_worked_on_again(inbox: ApiWorld, hooks: Unhooked) -> None:
    one = await keep(inbox)

    answer = await inbox.client.post(f"/v1/webhooks/{one}/replay")

    assert (answer.status_code, answer.json()["id"]) == (202, one)
    assert [kept.id for kept in hooks.replayed] == [one]


async def test_endpoints_tell_where_and_how_much_came(inbox: ApiWorld) -> None:
    await keep(inbox, 1)
    await keep(inbox, 2)
    await keep(inbox, 9, dedupe=b"2")
    await keep(inbox, 5, connection="gone")

    page = await shown(inbox, "/v1/webhook-endpoints")

    (till,) = [item for item in page["items"] if item["connection"] == "till"]
    assert till == {
        "connection": "till",
        "provider": "till",
        "address": f"https://hooks.x.test/hooks/{b'till'.hex()}",
        "path": "/webhooks/till/till",
        "received": 2,
        "repeats": 1,
        "last_received_at": "2027-01-15T08:00:00.009Z",
    }
    names = {item["connection"] for item in page["items"]}
    assert not names & {"gone", "stage", "console", "shop"}


async def test_endpoint_to_which_nothing_came_is_shown_too(inbox: ApiWorld) -> None:
    page = await shown(inbox, "/v1/webhook-endpoints")

    (till,) = [item for item in page["items"] if item["connection"] == "till"]
    assert (till["received"], till["repeats"], till["last_received_at"]) == (0, 0, None)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/webhooks"),
        ("GET", "/v1/webhooks/x"),
        ("POST", "/v1/webhooks/x/replay"),
        ("GET", "/v1/webhook-endpoints"),
    ],
)
async def test_inbox_needs_a_key(inbox: ApiWorld, method: str, path: str) -> None:
    async with inbox.new_client() as stranger:
        assert code_of(await stranger.request(method, path), 401)


async def test_replay_is_no_get(inbox: ApiWorld) -> None:
    assert code_of(await inbox.client.get("/v1/webhooks/x/replay"), 405)
