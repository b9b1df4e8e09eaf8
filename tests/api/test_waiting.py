"""``Prefer: wait``: who asks is answered when there is something to say, and never kept longer."""

import asyncio
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.api.world import ApiWorld, code_of
from tests.virtual_time import VirtualClock, VirtualLoop, run_virtually


async def send(world: ApiWorld, verb: str, *script: str, prefer: str = "") -> httpx2.Response:
    body: dict[str, Any] = {"operation": f"rehearsal.{verb}", "payload": {"script": list(script)}}
    return await world.client.post("/v1/calls", json=body, headers={"Prefer": prefer})


@pytest.mark.parametrize(
    ("verb", "script", "state"),
    [
        ("hold", ["slow:0.05"], "completed"),
        ("hold", ["rejected"], "failed"),
        ("ask", ["accepted"], "waiting"),
        ("hold", ["uncertain"], "unknown"),
        ("hold", ["retryable", "retryable", "delivered"], "completed"),
    ],
)
async def test_waiting_ends_when_the_call_has_left_the_open_states(
    world: ApiWorld, verb: str, script: list[str], state: str
) -> None:
    answer = await send(world, verb, *script, prefer="wait=5")

    assert answer.status_code == 200
    assert answer.json()["state"] == state


async def test_answer_after_waiting_carries_the_result_as_far_as_known(world: ApiWorld) -> None:
    done = await send(world, "hold", "delivered", prefer="wait=5")
    taken = await send(world, "ask", "accepted", prefer="wait=5")

    assert done.json()["result"] == {"step": "delivered"}
    assert taken.json()["result"] == {"step": "accepted"}
    assert taken.json()["provider_reference"] == "ref-1"


async def test_call_that_takes_longer_is_answered_with_202(world: ApiWorld) -> None:
    answer = await send(world, "hold", "slow:1.5", prefer="wait=1")

    assert answer.status_code == 202
    assert answer.json()["state"] == "processing"


@pytest.mark.parametrize(
    "prefer", ["", "respond-async", "wait=0", "wait=-1", "wait=x", "waiting=5"]
)
async def test_nobody_waits_who_did_not_ask(world: ApiWorld, prefer: str) -> None:
    answer = await send(world, "hold", "slow:0.2", prefer=prefer)

    assert answer.status_code == 202


@pytest.mark.parametrize(
    "prefer", ["wait=5", 'wait="5"', "WAIT = 5", "respond-async, wait=5", "wait=5; foo=bar"]
)
async def test_preference_is_understood_in_all_its_spellings(world: ApiWorld, prefer: str) -> None:
    assert (await send(world, "hold", "delivered", prefer=prefer)).status_code == 200


async def test_preference_may_stand_in_a_second_header(world: ApiWorld) -> None:
    headers = [("Prefer", "respond-async"), ("Prefer", "wait=5")]
    answer = await world.client.post("/v1/rehearsal/hold", headers=headers)

    assert answer.status_code == 200


async def test_look_at_a_call_waits_too(world: ApiWorld) -> None:
    call_id = (await send(world, "hold", "slow:0.1")).json()["id"]

    answer = await world.client.get(f"/v1/calls/{call_id}", headers={"Prefer": "wait=5"})

    assert answer.json()["state"] == "completed"


async def test_look_at_no_call_does_not_wait(world: ApiWorld) -> None:
    with anyio.fail_after(2):
        answer = await world.client.get("/v1/calls/none", headers={"Prefer": "wait=60"})

    assert code_of(answer, 404) == "no_such_call"


async def test_many_may_wait_for_one_call(world: ApiWorld) -> None:
    call_id = (await send(world, "hold", "slow:0.2")).json()["id"]

    answers = await asyncio.gather(
        *[world.client.get(f"/v1/calls/{call_id}", headers={"Prefer": "wait=5"}) for _ in range(20)]
    )

    assert {answer.json()["state"] for answer in answers} == {"completed"}


async def test_those_who_wait_are_answered_at_once_when_the_daemon_stops(idle: ApiWorld) -> None:
    async def close() -> None:
        await anyio.sleep(0.1)
        idle.waiters.close()

    with anyio.fail_after(3):
        async with anyio.create_task_group() as group:
            group.start_soon(close)
            waited = await send(idle, "hold", "delivered", prefer="wait=30")
        late = await send(idle, "hold", "delivered", prefer="wait=30")

    assert (waited.status_code, late.status_code) == (202, 202)


# What only reads


async def test_read_waits_without_being_asked(world: ApiWorld) -> None:
    long = await send(world, "read", "slow:0.1")
    short = await world.client.post("/v1/rehearsal/read", json={"script": ["slow:0.1"]})

    for answer in (long, short):
        assert answer.status_code == 200
        assert answer.json()["result"] == {"step": "slow:0.1"}


async def test_read_that_is_refused_says_so(world: ApiWorld) -> None:
    answer = await send(world, "read", "rejected")

    assert answer.status_code == 200
    assert answer.json()["state"] == "failed"


async def test_read_without_an_answer_in_time_is_a_504_that_names_the_call(
    world: ApiWorld,
) -> None:
    answer = await send(world, "read", "retryable:9", prefer="wait=1")

    assert code_of(answer, 504) == "no_answer"
    listed = (await world.client.get("/v1/calls")).json()["items"]
    assert [call["id"] in answer.json()["detail"] for call in listed] == [True]


async def test_read_is_never_held_for_later(world: ApiWorld) -> None:
    body = {"operation": "rehearsal.read", "payload": {"script": ["retryable:9"]}}
    for options in ({}, {"expires_in": 3600}, {"expires_at": "2030-01-01T00:00:00Z"}):
        answer = await world.client.post(
            "/v1/calls", json={**body, **options}, headers={"Prefer": "wait=1"}
        )
        assert code_of(answer, 504) == "no_answer"

    await anyio.sleep(0.2)
    listed = (await world.client.get("/v1/calls")).json()["items"]
    assert {call["state"] for call in listed} == {"expired"}


async def test_key_of_a_read_does_not_mind_another_preference(world: ApiWorld) -> None:
    answers = [
        await world.client.post(
            "/v1/rehearsal/read", headers={"Idempotency-Key": "k", "Prefer": f"wait={seconds}"}
        )
        for seconds in (2, 3)
    ]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].headers["idempotency-replayed"] == "true"


# In virtual time


@pytest.mark.parametrize(
    ("prefer", "seconds"), [("wait=61", 60), ("wait=1000000000000", 60), ("wait=59", 59)]
)
def test_nobody_waits_longer_than_a_minute(tmp_path: Path, prefer: str, seconds: int) -> None:
    async def main(loop: VirtualLoop) -> None:
        world = ApiWorld(tmp_path, VirtualClock(loop))
        loop.is_busy = lambda: world.journal.is_busy
        async with world.opened():
            answer = await send(world, "hold", "delivered", prefer=prefer)
            assert answer.status_code == 202
            assert round(loop.now) == seconds

    run_virtually(main)


def test_read_waits_for_ten_seconds(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        world = ApiWorld(tmp_path, VirtualClock(loop))
        loop.is_busy = lambda: world.journal.is_busy
        async with world.running():
            answer = await send(world, "read", "retryable:30")
            assert code_of(answer, 504) == "no_answer"
            assert round(loop.now) == 10

    run_virtually(main)
