"""The end of the event log, read once for all streams that are there."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from starlette.types import Message
from tests.fake_clock import FakeClock
from tests.journal.cases import opened

from integrationd.api.event_streams import CHUNK, RECENT, EventStream, EventStreams, Tail
from integrationd.call import EventRecord
from integrationd.events import Bus
from integrationd.journal import EventFilter, EventLog, EventPage, Journal, Transaction
from integrationd.journal.event_log import EVERYTHING


class Counted(EventLog):
    """A log that counts how often it is read."""

    reads = 0

    async def after(self, seq: int, limit: int, wanted: EventFilter = EVERYTHING) -> EventPage:
        self.reads += 1
        return await super().after(seq, limit, wanted)


class Scene:
    """A journal, and the end of its log.

    Attributes:
        journal: The journal.
        log: Its log.
        tail: The end of that.
        streams: Streams of it.
        clock: Stands still.
    """

    def __init__(self, journal: Journal, bus: Bus, clock: FakeClock) -> None:
        self.journal = journal
        self.log = Counted(journal)
        self.tail = Tail(self.log, bus, clock)
        self.streams = EventStreams(self.log, bus, clock)
        self.clock = clock

    async def append(self, count: int = 1, kind: str = "a.b") -> None:
        def job(writing: Transaction) -> None:
            for _ in range(count):
                writing.chain.append(writing.db, EventRecord(type=kind, data={}), 7)

        await self.journal.write(job)

    async def read_to_the_end(self, cursor: int, wanted: EventFilter = EVERYTHING) -> list[int]:
        seen: list[int] = []
        while True:
            page = await self.tail.after(cursor, wanted)
            seen += [event.seq for event in page]
            cursor = page.upto
            if page.is_at_end:
                return seen


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    bus, clock = Bus(), FakeClock()
    async with opened(tmp_path / "journal.db", clock, bus) as journal:
        yield Scene(journal, bus, clock)


async def test_commit_is_read_once_for_all_who_are_at_the_end(scene: Scene) -> None:
    await scene.append()
    await scene.read_to_the_end(0)
    before = scene.log.reads
    await scene.append(3)

    pages = await asyncio.gather(*[scene.tail.after(1, EVERYTHING) for _ in range(10)])
    other = await scene.tail.after(1, EventFilter(types=("z.*",)))

    assert scene.log.reads - before == 1
    assert [[event.seq for event in page] for page in pages] == [[2, 3, 4]] * 10
    assert (len(other), other.upto, other.is_at_end) == (0, 4, True)


async def test_reader_far_behind_misses_nothing_and_holds_up_nobody(scene: Scene) -> None:
    await scene.append()
    await scene.read_to_the_end(0)
    seen: list[int] = []
    for _ in range(3 * RECENT // CHUNK):
        await scene.append(CHUNK)
        seen += await scene.read_to_the_end(seen[-1] if seen else 1)

    behind = await scene.read_to_the_end(0)

    total = 1 + 3 * RECENT // CHUNK * CHUNK
    assert seen == list(range(2, total + 1))
    assert behind == list(range(1, total + 1))


async def test_first_reader_after_a_quiet_time_begins_where_it_says(scene: Scene) -> None:
    await scene.append(2)
    await scene.read_to_the_end(0)
    scene.tail.forget()
    await scene.append(CHUNK + 2)

    assert await scene.read_to_the_end(1) == list(range(2, CHUNK + 5))
    assert await scene.read_to_the_end(CHUNK + 3) == [CHUNK + 4]


@pytest.mark.parametrize("from_memory", [False, True])
async def test_filter_passes_over_what_it_does_not_want(scene: Scene, from_memory: bool) -> None:
    if from_memory:
        await scene.append()
        await scene.read_to_the_end(0)
    for kind in ("a.b", "c.d", "a.b", "c.e"):
        await scene.append(kind=kind)

    seen = await scene.read_to_the_end(1, EventFilter(types=("c.*",)))

    first = 3 if from_memory else 2
    assert seen == [first, first + 2]


async def test_events_that_were_pruned_meanwhile_show_as_a_gap(scene: Scene) -> None:
    await scene.append()
    await scene.read_to_the_end(0)
    await scene.append(9)
    await scene.journal.write(lambda writing: writing.db.execute("DELETE FROM event WHERE seq < 6"))

    page = await scene.tail.after(1, EVERYTHING)

    assert (page.first, page.events[0].seq) == (6, 6)


async def test_wait_ends_with_a_commit_of_events_or_with_its_time(scene: Scene) -> None:
    await scene.append()
    await scene.read_to_the_end(0)
    waiting = asyncio.ensure_future(scene.tail.moved(1, 15.0))
    await scene.clock.advance(14.0)
    await scene.journal.write(lambda _writing: None)
    await asyncio.sleep(0)
    assert not waiting.done()

    await scene.append()
    await asyncio.wait_for(waiting, 5)
    late = asyncio.ensure_future(scene.tail.moved(2, 15.0))
    await scene.clock.advance(15.0)

    await asyncio.wait_for(late, 5)
    await asyncio.wait_for(scene.tail.moved(1, 15.0), 5)


class Reader:
    """Takes a stream as the server would, without a network."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.gone = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.sent.append(message.get("body", b""))

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def test_quiet_stream_shows_signs_of_life_from_which_a_reader_goes_on(scene: Scene) -> None:
    reader = Reader()
    wanted = EventFilter(types=("z.*",))
    stream = EventStream(scene.streams, "app", 0, wanted, lambda: True)
    running = asyncio.ensure_future(stream({}, reader.receive, reader.send))
    with anyio.fail_after(5):
        while scene.clock.sleeping == 0:
            await asyncio.sleep(0.01)
    await scene.append(4)

    for _ in range(40):
        await scene.clock.advance(1.0)
        await asyncio.sleep(0.01)
    reader.gone.set()
    await asyncio.wait_for(running, 5)

    assert reader.sent[1] == b"retry: 2000\n: here\nid: 0\n\n"
    assert reader.sent[2:] == [b": here\nid: 4\n\n"] * 2
    assert scene.streams.count == 0
