"""What a million pending calls change: claiming, the idle poll, accepting, memory."""

import asyncio
import contextlib
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.bench import figures
from tests.bench.backlog import LANE, make, new_call
from tests.bench.disk import on_a_loop
from tests.bench.figures import ROUNDS, Table, interleaved, ratios, scaled, spread
from tests.bench.subject import Subject, running

from integrationd.clock import SystemClock
from integrationd.events import Bus
from integrationd.journal import Journal, Transaction
from integrationd.journal.leases import next_due_ms

pytestmark = pytest.mark.bench

FEW, SOME, MANY = scaled(10_000), scaled(100_000), scaled(1_000_000)
HOUR_MS = 3_600_000
CLAIM_LIMIT = 32
CLAIMS = scaled(15)
POLLS = 200
SUBMITTERS = 64
CONNECTION = "shop"
# Nobody listens there.
NOWHERE = 9


@pytest.fixture(scope="module")
def backlogs(tmp_path_factory: pytest.TempPathFactory, table: Table) -> Iterator[dict[int, Path]]:
    """Journals with few, some and many pending calls, all due; they are large, so taken away."""
    directory = tmp_path_factory.mktemp("backlog")
    first_ms = SystemClock().now_ms() - HOUR_MS
    began_s = time.monotonic()
    made = {
        count: make(directory / str(count) / "journal.db", count, first_ms)
        for count in (FEW, SOME, MANY)
    }
    table.note(f"backlogs of {FEW}, {SOME}, {MANY} made in {time.monotonic() - began_s:.0f} s")
    yield made
    shutil.rmtree(directory)


def test_memory_does_not_grow_with_the_backlog(
    tmp_path: Path, backlogs: dict[int, Path], table: Table
) -> None:
    empty = tmp_path / "none"
    found = [_resident_mb([empty, *_directories(backlogs)]) for _ in range(ROUNDS)]
    none, few, some, many = ([one[place] for one in found] for place in range(4))
    table.add(figures.MEMORY_SOME, [a - b for a, b in zip(some, none, strict=True)])
    table.add(figures.MEMORY_MANY, [a - b for a, b in zip(many, none, strict=True)])
    table.note(
        f"memory behind an open breaker, MB: empty {spread(none, '{:.1f}')},"
        f" {FEW} pending {spread(few, '{:.1f}')}, {SOME} {spread(some, '{:.1f}')},"
        f" {MANY} {spread(many, '{:.1f}')}"
    )


def _directories(backlogs: dict[int, Path]) -> list[Path]:
    return [file.parent for file in backlogs.values()]


def _resident_mb(directories: Sequence[Path]) -> list[float]:
    """Run a daemon on each journal at once, each after the same work; return their memory."""
    with contextlib.ExitStack() as stack:
        daemons = [stack.enter_context(running(one, NOWHERE)) for one in directories]
        for daemon in daemons:
            # More than enough to open the breaker: each finds nobody at the other end.
            daemon.send_calls(scaled(400), 16)
        for daemon in daemons:
            _until_breaker_opens(daemon)
        return [daemon.resident_mb() for daemon in daemons]


def _until_breaker_opens(daemon: Subject) -> None:
    ends_s = time.monotonic() + 30
    while daemon.told(f"/v1/connections/{CONNECTION}")["breaker"] != "open":
        assert time.monotonic() < ends_s, "the breaker stays closed although nobody answers"
        time.sleep(0.1)
    assert daemon.ledger()["pending"] >= scaled(400)


class Claimed:
    """A journal with a backlog, measured on a loop.

    Args:
        file: The journal.
        runner: The loop.
    """

    def __init__(self, file: Path, runner: asyncio.Runner) -> None:
        self._clock = SystemClock()
        self._runner = runner
        self._open(file)

    def _open(self, file: Path) -> None:
        async def opened() -> Journal:
            journal = Journal(file, b"k" * 32, Bus(), self._clock)
            await journal.open()
            return journal

        self._journal = self._runner.run(opened())

    def close(self) -> None:
        """Close the journal."""
        self._runner.run(self._journal.close())

    def claim_ms(self) -> float:
        """Return the median time of a claim, its commit included."""
        return self._runner.run(self._claim())

    async def _claim(self) -> float:
        took_ms = []
        for _ in range(CLAIMS):
            began_s = time.perf_counter()
            leases, _ = await self._journal.leases.claim(LANE, CONNECTION, CLAIM_LIMIT, HOUR_MS)
            took_ms.append((time.perf_counter() - began_s) * 1000)
            assert len(leases) == CLAIM_LIMIT
        return statistics.median(took_ms)

    def accept_rate(self) -> float:
        """Return how many calls a second are accepted."""
        return self._runner.run(self._accept(scaled(60)))

    async def _accept(self, each: int) -> float:
        async def submit() -> None:
            for _ in range(each):
                await self._journal.calls.accept([new_call(self._clock.now_ms())])

        began_s = time.perf_counter()
        await asyncio.gather(*(submit() for _ in range(SUBMITTERS)))
        return SUBMITTERS * each / (time.perf_counter() - began_s)

    def poll_ms(self) -> tuple[float, float]:
        """Return the median times of a poll: when the lane is due, and a claim of nothing."""
        return self._runner.run(self._journal.write(self._poll))

    def _poll(self, transaction: Transaction) -> tuple[float, float]:
        long_ago_ms = self._clock.now_ms() - 10 * HOUR_MS
        leases, looks, claims = self._journal.leases, [], []
        for _ in range(POLLS):
            began_s = time.perf_counter()
            due_ms = next_due_ms(transaction.db, LANE)
            looked_s = time.perf_counter()
            # By a clock of long ago all of them are for later.
            found = leases._due_calls(transaction, LANE, long_ago_ms, CLAIM_LIMIT)
            claims.append((time.perf_counter() - began_s) * 1000)
            looks.append((looked_s - began_s) * 1000)
            assert due_ms is not None
            assert due_ms > long_ago_ms
            assert not found
        return statistics.median(looks), statistics.median(claims)


@contextlib.contextmanager
def _measured(backlogs: dict[int, Path]) -> Iterator[tuple[Claimed, Claimed]]:
    with on_a_loop() as runner:
        few, many = Claimed(backlogs[FEW], runner), Claimed(backlogs[MANY], runner)
        try:
            yield few, many
        finally:
            few.close()
            many.close()


def test_claiming_and_accepting_do_not_slow_with_the_backlog(
    backlogs: dict[int, Path], table: Table
) -> None:
    with _measured(backlogs) as (few, many):
        interleaved({"few": few.claim_ms, "many": many.claim_ms}, rounds=1)
        claim = interleaved({"few": few.claim_ms, "many": many.claim_ms})
        polls = interleaved({"many": many.poll_ms})["many"]
        accept = interleaved({"few": few.accept_rate, "many": many.accept_rate})
    table.add(figures.CLAIM, ratios(claim["many"], claim["few"]))
    table.add(figures.IDLE_POLL, [look for look, _ in polls])
    table.add(figures.ACCEPT_FULL, ratios(accept["many"], accept["few"]))
    table.note(
        f"claim of {CLAIM_LIMIT}, p50 ms: {FEW} pending {spread(claim['few'], '{:.2f}')},"
        f" {MANY} pending {spread(claim['many'], '{:.2f}')};"
        f" a claim that finds nothing {spread((one for _, one in polls), '{:.3f}')} ms"
        f" without its commit"
    )
    table.note(
        f"accepted in the journal, c=64: {FEW} pending {spread(accept['few'])}/s,"
        f" {MANY} pending {spread(accept['many'])}/s"
    )
