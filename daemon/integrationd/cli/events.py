"""``events``: the event log, as it stands or as it grows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import anyio
import click

from integrationd.cli.client import Daemon, ProblemError, UnreachableError
from integrationd.cli.render import Table, Times, cleaned, cut
from integrationd.cli.session import Session, with_session

LIMIT = 20
LARGEST_LIMIT = 500
PAUSE_S = 1.0
_PATH = "/v1/events"
_HEADERS = ("NUMBER", "AT", "TYPE", "TENANT", "ABOUT", "WHAT")
_NOTE_LIMIT = 400
_UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE
# They stand in columns of their own, or are of use to programs only.
_LEFT_OUT = frozenset({"attempts", "detail"})


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(events)


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on as events happen, until Ctrl-C.")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    help="Only this type, or all like 'payment.*'; may be given again.",
)
@click.option("--after", type=click.IntRange(min=0), help="Begin after the event of this number.")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--call", "call_id", metavar="ID", help="Only those about this call.")
@click.option("--connection", help="Only those about this connection.")
@click.option(
    "--limit",
    type=click.IntRange(1, LARGEST_LIMIT),
    default=LIMIT,
    show_default=True,
    help="How many at most; with --follow, how many of the last to begin with.",
)
@with_session
def events(
    session: Session,
    follow: bool,
    types: Sequence[str],
    after: int | None,
    limit: int,
    **filters: str | None,
) -> None:
    """Show the last events of the log, or those after a number, or follow it."""
    wanted = {name: value for name, value in filters.items() if value is not None}
    if types:
        wanted["type"] = ",".join(types)
    if follow:
        start = {"last": str(limit)} if after is None else {"after": str(after)}
        _print_as_they_come(session, _Following(session, {**wanted, **start}).events())
    else:
        items, cursor = _read(session.daemon, wanted, after, limit)
        _print(session, items, cursor)


def _read(
    daemon: Daemon, wanted: Mapping[str, str], after: int | None, limit: int
) -> tuple[list[dict[str, Any]], str]:
    """Return the events, and the cursor that goes on behind them."""
    if after is None:
        page = daemon.get(_PATH, {**wanted, "last": str(limit)}).value
        return page["items"], page["next"]
    items: list[dict[str, Any]] = []
    cursor = str(after)
    while len(items) < limit:
        where = {"after": cursor, "limit": str(limit - len(items))}
        page = daemon.get(_PATH, {**wanted, **where}).value
        items += page["items"]
        # Where few match, a page may be empty although there is more behind it.
        if page["next"] == cursor:
            break
        cursor = page["next"]
    return items, cursor


def _print(session: Session, items: Sequence[dict[str, Any]], cursor: str) -> None:
    if session.as_json:
        session.terminal.say_value({"items": items, "next": cursor})
        return
    terminal = session.terminal
    times = terminal.times()
    for line in Table(_HEADERS, terminal.room).lines(_row(cleaned(one), times) for one in items):
        terminal.say(line)
    if not items:
        terminal.say("No events.")


def _print_as_they_come(session: Session, told: Iterator[dict[str, Any]]) -> None:
    """Print each event on a line of its own, as soon as it is there."""
    terminal = session.terminal
    table = Table(_HEADERS, terminal.room)
    for event in told:
        if session.as_json:
            terminal.say_value(event)
            continue
        for line in table.lines([_row(cleaned(event), terminal.times())]):
            terminal.say(line)


class _Following:
    """Events as they happen, over as many daemons as it takes.

    Args:
        session: Whom to ask.
        wanted: Which events, and where to begin.
    """

    def __init__(self, session: Session, wanted: Mapping[str, str]) -> None:
        self._session = session
        self._wanted = wanted
        self._seen: str | None = None
        self._is_lost = False

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield them for ever; when the daemon goes away, go on where it broke off.

        Raises:
            CommandError: There is no daemon to begin with, or it refuses.
        """
        while True:
            try:
                yield from self._until_lost()
            except UnreachableError:
                if self._seen is None:
                    raise
            except ProblemError as error:
                if self._seen is None or error.problem.get("status") != _UNAVAILABLE:
                    raise
            self._pause()

    def _until_lost(self) -> Iterator[dict[str, Any]]:
        headers = {"Accept": "text/event-stream"}
        if self._seen is not None:
            headers["Last-Event-ID"] = self._seen
        for field in _fields(self._session.daemon.lines(_PATH, self._wanted, headers)):
            if self._is_lost:
                self._session.terminal.note("The daemon is back.")
            self._is_lost, self._seen = False, field.get("id", self._seen)
            if "data" in field:
                yield json.loads(field["data"])

    def _pause(self) -> None:
        terminal = self._session.terminal
        if not self._is_lost:
            terminal.note("The daemon has gone away; waiting until it is back.")
        self._is_lost = True
        anyio.run(terminal.clock.sleep, PAUSE_S)


def _fields(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Yield what the blocks of a stream of server-sent events say; one cut off says nothing."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            if fields:
                yield fields
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


def _row(event: Mapping[str, Any], times: Times) -> Sequence[str]:
    return (
        str(event.get("seq")),
        times.at(event.get("at")),
        str(event.get("type")),
        str(event.get("tenant") or "-"),
        str(event.get("call_id") or event.get("connection") or "-"),
        _what(event.get("data")),
    )


def _what(data: Any) -> str:
    """Say in a line what an event tells: its sentence if it has one, else its plain members."""
    if not isinstance(data, dict):
        return ""
    if data.get("detail"):
        return cut(str(data["detail"]), _NOTE_LIMIT)
    plain = (
        f"{name}={value}"
        for name, value in data.items()
        if name not in _LEFT_OUT and value is not None and not isinstance(value, dict | list)
    )
    return cut("  ".join(plain), _NOTE_LIMIT)
