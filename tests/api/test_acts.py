"""Every administrative act is an event that says who, from where, and what it was before."""

import json
from typing import Any

from tests.api.world import ApiWorld, code_of


async def told(world: ApiWorld, kind: str) -> dict[str, Any]:
    """Return what the one event of a kind tells."""
    events = await world.journal.events.after(0, 500)
    (found,) = [one for one in events if one.type == kind]
    data: dict[str, Any] = json.loads(found.data)
    return data


async def test_act_tells_who_and_from_where(idle: ApiWorld) -> None:
    answer = await idle.client.post("/v1/keys", json={"name": "shop", "role": "staff"})

    data = await told(idle, "key.created")

    assert answer.status_code == 201
    assert (data["by"], data["from"]) == ("key:bootstrap", "127.0.0.1")
    assert (data["name"], data["role"]) == ("shop", "staff")


async def test_act_of_a_person_on_a_call_tells_from_where(idle: ApiWorld) -> None:
    made = await idle.client.post("/v1/calls", json={"operation": "rehearsal.hold"})

    await idle.client.delete(f"/v1/calls/{made.json()['id']}")

    data = await told(idle, "call.cancelled")
    assert (data["by"], data["from"]) == ("key:bootstrap", "127.0.0.1")


async def test_erasure_counts_and_then_erases(idle: ApiWorld) -> None:
    body = {"operation": "rehearsal.hold", "reference": {"type": "pupil", "id": "P-1701"}}
    call = (await idle.client.post("/v1/calls", json=body)).json()["id"]

    early = await idle.client.post("/v1/erasures", json={"subject": "P-1701"})
    await idle.client.delete(f"/v1/calls/{call}")
    wanted = {"subject": "P-1701", "tenant": "default"}
    counted = await idle.client.post("/v1/erasures", json={**wanted, "dry_run": True})
    erased = await idle.client.post("/v1/erasures", json=wanted)

    assert early.json()["open_calls"] == [call]
    assert (counted.json()["calls"], counted.json()["event"]) == (1, None)
    assert erased.json()["calls"] == 1
    shown = (await idle.client.get(f"/v1/calls/{call}")).json()
    assert shown["payload"] == {"erased": True}
    assert "P-1701" not in json.dumps(shown)
    data = await told(idle, "privacy.erased")
    assert (data["by"], data["calls"]) == ("key:bootstrap", 1)
    assert "P-1701" not in json.dumps(data)


async def test_erasure_of_too_short_a_subject_is_refused(idle: ApiWorld) -> None:
    answer = await idle.client.post("/v1/erasures", json={"subject": "abc"})

    assert code_of(answer, 422)


async def test_erasure_of_another_tenant_is_refused(idle: ApiWorld) -> None:
    key = {"name": "school", "role": "admin", "tenant": "default"}
    made = (await idle.client.post("/v1/keys", json=key)).json()
    async with idle.new_client({"Authorization": f"Bearer {made['key']}"}) as client:
        answer = await client.post("/v1/erasures", json={"subject": "P-1701", "tenant": "other"})

    assert code_of(answer, 422) == "no_such_tenant"
