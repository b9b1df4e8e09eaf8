"""One writer: writes share commits, fail alone, and are told of only when they are durable."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.journal.cases import Heard, a_call, new, note, opened, raw, steer

from integrationd.errors import ConflictError, DamagedError, JournalUnavailableError
from integrationd.events import Bus, CallAccepted, Committed
from integrationd.journal import Journal, Transaction


async def event_types(journal: Journal) -> list[str]:
    return [event.type for event in await journal.events.after(0, 1000)]


async def gather(*writes: Any) -> list[Any]:
    return list(await asyncio.gather(*writes, return_exceptions=True))


async def test_writer_lets_a_burst_share_few_commits(journal: Journal) -> None:
    steered = steer(journal)

    await gather(*(journal.calls.accept([new()]) for _ in range(100)))

    assert len(await journal.rows("SELECT 1 FROM call")) == 100
    assert steered.commits <= 3


async def test_writer_groups_what_arrives_during_a_commit(journal: Journal, bus: Bus) -> None:
    steered, committed = steer(journal), Heard(bus, Committed)
    release = threading.Event()
    steered.before_commit = release.wait  # type: ignore[assignment] # its answer is not looked at

    async with anyio.create_task_group() as group:
        group.start_soon(journal.write, note("first"))
        await anyio.sleep(0.02)
        for number in range(50):
            group.start_soon(journal.write, note(f"later.{number}"))
        await anyio.sleep(0.02)
        release.set()

    assert [event.writes for event in committed.events] == [1, 50]


def refuse(_writing: Transaction) -> None:
    raise ConflictError("not now")


def change_and_refuse(writing: Transaction) -> None:
    note("lost")(writing)
    writing.told.append(CallAccepted(a_call()))
    raise ConflictError("not now")


def stumble(writing: Transaction) -> None:
    note("lost")(writing)
    raise ZeroDivisionError


def break_a_constraint(writing: Transaction) -> None:
    writing.db.execute("INSERT INTO part VALUES (1, 0, 'x', 'nowhere', NULL, NULL, NULL, NULL, 0)")


def change_and_break_a_constraint(writing: Transaction) -> None:
    note("lost")(writing)
    break_a_constraint(writing)


@pytest.mark.parametrize(
    ("failing", "told"),
    [
        (refuse, ConflictError),
        (change_and_refuse, ConflictError),
        (stumble, ZeroDivisionError),
        (break_a_constraint, DamagedError),
        (change_and_break_a_constraint, DamagedError),
    ],
)
@pytest.mark.parametrize("heavy", [False, True])
async def test_writer_rolls_a_failing_member_back_alone(
    journal: Journal, bus: Bus, failing: Any, told: type[Exception], heavy: bool
) -> None:
    accepted = Heard(bus, CallAccepted)

    results = await gather(
        journal.write(note("before")),
        journal.write(failing, heavy=heavy),
        journal.write(note("after")),
    )

    assert results[0] == 1
    assert isinstance(results[1], told)
    assert results[2] == 2
    assert await event_types(journal) == ["before", "after"]
    assert not accepted.events


async def test_writer_keeps_event_numbers_without_gaps(journal: Journal) -> None:
    writes = [
        journal.write(stumble if number % 3 == 0 else note(f"n.{number}")) for number in range(60)
    ]

    await gather(*writes)
    await journal.write(note("last"))

    events = await journal.events.after(0, 1000)
    assert [event.seq for event in events] == list(range(1, 42))


async def test_writer_goes_on_after_a_transaction_that_ended_by_itself(journal: Journal) -> None:
    def end_the_transaction(writing: Transaction) -> None:
        writing.db.execute("ROLLBACK")
        raise MemoryError

    results = await gather(
        journal.write(note("shared")),
        journal.write(end_the_transaction),
        journal.write(note("never alone")),
    )

    assert all(isinstance(result, JournalUnavailableError) for result in results)
    assert await event_types(journal) == []
    assert await journal.write(note("next")) == 1


async def test_writer_tells_nothing_before_the_commit(journal: Journal, bus: Bus) -> None:
    steered, accepted = steer(journal), Heard(bus, CallAccepted)
    release = threading.Event()
    steered.before_commit = release.wait  # type: ignore[assignment] # its answer is not looked at

    write = asyncio.ensure_future(journal.calls.accept([new()]))
    await anyio.sleep(0.05)
    assert not write.done()
    assert not accepted.events
    release.set()
    await write

    assert len(accepted.events) == 1


async def test_writer_tells_what_others_can_see_already(
    journal: Journal, bus: Bus, path: Path
) -> None:
    seen: list[int] = []

    def look(_event: CallAccepted) -> None:
        with raw(path) as db:
            seen.append(db.execute("SELECT count(*) FROM call").fetchone()[0])

    bus.subscribe(CallAccepted, look)

    await gather(*(journal.calls.accept([new()]) for _ in range(3)))

    assert seen == [3, 3, 3]


async def test_writer_forgets_what_a_first_run_would_have_told(journal: Journal, bus: Bus) -> None:
    runs: list[int] = []
    accepted = Heard(bus, CallAccepted)

    def only_once(writing: Transaction) -> None:
        runs.append(1)
        if len(runs) > 1:
            raise ConflictError("the second time it is too late")
        writing.told.append(CallAccepted(a_call()))

    results = await gather(journal.write(only_once), journal.write(stumble))

    assert len(runs) == 2
    assert isinstance(results[0], ConflictError)
    assert not accepted.events


async def test_writer_finishes_a_write_whose_caller_was_cancelled(journal: Journal) -> None:
    steered = steer(journal)
    release = threading.Event()
    steered.before_commit = release.wait  # type: ignore[assignment] # its answer is not looked at

    write = asyncio.ensure_future(journal.calls.accept([new()]))
    await anyio.sleep(0.02)
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    release.set()
    await journal.write(note("after"))

    assert len(await journal.rows("SELECT 1 FROM call")) == 1


async def test_writer_runs_heavy_groups_in_its_thread(journal: Journal) -> None:
    def thread(_writing: Transaction) -> str:
        return threading.current_thread().name

    light = await journal.write(thread)
    heavy = await journal.write(thread, heavy=True)

    assert light == threading.current_thread().name
    assert heavy == "journal-commit"


async def test_writer_waits_while_another_process_holds_the_lock(
    journal: Journal, path: Path
) -> None:
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        writes = [asyncio.ensure_future(journal.write(note(f"n.{n}"))) for n in range(5)]
        heavy = asyncio.ensure_future(journal.write(note("heavy"), heavy=True))
        await anyio.sleep(0.15)
        assert not any(write.done() for write in writes)
        other.execute("ROLLBACK")

    assert await asyncio.wait_for(asyncio.gather(*writes, heavy), 5) == [1, 2, 3, 4, 5, 6]
    assert journal.condition == "ready"


async def test_writer_keeps_the_order_of_writes(journal: Journal) -> None:
    async def write_some(name: str) -> None:
        for number in range(20):
            await journal.write(note(f"{name}.{number:02}"), heavy=number % 7 == 0)

    async with anyio.create_task_group() as group:
        for name in "abcd":
            group.start_soon(write_some, name)

    types = await event_types(journal)
    for name in "abcd":
        own = [one for one in types if one.startswith(name)]
        assert own == [f"{name}.{number:02}" for number in range(20)]
    burst = [journal.write(note(f"burst.{number:03}")) for number in range(100)]
    assert await gather(*burst) == list(range(81, 181))


async def test_writer_drains_when_it_is_closed(path: Path) -> None:
    async with opened(path) as journal:
        writes = [asyncio.ensure_future(journal.write(note(f"n.{n}"))) for n in range(700)]
        await anyio.lowlevel.checkpoint()

        await journal.close()

        assert await gather(*writes) == list(range(1, 701))
        with pytest.raises(JournalUnavailableError):
            await journal.write(note("too late"))


async def test_writer_survives_more_writes_than_a_group_takes(journal: Journal) -> None:
    results = await gather(*(journal.write(note("n")) for _ in range(1500)))

    assert results == list(range(1, 1501))


async def test_writer_counts_every_commit_in_the_journal(journal: Journal) -> None:
    before = (await journal.rows("SELECT seq FROM commit_mark"))[0][0]

    for _ in range(7):
        await journal.write(note("one"))

    assert (await journal.rows("SELECT seq FROM commit_mark"))[0][0] == before + 7
