"""Kill the daemon again and again under load, and hold it to its word.

While clients order without end and calls are delivered, the daemon is killed with SIGKILL at random
moments and started again at once: half of the kills within :data:`PROMPT_S` of an acknowledgement,
the others anywhere, the start included. At the end it may drain; then everything that was
acknowledged must be there, and nothing must have happened twice that must happen once.
A run that has not killed, acknowledged or interrupted enough proves nothing and says so.
"""

import asyncio
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import audit
from tests.faults.daemon import PROGRAM, DaemonError, DaemonProcess
from tests.faults.load import CONNECTIONS, Load
from tests.faults.sink import Sink

PLUGINS = Path(__file__).parents[1] / "plugin_files"

PROMPT_S = 0.005
LONGEST_LIFE_S = 1.6
LONGEST_WORK_S = 0.8
FIRST_ACK_S = 20.0
DRAIN_S = 120.0
POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run has to reach.

    Attributes:
        seed: Fixes the moments and the load as far as that can be done from outside.
        kills: How often the daemon is killed, at least.
        acks: How many calls are acknowledged, at least.
        cut: How many requests are cut off at the provider before their answer, at least.
        seconds: After this time the killing ends, whatever was reached.
        program: The command of the daemon.
        anew: Whether it starts with an interpreter of its own, and may be killed while that does.
    """

    seed: int
    kills: int
    acks: int
    cut: int
    seconds: float
    program: Sequence[str] = PROGRAM
    anew: bool = False


@dataclass(kw_only=True)
class Report:
    """What a run came to.

    Attributes:
        faults: Promises that were broken.
        vacuous: What was not reached, so that the run proves nothing.
        lost: Acknowledged orders that are gone.
        figures: What was counted and measured, for people.
    """

    faults: list[str] = field(default_factory=list)
    vacuous: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        told = [f"{name}: {figure}" for name, figure in self.figures.items()]
        told += [f"FAULT: {one}" for one in self.faults]
        told += [f"VACUOUS: {one}" for one in self.vacuous]
        return "\n".join(told)


async def endure(plan: Plan, directory: Path) -> Report:
    """Carry out a plan in a directory of its own and return what came of it."""
    sys.stdout.write(f"seed: {plan.seed}\n")
    async with Sink(plan.seed) as sink:
        tables = CONNECTIONS.format(sink_port=sink.port, plugins=json.dumps(str(PLUGINS)))
        made = DaemonProcess(directory, tables, program=plan.program, anew=plan.anew)
        with made as daemon:
            run = _Run(plan, daemon, sink)
            async with asyncio.TaskGroup() as group:
                await run.kill_under_load(group)
                await run.drain()
            await run.check()
    return run.report


class _Run:
    """One run, from the first start to the verdict."""

    def __init__(self, plan: Plan, daemon: DaemonProcess, sink: Sink) -> None:
        self.load = Load(daemon, plan.seed)
        self.report = Report()
        self._plan = plan
        self._daemon = daemon
        self._sink = sink
        self._random = random.Random(plan.seed)
        self._kills = 0
        self._prompt_kills = 0
        self._started_at = 0.0
        self._acked_at = 0.0
        self._first_acks_s: list[float] = []
        self._acked = asyncio.Event()
        self._next_ack = asyncio.Event()
        self.load.book.on_ack = self._on_ack

    async def kill_under_load(self, group: asyncio.TaskGroup) -> None:
        """Kill and restart until the plan is reached, or its time is over."""
        self._start()
        await asyncio.to_thread(self._daemon.wait_ready)
        self.load.start(group)
        began = time.monotonic()
        while not self._is_reached() and time.monotonic() - began < self._plan.seconds:
            if self._kills % 2:
                await asyncio.sleep(self._random.uniform(0, LONGEST_LIFE_S))
            else:
                await self._until_just_after_an_ack()
            self._kill()
            self._start()
        seconds = time.monotonic() - began
        self.report.figures["acknowledged per second, downtime included"] = round(
            len(self.load.book.kept) / seconds
        )

    def _is_reached(self) -> bool:
        return all(count >= wanted for _, count, wanted in self._goals())

    def _goals(self) -> list[tuple[str, int, int]]:
        """Return what is to be reached, with how much of it there is and how much is wanted."""
        plan = self._plan
        return [
            ("kills", self._kills, plan.kills),
            ("kills soon after an acknowledgement", self._prompt_kills, plan.kills // 2),
            ("acknowledged calls", len(self.load.book.kept), plan.acks),
            ("requests cut off at the provider", self._sink.cut, plan.cut),
        ]

    def _start(self) -> None:
        self._acked.clear()
        self._started_at = time.monotonic()
        self._daemon.start()

    async def _until_just_after_an_ack(self) -> None:
        """Let the daemon work for a while, then return within moments of an acknowledgement.

        Raises:
            DaemonError: It acknowledges nothing.
        """
        try:
            async with asyncio.timeout(FIRST_ACK_S):
                await self._acked.wait()
                await asyncio.sleep(self._random.uniform(0, LONGEST_WORK_S))
                # Often at once: nothing may then have happened since the acknowledgement.
                delay_s = self._random.choice((0.0, self._random.uniform(0, PROMPT_S / 2)))
                while True:
                    self._next_ack = asyncio.Event()
                    await self._next_ack.wait()
                    await asyncio.sleep(delay_s)
                    if self._since_ack_s <= PROMPT_S:
                        return
        except TimeoutError:
            told = self._daemon.output()
            raise DaemonError(f"nothing acknowledged in {FIRST_ACK_S} s:\n{told}") from None

    @property
    def _since_ack_s(self) -> float:
        return time.monotonic() - self._acked_at

    def _on_ack(self) -> None:
        self._acked_at = time.monotonic()
        self._next_ack.set()
        if not self._acked.is_set():
            self._acked.set()
            self._first_acks_s.append(self._acked_at - self._started_at)

    def _kill(self) -> None:
        if not self._daemon.is_running:
            raise DaemonError(f"the daemon has ended by itself:\n{self._daemon.output()}")
        self._prompt_kills += self._since_ack_s <= PROMPT_S
        self._daemon.kill()
        self._kills += 1

    async def drain(self) -> None:
        """Let the clients finish and the daemon deliver everything that it can."""
        await asyncio.to_thread(self._daemon.wait_ready)
        await self.load.stop()
        began = time.monotonic()
        async with self._daemon.client() as client:
            while time.monotonic() - began < DRAIN_S:
                if not await audit.count_open(client):
                    break
                await asyncio.sleep(POLL_S)
            self.report.faults += await audit.check_api(client, self.load.book)
        self.report.figures["seconds to drain"] = round(time.monotonic() - began, 1)

    async def check(self) -> None:
        """Stop the daemon and compare its books with those of the clients and the providers."""
        code = await asyncio.to_thread(self._daemon.stop)
        books, book = audit.read_books(self._daemon), self.load.book
        output = self._daemon.log_file.read_text("utf-8", "replace")
        self.report.lost = audit.lost(books, book)
        self.report.faults += [
            *([f"the daemon ended with {code}"] if code else []),
            *(f"answered {count} times: {what}" for what, count in book.refused.items()),
            *audit.check_calls(books, book),
            *audit.check_effects(books, book, self._sink, output),
            *audit.check_output(output),
        ]
        self.report.vacuous = [
            f"{what}: {count}, but {wanted} were to be reached"
            for what, count, wanted in self._goals()
            if count < wanted
        ]
        self._tell(books)

    def _tell(self, books: audit.Books) -> None:
        book, first_s = self.load.book, sorted(self._first_acks_s)
        unknown = [str(row.order) for row in books.rows if row.state == "unknown"]
        effects = sum(1 for order in unknown if self._sink.effects[order])
        self.report.figures |= {
            "kills": f"{self._kills}, {self._prompt_kills} within {PROMPT_S * 1000:.0f} ms of an"
            " acknowledgement",
            "acknowledged": f"{len(book.kept)} of {len(book.ordered)} calls ordered,"
            f" {len(books.rows)} kept, {len(self.report.lost)} lost",
            "requests without an answer": f"{book.unanswered}, {book.replayed} found kept"
            " when they were repeated",
            "states": dict(Counter(row.state for row in books.rows)),
            "interrupted sends": f"{books.interrupted}, {self._sink.cut} cut off at the provider",
            "unknown at the end": f"{len(unknown)}, of which {effects} had taken effect",
            "start to first acknowledgement": f"median {statistics.median(first_s) * 1000:.0f} ms,"
            f" p99 {first_s[int(len(first_s) * 0.99)] * 1000:.0f} ms, {len(first_s)} starts",
        }
