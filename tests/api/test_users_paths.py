"""The users' paths: each of document 004, section 2.4, with the columns of its section 2.1."""

from typing import Any

import pytest
from starlette.routing import Route
from tests.api.in_users_words import SMS, holder, send, shown
from tests.api.world import SETTINGS, ApiWorld, code_of

from integrationd.api.openapi_table import ROUTES
from integrationd.api.roles import Role
from integrationd.api.users.paths import TOLD
from integrationd.api.users.prefix import PREFIX, of_ours
from integrationd.clock import SystemClock
from integrationd.sdk import CATALOGUE

NOBODY = "0190b5f0-7c1a-7000-8000-0123456789ab"

# Columns of section 2.1 that stand for rows of tables which we do not have, and what is said in
# their place: school_id by tenant, provider_id by provider.
QUEUE_COLUMNS = {
    *("id", "operation", "payload", "priority", "attempts", "max_attempts", "status"),
    *("next_attempt_at", "last_attempt_at", "error_log", "completed_at", "created_at"),
    *("tenant", "provider"),
}
PROVIDER_COLUMNS = {
    *("id", "category", "name", "code", "config_schema", "is_global", "is_active", "created_at"),
}


# Providers


async def test_providers_are_listed_with_the_columns_of_the_document(idle: ApiWorld) -> None:
    page = await shown(idle, "providers")

    found = {item["code"]: item for item in page["items"]}
    assert found["africastalking"].keys() >= PROVIDER_COLUMNS
    assert found["africastalking"]["category"] == "sms"
    assert found["africastalking"]["name"].startswith("Africa's Talking")
    assert "api_key" in found["africastalking"]["config_schema"]["properties"]
    assert {item["is_active"] for item in page["items"]} == {True}
    globals_ = {code for code, item in found.items() if item["is_global"]}
    assert globals_ == {"rehearsal", "console", "http"}


@pytest.mark.parametrize(
    ("category", "some"),
    [
        ("payment", {"mpesa", "paystack", "stripe"}),
        ("sms", {"africastalking", "console"}),
        ("email", {"smtp"}),
        ("push", {"console"}),
        ("nothing", set()),
    ],
)
async def test_providers_of_a_category_say_that_category(
    idle: ApiWorld, category: str, some: set[str]
) -> None:
    page = await shown(idle, f"providers/{category}")

    assert some <= {item["code"] for item in page["items"]}
    assert {item["category"] for item in page["items"]} <= {category}


# Queue


async def test_queue_shows_calls_with_the_columns_of_the_document(world: ApiWorld) -> None:
    await world.play(
        "hold",
        {"script": ["retryable:600"]},
        wait_s=1,
        priority="high",
        reference={"type": "invoice", "id": "INV-7"},
    )

    (item,) = (await shown(world, "queue"))["items"]
    whole = await shown(world, f"queue/{item['id']}")

    assert QUEUE_COLUMNS - {"payload"} <= item.keys()
    assert whole.keys() >= QUEUE_COLUMNS
    assert {name: item[name] for name in ("status", "priority", "attempts", "max_attempts")} == {
        "status": "pending",
        "priority": 1,
        "attempts": 1,
        "max_attempts": 5,
    }
    assert (item["operation"], item["tenant"], item["provider"]) == (
        "rehearsal.hold",
        "default",
        "rehearsal",
    )
    assert (item["reference_type"], item["reference_id"]) == ("invoice", "INV-7")
    assert item["next_attempt_at"] > item["last_attempt_at"] >= item["created_at"]
    assert item["completed_at"] is None
    assert item.items() <= whole.items()
    assert whole["payload"] == {"script": ["retryable:600"]}


async def test_error_log_tells_what_went_wrong(world: ApiWorld) -> None:
    steps = {"script": ["retryable:0", "retryable:0", "uncertain"]}
    call = await world.play("hold", steps)

    item = await shown(world, f"queue/{call['id']}")

    told = [(one["attempt"], one["status"], one["code"]) for one in item["error_log"]]
    assert told == [(1, "failed", "busy"), (2, "failed", "busy"), (3, "timeout", "timeout")]
    assert {one["kind"] for one in item["error_log"]} == {"send"}
    assert item["error_log"][0]["message"] == "Busy."


@pytest.mark.parametrize(
    ("script", "state", "status"),
    [
        ("retryable:600", "pending", "pending"),
        ("accepted", "waiting", "processing"),
        ("uncertain", "unknown", "processing"),
        ("delivered", "completed", "completed"),
        ("rejected", "failed", "failed"),
    ],
)
async def test_status_is_the_documents_word(
    world: ApiWorld, script: str, state: str, status: str
) -> None:
    call = await world.play("hold", {"script": [script]}, wait_s=1)

    item = await shown(world, f"queue/{call['id']}")

    assert (call["state"], item["state"], item["status"]) == (state, state, status)
    assert (item["completed_at"] is None) == (status != "completed")


async def test_queue_by_status_shows_all_states_that_read_so(world: ApiWorld) -> None:
    scripts = ("delivered", "rejected", "accepted", "uncertain", "retryable:600")
    ids = {one: (await world.play("hold", {"script": [one]}, wait_s=1))["id"] for one in scripts}
    over = {"operation": "rehearsal.hold", "expires_in": 0.05, "not_before": "2035-01-01T00:00:00Z"}
    ids["expired"] = (await world.client.post("/v1/calls", json=over)).json()["id"]
    late = {"operation": "rehearsal.hold", "not_before": "2035-01-01T00:00:00Z"}
    ids["cancelled"] = (await world.client.post("/v1/calls", json=late)).json()["id"]
    await world.client.delete(f"/v1/calls/{ids['cancelled']}")
    await world.client.get(f"/v1/calls/{ids['expired']}", headers={"Prefer": "wait=5"})

    by_status = {
        status: [item["id"] for item in (await shown(world, "queue", status=status))["items"]]
        for status in ("pending", "processing", "completed", "failed", "cancelled")
    }

    assert by_status == {
        "pending": [ids["retryable:600"]],
        "processing": [ids["uncertain"], ids["accepted"]],
        "completed": [ids["delivered"]],
        "failed": [ids["expired"], ids["rejected"]],
        "cancelled": [ids["cancelled"]],
    }


@pytest.mark.parametrize("limit", ["1", "2", "3"])
async def test_pages_of_a_status_of_several_states_miss_nothing(
    world: ApiWorld, limit: str
) -> None:
    scripts = ["accepted", "uncertain", "uncertain", "accepted", "accepted"]
    ids = [(await world.play("hold", {"script": [one]}))["id"] for one in scripts]

    seen: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = await shown(world, "queue", status="processing", limit=limit, **more)
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        more = {"cursor": page["next"]}

    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"status": "waiting"}, 422),
        ({"state": "waiting"}, 400),
        ({"limit": "0"}, 422),
        ({"cursor": "x"}, 422),
    ],
)
async def test_queue_refuses_what_it_does_not_understand(
    idle: ApiWorld, params: dict[str, str], status: int
) -> None:
    assert code_of(await idle.client.get(f"{PREFIX}queue", params=params), status)


async def test_item_is_retried(world: ApiWorld) -> None:
    call = await world.play("hold", {"script": ["rejected", "delivered"]})

    answer = await world.client.post(f"{PREFIX}queue/{call['id']}/retry")
    after = await world.client.get(f"{PREFIX}queue/{call['id']}", headers={"Prefer": "wait=5"})

    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert after.json()["status"] == "completed"
    assert after.json()["result"] == {"step": "delivered"}


async def test_item_is_cancelled(idle: ApiWorld) -> None:
    made = (await send(idle, "sms/send", SMS)).json()

    answer = await idle.client.delete(f"{PREFIX}queue/{made['id']}")
    again = await idle.client.delete(f"{PREFIX}queue/{made['id']}")

    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert code_of(again, 409)


@pytest.mark.parametrize("what", [("GET", ""), ("DELETE", ""), ("POST", "/retry")])
async def test_item_that_is_not_there_is_not_found(idle: ApiWorld, what: tuple[str, str]) -> None:
    method, below = what
    answer = await idle.client.request(method, f"{PREFIX}queue/{NOBODY}{below}")

    assert code_of(answer, 404) == "no_such_call"


# Everything else of /v1


async def test_everything_of_v1_answers_there_too(idle: ApiWorld) -> None:
    ours = {one for one in ROUTES if one[1].startswith("/v1/")}

    assert {(method, of_ours(path)) for method, path in ours} <= ROUTES.keys()
    assert len(ours) > 20
    for path in ("calls", "connections", "ledger", "status", "attempts", "webhook-endpoints"):
        theirs = await shown(idle, path)
        assert theirs == (await idle.client.get(f"/v1/{path}")).json()


async def test_call_can_be_given_there_too(idle: ApiWorld) -> None:
    body = {"operation": "rehearsal.hold", "priority": "high"}

    answer = await send(idle, "calls", body, **{"Idempotency-Key": "k"})
    again = await idle.client.post("/v1/calls", json=body, headers={"Idempotency-Key": "k"})

    assert (answer.status_code, answer.json()["priority"]) == (202, "high")
    assert again.json() == answer.json()
    assert code_of(await send(idle, "calls", body, "?priority=1"), 400) == "unknown_option"


@pytest.mark.parametrize("path", ["nothing", "queue/x/y", "", "configs/x/y/z"])
async def test_path_that_is_not_there_says_so(idle: ApiWorld, path: str) -> None:
    assert code_of(await idle.client.get(PREFIX + path), 404) == "no_such_path"


# Who may


def test_roles_are_those_of_the_document() -> None:
    """Admin but for operations; whoever may only read, may read all but addresses."""
    roles = {one: told.role for one, told in TOLD.items()}

    acts = {one for one in roles if one[0] != "get"}
    assert {roles[one] for one in acts} == {Role.ADMIN}
    beyond = {path for (method, path), role in roles.items() if role is not Role.READ}
    assert beyond - {path for _, path in acts} == {
        f"{PREFIX}webhooks",
        f"{PREFIX}webhooks/{{webhook_id}}",
    }


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.READ, {"GET queue"}),
        (Role.STAFF, {"GET queue", "POST sms/send"}),
        (Role.ADMIN, {"GET queue", "POST sms/send", "DELETE queue/x", "POST queue/x/retry"}),
    ],
)
async def test_role_is_asked_for(idle: ApiWorld, role: Role, allowed: set[str]) -> None:
    client = await holder(idle, role)
    wanted = ("GET queue", "POST sms/send", "DELETE queue/x", "POST queue/x/retry")

    answers = {
        one: await client.request(one.split()[0], PREFIX + one.split()[1], json=SMS)
        for one in wanted
    }

    assert {one for one, answer in answers.items() if answer.status_code != 403} == allowed


async def test_paths_need_a_key(idle: ApiWorld) -> None:
    async with idle.new_client() as stranger:
        for method, path in sorted(TOLD):
            assert code_of(await stranger.request(method, path), 401)


# Whose


@pytest.fixture
async def tenants(tmp_path: Any) -> Any:
    """A daemon with two schools, each with a call that has failed."""
    settings = {**SETTINGS, "tenants": {"north": {}, "south": {}}}
    made = ApiWorld(tmp_path, SystemClock(), settings)
    async with made.running():
        yield made


async def test_one_tenant_sees_nothing_of_another(tenants: ApiWorld) -> None:
    ids = {}
    for name in ("north", "south"):
        body = {"script": ["rejected"]}
        call = await tenants.play("hold", body, connection="stage", tenant=name)
        ids[name] = call["id"]
    logs = {one["tenant"]: one["id"] for one in (await shown(tenants, "logs"))["items"]}
    client = await holder(tenants, Role.ADMIN, "north")

    queue = (await client.get(f"{PREFIX}queue")).json()["items"]
    log = (await client.get(f"{PREFIX}logs")).json()["items"]

    assert [one["id"] for one in queue] == [ids["north"]]
    assert {one["queue_id"] for one in log} == {ids["north"]}
    for params in ({"tenant": "south"}, {"tenant": "nobody"}):
        for path in ("queue", "logs"):
            assert (await client.get(PREFIX + path, params=params)).json()["items"] == []
    for method, path in (
        ("GET", f"queue/{ids['south']}"),
        ("DELETE", f"queue/{ids['south']}"),
        ("POST", f"queue/{ids['south']}/retry"),
        ("GET", f"logs/{logs['south']}"),
    ):
        assert code_of(await client.request(method, PREFIX + path), 404)
    assert (await client.get(f"{PREFIX}queue/{ids['north']}")).status_code == 200
    assert (await client.get(f"{PREFIX}logs/{logs['north']}")).status_code == 200


# The document that tells of them


async def test_document_tells_of_every_path(idle: ApiWorld) -> None:
    paths = (await idle.client.get("/v1/openapi.json")).json()["paths"]

    for method, path in TOLD:
        assert method in paths[path]
    for operation in CATALOGUE:
        told = paths[PREFIX + operation.replace(".", "/")]["post"]
        options = {one["name"]: one["schema"] for one in told["parameters"]}
        assert options["priority"]["type"] == "integer"
        assert told["x-required-role"] == "staff"
    (status,) = [
        one["schema"]
        for one in paths[f"{PREFIX}queue"]["get"]["parameters"]
        if one["name"] == "status"
    ]
    assert status["enum"] == ["pending", "processing", "completed", "failed", "cancelled"]


async def test_hot_path_comes_before_all_others(idle: ApiWorld) -> None:
    """Nothing of the users' paths is looked at on the way to a route of ``/v1``."""
    routes = [one.path for one in idle.app._starlette.routes if isinstance(one, Route)]
    last_of_ours = max(at for at, path in enumerate(routes) if not path.startswith(PREFIX))
    first_of_theirs = min(at for at, path in enumerate(routes) if path.startswith(PREFIX))

    assert last_of_ours < first_of_theirs
