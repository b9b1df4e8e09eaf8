"""The users' log: attempts and webhooks with the columns of ``integration_logs``."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.api.in_users_words import send, shown
from tests.api.test_webhook_routes import AT_MS, keep
from tests.api.world import SECRET, ApiWorld, code_of
from tests.webhooks.world import TILL

from integrationd.api.users.prefix import PREFIX
from integrationd.clock import SystemClock
from integrationd.registry import ConnectionSpec, LoadedPlugins, load_plugins

NOBODY = "0190b5f0-7c1a-7000-8000-0123456789ab"
# In the place of school_id and provider_id stand tenant and provider.
LOG_COLUMNS = {
    *("id", "direction", "operation", "reference_type", "reference_id", "request_data"),
    *("response_data", "status", "status_code", "error_message", "duration_ms"),
    *("external_reference", "ip_address", "created_at", "tenant", "provider"),
}


@pytest.fixture
async def inbox(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    """A daemon with a till, into whose inbox tests put webhooks."""
    world = ApiWorld(tmp_path, SystemClock())
    config = {"secret": SECRET}
    till = ConnectionSpec(
        name="till", provider="till", environment="sandbox", config=config, timeout_s=10.0
    )
    async with world.opened():
        versions = {**world.registry.versions, **load_plugins([TILL], SystemClock()).versions}
        loaded = LoadedPlugins(versions=versions, faults=())
        plan = await world.registry.plan(loaded, [*world._specs(), till])
        for connection in world.registry.commit(plan):
            await connection.retire()
        yield world


async def test_log_shows_attempts_with_the_columns_of_the_document(world: ApiWorld) -> None:
    reference = {"type": "invoice", "id": "INV-7"}
    call = await world.play("hold", {"script": ["delivered"]}, reference=reference)

    (item,) = (await shown(world, "logs"))["items"]
    whole = await shown(world, f"logs/{item['id']}")

    assert whole.keys() >= LOG_COLUMNS
    assert LOG_COLUMNS - {"request_data", "response_data"} <= item.keys()
    assert item.items() <= whole.items()
    named = ("direction", "operation", "status", "external_reference", "queue_id", "ip_address")
    assert [item[name] for name in named] == [
        "outbound",
        "rehearsal.hold",
        "success",
        "ref-1",
        call["id"],
        None,
    ]
    assert (item["reference_type"], item["reference_id"]) == ("invoice", "INV-7")
    assert item["duration_ms"] >= 0


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("delivered", "success"),
        ("accepted", "success"),
        ("rejected", "failed"),
        ("retryable:600", "failed"),
        ("uncertain", "timeout"),
    ],
)
async def test_attempt_has_the_documents_status(world: ApiWorld, script: str, status: str) -> None:
    await world.play("hold", {"script": [script]}, wait_s=1)

    (item,) = (await shown(world, "logs", status=status))["items"]

    assert item["status"] == status
    assert (item["error_message"] is None) == (status == "success")
    for other in {"pending", "success", "failed", "timeout"} - {status}:
        assert (await shown(world, "logs", status=other))["items"] == []


@pytest.mark.parametrize(
    ("params", "number"),
    [
        ({"direction": "outbound"}, 2),
        ({"direction": "inbound"}, 0),
        ({"direction": "outbound", "status": "failed"}, 1),
        ({"operation": "rehearsal.ask"}, 1),
        ({"provider": "rehearsal"}, 2),
        ({"provider": "console"}, 0),
        ({"external_reference": "ref-1"}, 1),
        ({"external_reference": "ref-9"}, 0),
        ({"reference_id": "INV-7"}, 1),
        ({"reference_type": "invoice"}, 1),
        ({"tenant": "default"}, 2),
        ({"tenant": "school"}, 0),
        ({"since": "2020-01-01T00:00:00Z"}, 2),
        ({"until": "2020-01-01T00:00:00+03:00"}, 0),
    ],
)
async def test_log_can_be_narrowed(world: ApiWorld, params: dict[str, str], number: int) -> None:
    reference = {"type": "invoice", "id": "INV-7"}
    await world.play("hold", {"script": ["delivered"]}, reference=reference)
    await world.play("ask", {"script": ["rejected"]})

    assert len((await shown(world, "logs", **params))["items"]) == number


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"status": "ok"}, 422),
        ({"direction": "outgoing"}, 422),
        ({"since": "yesterday"}, 422),
        ({"until": "2026-01-01T00:00:00"}, 422),
        ({"cursor": "1"}, 422),
        ({"cursor": "1.x"}, 422),
        ({"limit": "501"}, 422),
        ({"surprise": "1"}, 400),
    ],
)
async def test_log_refuses_what_it_does_not_understand(
    idle: ApiWorld, params: dict[str, str], status: int
) -> None:
    assert code_of(await idle.client.get(f"{PREFIX}logs", params=params), status)


@pytest.mark.parametrize("log_id", ["1", "9" * 18, "9" * 40, NOBODY, "x", "é", "-1"])
async def test_entry_that_is_not_there_is_not_found(idle: ApiWorld, log_id: str) -> None:
    answer = await idle.client.get(f"{PREFIX}logs/{log_id}")

    assert code_of(answer, 404) == "no_such_entry"


async def test_secrets_are_masked_in_the_log(world: ApiWorld) -> None:
    body = {"method": "POST", "path": "/x", "json": {"note": SECRET}}
    await send(world, "http/request", body, "?connection=shop", Prefer="wait=2")

    for item in (await shown(world, "logs"))["items"]:
        assert SECRET not in json.dumps(await shown(world, f"logs/{item['id']}"))


# Webhooks


async def test_webhooks_stand_in_the_log_with_the_columns_of_the_document(
    inbox: ApiWorld,
) -> None:
    webhook = await keep(inbox, body=b'{"id":"evt-1","token":"t0psecret-value"}')

    (item,) = (await shown(inbox, "logs", direction="inbound"))["items"]
    whole = await shown(inbox, f"logs/{webhook}")

    assert whole.keys() >= LOG_COLUMNS
    assert item.items() <= whole.items()
    named = ("id", "direction", "operation", "status", "ip_address", "duration_ms", "provider")
    assert [item[name] for name in named] == [
        webhook,
        "inbound",
        "charge.success",
        "pending",
        "203.0.113.7",
        None,
        "till",
    ]
    assert whole["request_data"]["headers"] == {"content-type": "application/json"}
    assert "evt-1" in whole["request_data"]["body"]
    assert "t0psecret-value" not in json.dumps(whole)
    assert whole["response_data"] == {"status": 200}


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("held", "pending"),
        ("unmatched", "pending"),
        ("applied", "success"),
        ("ignored", "success"),
        ("unreadable", "failed"),
        ("failed", "failed"),
    ],
)
async def test_webhook_has_the_documents_status(inbox: ApiWorld, state: str, status: str) -> None:
    await keep(inbox)
    await inbox.journal.inbox.mark(1, state, "what came of it", None, AT_MS)

    (item,) = (await shown(inbox, "logs", status=status))["items"]

    assert (item["status"], item["outcome"]) == (status, state)
    assert item["error_message"] == ("what came of it" if status == "failed" else None)


async def test_body_that_is_no_text_is_shown_in_base64(inbox: ApiWorld) -> None:
    webhook = await keep(inbox, body=b"\xff\x00")

    assert (await shown(inbox, f"logs/{webhook}"))["request_data"]["body_base64"] == "/wA="


async def test_pages_go_on_over_attempts_and_webhooks(inbox: ApiWorld) -> None:
    for number in range(1, 8):
        await keep(inbox, number)
    expected = [item["id"] for item in (await shown(inbox, "logs"))["items"]]

    seen: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = await shown(inbox, "logs", limit="3", **more)
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        more = {"cursor": page["next"]}

    assert seen == expected
    assert len(seen) == 7


# Where providers send them


async def test_addresses_have_the_columns_of_the_document(inbox: ApiWorld) -> None:
    await keep(inbox, 1)
    await keep(inbox, 2, types="charge.failed,charge.success")
    await keep(inbox, 9, dedupe=b"2")

    page = await shown(inbox, "webhooks")

    (till,) = [item for item in page["items"] if item["connection"] == "till"]
    assert till == {
        "id": "till",
        "tenant": None,
        "provider": "till",
        "connection": "till",
        "endpoint_path": "/webhooks/till/till",
        "endpoint_url": f"https://hooks.x.test/hooks/{b'till'.hex()}",
        "events": ["charge.failed", "charge.success"],
        "is_active": True,
        "last_received_at": "2027-01-15T08:00:00.009Z",
        "receive_count": 3,
    }
    assert await shown(inbox, "webhooks/till") == till


async def test_webhook_is_shown_by_its_own_id_too(inbox: ApiWorld) -> None:
    webhook = await keep(inbox)

    answer = await inbox.client.get(f"/v1/webhooks/{webhook}")

    assert await shown(inbox, f"webhooks/{webhook}") == answer.json()
    for nobody in ("console", "nobody", NOBODY):
        refused = await inbox.client.get(f"{PREFIX}webhooks/{nobody}")
        assert code_of(refused, 404) == "no_such_webhook"
