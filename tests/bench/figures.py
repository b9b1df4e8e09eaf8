"""What is aimed at, what was measured, and the table that compares the two."""

import dataclasses
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

ROUNDS = 5
SCALE = float(os.environ.get("INTEGRATIOND_BENCH_SCALE", "1"))

_Result = TypeVar("_Result")


def scaled(count: int) -> int:
    """Return a number of operations, or of rows, multiplied by ``INTEGRATIOND_BENCH_SCALE``."""
    return max(1, round(count * SCALE))


def interleaved(
    subjects: Mapping[str, Callable[[], _Result]], rounds: int = ROUNDS
) -> dict[str, list[_Result]]:
    """Measure each subject once a round, each round beginning with another one.

    What disturbs the machine for a while then disturbs all of them.
    """
    names = list(subjects)
    found: dict[str, list[_Result]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(subjects[name]())
    return found


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return one ratio for each round."""
    return [one / other for one, other in zip(above, below, strict=True)]


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure that is aimed at.

    Attributes:
        name: What is measured.
        must: The floor, or the ceiling where less is better.
        aim: The goal.
        less: Whether less is better.
        form: How the figure is written.
    """

    name: str
    must: float
    aim: float
    less: bool = False
    form: str = "{:.2f}"

    def verdict(self, figure: float) -> str:
        """Say what a figure reaches."""
        if self._reaches(figure, self.aim):
            return "aim"
        return "must" if self._reaches(figure, self.must) else "below must"

    def _reaches(self, figure: float, bound: float) -> bool:
        return figure <= bound if self.less else figure >= bound


ACCEPT = Target("accepted durably / not kept at all, requests/s, c=64", 0.75, 0.95)
ACCEPT_P99 = Target("the same, p99 of the answers, c=64", 2.0, 1.4, less=True)
ACCEPT_P50 = Target("the same, p50 of the answers, c=1", 4, 2.5, less=True)
HOOKS = Target("webhooks kept durably / not kept at all, requests/s, c=64", 0.7, 0.9)
HOOKS_P99 = Target("the same, p99 of the replies, c=64", 2.0, 1.4, less=True)
COMMIT_SQL = Target("1 row a commit / fdatasync rate, at the SQL layer", 0.75, 0.85)
COMMIT_WRITER = Target("1 row a commit / fdatasync rate, through the writer", 0.6, 0.72)
GROUP = Target("group commit / a commit per call, 5 ms syncs, c=64", 20, 30, form="{:.1f}x")
CLIENT = Target("CPU per request, stock httpx / our client, c=64", 4, 10, form="{:.1f}x")
DAEMON = Target("accepted to settled, calls/s / huey with urllib3, c=16", 2, 4, form="{:.2f}x")
CLAIM = Target("claim p50, 1,000,000 pending / 10,000", 2, 1.5, less=True, form="{:.2f}x")
IDLE_POLL = Target("idle poll, 1,000,000 for later, ms", 0.1, 0.03, less=True, form="{:.4f}")
ACCEPT_FULL = Target("accept rate, 1,000,000 pending / 10,000", 0.75, 0.9)
MEMORY_SOME = Target("memory growth, 100,000 pending, MB", 20, 5, less=True, form="{:.1f}")
MEMORY_MANY = Target("memory growth, 1,000,000 pending, MB", 20, 5, less=True, form="{:.1f}")
IDLE_MEMORY = Target("idle: resident memory, MB", 100, 60, less=True, form="{:.1f}")
IDLE_CPU = Target("idle: CPU, %", 1, 0.3, less=True)
IDLE_WRITES = Target("idle: disk writes a minute", 2, 1, less=True, form="{:.1f}")

TARGETS = (
    ACCEPT,
    ACCEPT_P99,
    ACCEPT_P50,
    HOOKS,
    HOOKS_P99,
    COMMIT_SQL,
    COMMIT_WRITER,
    GROUP,
    CLIENT,
    DAEMON,
    CLAIM,
    IDLE_POLL,
    ACCEPT_FULL,
    MEMORY_SOME,
    MEMORY_MANY,
    IDLE_MEMORY,
    IDLE_CPU,
    IDLE_WRITES,
)


def spread(values: Iterable[float], form: str = "{:.0f}") -> str:
    """Write figures as min/median/max."""
    found = sorted(values)
    shown = (found[0], statistics.median(found), found[-1])
    return "/".join(form.format(one) for one in shown)


class Table:
    """Collects what was measured."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}
        self._notes: list[str] = []

    def add(self, target: Target, figures: Sequence[float]) -> None:
        """Take the figures of a target, one a round."""
        self._found[target.name] = list(figures)

    def note(self, text: str) -> None:
        """Take a line of raw figures, and show it at once."""
        self._notes.append(text)
        print(f"\n  {text}", flush=True)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured."""
        return not self._found and not self._notes

    def lines(self) -> list[str]:
        """Return the table, and under it the raw figures."""
        width = max(len(target.name) for target in TARGETS)
        head = f"{'':{width}}  {'must':>7} {'aim':>7}  {'min/median/max':>21}  verdict"
        return [head, *[self._line(target, width) for target in TARGETS], "", *self._notes]

    def _line(self, target: Target, width: int) -> str:
        bounds = f"{target.must:>7g} {target.aim:>7g}"
        found = self._found.get(target.name)
        if found is None:
            return f"{target.name:{width}}  {bounds}  {'-':>21}  not measured"
        verdict = target.verdict(statistics.median(found))
        return f"{target.name:{width}}  {bounds}  {spread(found, target.form):>21}  {verdict}"
