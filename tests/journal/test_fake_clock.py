"""Time stands still until it is moved, and wakes everybody in order."""

import anyio
import pytest
from tests.fake_clock import START_MS, FakeClock


async def test_fake_clock_moves_only_by_advance(clock: FakeClock) -> None:
    await anyio.sleep(0.01)
    assert (clock.now_ms(), clock.monotonic()) == (START_MS, 0.0)

    await clock.advance(1.25)

    assert (clock.now_ms(), clock.monotonic()) == (START_MS + 1250, 1.25)


async def test_fake_clock_wakes_sleepers_by_moment_then_by_order(clock: FakeClock) -> None:
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    async with anyio.create_task_group() as group:
        for name, seconds in (("c", 3.0), ("a", 1.0), ("d", 3.0), ("b", 2.0)):
            group.start_soon(sleep, name, seconds)
        await clock.advance(10.0)

    assert woken == [("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 3.0)]


async def test_fake_clock_wakes_who_lies_down_again_within_one_advance(clock: FakeClock) -> None:
    ticks: list[float] = []

    async def tick() -> None:
        while len(ticks) < 4:
            await clock.sleep(1.5)
            ticks.append(clock.monotonic())

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await clock.advance(6.0)

    assert ticks == [1.5, 3.0, 4.5, 6.0]


async def test_fake_clock_leaves_asleep_whose_moment_has_not_come(clock: FakeClock) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(clock.sleep, 5.0)
        await clock.advance(4.999)
        assert clock.sleeping == 1

        await clock.advance(0.001)

        assert clock.sleeping == 0


async def test_fake_clock_wait_ends_with_the_event(clock: FakeClock) -> None:
    event = anyio.Event()

    async with anyio.create_task_group() as group:
        group.start_soon(clock.wait, event, 60.0)
        await clock.advance(1.0)
        event.set()

    assert clock.sleeping == 0
    assert clock.monotonic() == 1.0


@pytest.mark.parametrize("seconds", [0.0, 2.0])
async def test_fake_clock_wait_ends_with_the_time(clock: FakeClock, seconds: float) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(clock.wait, anyio.Event(), seconds)
        await clock.advance(seconds)

    assert clock.sleeping == 0


async def test_fake_clock_wait_without_time_waits_for_the_event_only(clock: FakeClock) -> None:
    event, ended = anyio.Event(), anyio.Event()

    async def wait() -> None:
        await clock.wait(event, None)
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await clock.advance(1e9)
        assert not ended.is_set()
        event.set()


async def test_fake_clock_forgets_who_is_cancelled(clock: FakeClock) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(clock.sleep, 5.0)
        await clock.advance(1.0)
        group.cancel_scope.cancel()

    assert clock.sleeping == 0
    await clock.advance(10.0)
