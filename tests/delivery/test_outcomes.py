"""Each outcome and finding, through the real journal and dispatcher, in virtual time."""

from typing import Any

import pytest
from tests.delivery.conftest import Play
from tests.delivery.world import World

from integrationd.call import CallState, PartState
from integrationd.journal import AttemptFilter

FINAL = (CallState.COMPLETED, CallState.FAILED, CallState.EXPIRED)


@pytest.mark.parametrize(
    ("verb", "script", "state", "reason", "tries", "attempts"),
    [
        ("hold", ["delivered"], CallState.COMPLETED, "delivered", 1, 1),
        ("hold", ["rejected"], CallState.FAILED, "refused", 1, 1),
        ("hold", ["never_left", "never_left", "delivered"], CallState.COMPLETED, "delivered", 3, 1),
        ("hold", ["throttled:7", "delivered"], CallState.COMPLETED, "delivered", 2, 1),
        ("hold", ["retryable"], CallState.FAILED, "attempts_used_up", 5, 5),
        ("hold", ["uncertain"], CallState.UNKNOWN, "timeout", 1, 1),
        ("hold", ["none"], CallState.UNKNOWN, "unexpected_error", 1, 1),
        ("hold", ["raise"], CallState.UNKNOWN, "unexpected_error", 1, 1),
        ("repeat", ["uncertain"], CallState.UNKNOWN, "timeout", 2, 2),
        ("repeat", ["uncertain", "delivered"], CallState.COMPLETED, "delivered", 2, 2),
        ("keyed", ["uncertain", "uncertain", "delivered"], CallState.COMPLETED, "delivered", 3, 3),
        ("keyed", ["uncertain"], CallState.UNKNOWN, "timeout", 5, 5),
        ("read", ["uncertain", "delivered"], CallState.COMPLETED, "delivered", 2, 2),
    ],
)
def test_send_ends_in_the_state_that_its_outcomes_say(
    play: Play,
    verb: str,
    script: list[str],
    state: CallState,
    reason: str,
    tries: int,
    attempts: int,
) -> None:
    async def story(world: World) -> None:
        async with world.running():
            call = await world.accept(verb, {"script": script})

            detail = await world.until(call, *FINAL, CallState.UNKNOWN)

            assert (detail.call.state, detail.call.reason) == (state, reason)
            assert (detail.call.tries, detail.call.attempts) == (tries, attempts)

    play(story)


@pytest.mark.parametrize(
    ("script", "findings", "state", "reason", "queries"),
    [
        (["accepted"], ["done"], CallState.COMPLETED, "confirmed", 1),
        (["accepted"], ["pending", "pending", "refused"], CallState.FAILED, "declined", 3),
        (["uncertain"], ["cannot", "done"], CallState.COMPLETED, "confirmed", 2),
        (["uncertain", "delivered"], ["never"], CallState.COMPLETED, "delivered", 1),
    ],
)
def test_query_ends_an_open_call_as_the_provider_says(
    play: Play,
    script: list[str],
    findings: list[str],
    state: CallState,
    reason: str,
    queries: int,
) -> None:
    async def story(world: World) -> None:
        async with world.running():
            call = await world.accept("ask", {"script": script, "findings": findings})

            detail = await world.settled(call)

            assert (detail.call.state, detail.call.reason) == (state, reason)
            assert detail.call.queries == queries

    play(story)


@pytest.mark.parametrize("script", [["accepted"], ["uncertain"]])
def test_open_call_is_left_to_a_person_when_the_window_for_asking_ends(
    play: Play, script: list[str]
) -> None:
    async def story(world: World) -> None:
        async with world.running():
            call = await world.accept("ask", {"script": script, "findings": ["cannot"]})
            began_ms = world.clock.now_ms()

            found = (await world.until(call, CallState.UNKNOWN)).call
            while found.reason != "window_over":
                await world.clock.sleep(1)
                found = await world.journal.calls.get(call.id)

            assert found.state is CallState.UNKNOWN
            assert world.clock.now_ms() - began_ms >= 600_000
            kinds = [event.type for event in await world.journal.events.after(0, 100)]
            assert kinds[-1] == "call.needs_attention"

    play(story, breaker={"failures": 1000})


def test_parts_are_sent_again_only_where_they_may_be(play: Play) -> None:
    async def story(world: World) -> None:
        async with world.running():
            payload: dict[str, Any] = {
                "script": ["parts:dtr", "parts:d"],
                "recipients": list("abc"),
            }
            call = await world.accept("hold", payload)

            detail = await world.settled(call)

            assert detail.call.state is CallState.COMPLETED
            assert [part.state for part in detail.parts] == [
                PartState.DONE,
                PartState.DONE,
                PartState.FAILED,
            ]
            assert detail.call.detail == "1 of 3 recipients failed."

    play(story)


def test_part_in_doubt_makes_the_whole_call_unknown(play: Play) -> None:
    async def story(world: World) -> None:
        async with world.running():
            payload: dict[str, Any] = {"script": ["parts:du"], "recipients": list("ab")}
            call = await world.accept("hold", payload)

            detail = await world.until(call, CallState.UNKNOWN)

            assert [part.state for part in detail.parts] == [PartState.DONE, PartState.UNKNOWN]

    play(story)


def test_attempts_are_logged_with_the_rule_that_was_applied(play: Play) -> None:
    async def story(world: World) -> None:
        async with world.running():
            call = await world.accept("keyed", {"script": ["uncertain", "delivered"]})
            await world.settled(call)

            log = await world.journal.attempts.list(
                AttemptFilter(call_id=call.id), before=None, limit=10
            )

            assert [(one.number, one.outcome, one.rule) for one in reversed(log)] == [
                (1, "uncertain", "repeat-safe: sent again with the same key"),
                (2, "delivered", "delivered"),
            ]

    play(story)


def test_deadline_of_an_attempt_leaves_its_outcome_unknown(play: Play) -> None:
    async def story(world: World) -> None:
        async with world.running():
            call = await world.accept("hold", {"script": ["slow:3600"]})

            detail = await world.until(call, CallState.UNKNOWN)

            assert detail.call.reason == "timeout"

    play(story, timeout="5s")
