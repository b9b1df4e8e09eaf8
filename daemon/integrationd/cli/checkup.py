"""What a check-up is made of: findings, and what the checks know when they begin."""

import dataclasses
import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from integrationd.clock import Clock
from integrationd.settings import Settings


class Level(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What one check has to say.

    Attributes:
        level: How bad it is.
        subject: What was looked at, in one or two words.
        found: What was found.
        advice: What to do about it; empty where there is nothing to do.
    """

    level: Level
    subject: str
    found: str
    advice: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the checks begin with.

    Attributes:
        config: The configuration's file.
        settings: What it says.
        environ: The environment variables.
        clock: Where time is read.
        status: What a running daemon says of itself; None where none answers.
    """

    config: Path
    settings: Settings
    environ: Mapping[str, str]
    clock: Clock
    status: Mapping[str, Any] | None = None

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.settings.journal.path

    @property
    def directory(self) -> Path:
        """The journal's directory, or the nearest one above it that exists."""
        path = self.journal.absolute().parent
        while not path.is_dir() and path != path.parent:
            path = path.parent
        return path


Check: TypeAlias = Callable[[Case], Iterable[Finding]]


def ok(subject: str, found: str, advice: str = "") -> Finding:
    """Return a finding that nobody has to act upon."""
    return Finding(Level.OK, subject, found, advice)


def warning(subject: str, found: str, advice: str) -> Finding:
    """Return a finding that somebody should look into."""
    return Finding(Level.WARNING, subject, found, advice)


def problem(subject: str, found: str, advice: str) -> Finding:
    """Return a finding that keeps the daemon from keeping its promises."""
    return Finding(Level.PROBLEM, subject, found, advice)


def findings_of(checks: Iterable[Check], case: Case) -> Iterator[Finding]:
    """Run checks one after the other; one that fails is a finding of its own."""
    for check in checks:
        try:
            yield from list(check(case))
        except Exception as error:  # noqa: BLE001 - a sick machine must not end the check-up
            subject = getattr(check, "__name__", "check").removeprefix("check_").replace("_", " ")
            yield problem(
                subject,
                f"could not be looked at: {type(error).__name__}: {error}",
                "Mend what the message names, or report it if it names nothing of yours.",
            )
