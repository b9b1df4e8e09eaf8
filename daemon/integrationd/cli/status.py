"""``status``: what a person looks at first, problems before all else."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from integrationd.cli.connections import connection_table
from integrationd.cli.exits import Exit
from integrationd.cli.render import Times, paint
from integrationd.cli.session import Session, with_session
from integrationd.settings.units import format_size

STATES = (
    "pending",
    "processing",
    "waiting",
    "unknown",
    "completed",
    "failed",
    "expired",
    "cancelled",
)


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(status)


@click.command()
@click.option("--acknowledge", is_flag=True, help="Take note of the journal's alarm and clear it.")
@with_session
def status(session: Session, acknowledge: bool) -> None:
    """Show how the daemon and its connections are; exits 7 if something needs attention."""
    if acknowledge:
        session.daemon.post("/v1/journal/acknowledge")
    answer = session.daemon.get("/v1/status")
    times, room = session.terminal.times(), session.terminal.room
    session.show(answer, lambda view: "\n".join(_lines(view, times, room)))
    if answer.value.get("status") != "ok":
        click.get_current_context().exit(Exit.ATTENTION)


def _lines(view: Mapping[str, Any], times: Times, room: int | None) -> Iterator[str]:
    condition = str(view.get("status"))
    since = times.both(view.get("started_at"))
    yield f"integrationd {view.get('version')}: {paint(condition)}, running since {since}"
    problems = view.get("problems") or []
    if problems:
        yield ""
        yield from (f"  {paint('!', 'failed')} {times.localised(each)}" for each in problems)
    yield ""
    yield f"Journal: {_journal(view.get('journal') or {})}"
    yield f"Link:    {_link(view.get('link') or {}, times)}"
    yield f"Calls:   {_ledger(view.get('ledger') or {})}"
    if view.get("oldest_pending_at"):
        yield f"         the oldest pending one is from {times.both(view['oldest_pending_at'])}"
    connections = view.get("connections") or []
    yield ""
    yield from connection_table(connections, times, room)


def _journal(journal: Mapping[str, Any]) -> str:
    parts = [paint(str(journal.get("condition")))]
    if journal.get("level") == "high":
        parts.append(f"low on room: {_room(journal)}, calls of low priority are refused")
    elif journal.get("reason"):
        parts.append(str(journal["reason"]))
    else:
        parts.append(_room(journal))
    parts.append(f"SQLite {journal.get('sqlite_version')}")
    parts.append(f"write-ahead log {format_size(journal.get('wal_bytes') or 0)}")
    if journal.get("exclusive"):
        parts.append("one exclusive connection, since this SQLite is not safe with two")
    return ", ".join(filter(None, parts))


def _room(journal: Mapping[str, Any]) -> str:
    free, size = journal.get("free_bytes"), journal.get("disk_bytes")
    return (
        "" if free is None or size is None else f"{format_size(free)} of {format_size(size)} free"
    )


def _link(link: Mapping[str, Any], times: Times) -> str:
    since = f" since {times.both(link['since'])}" if link.get("since") else ""
    return f"{paint(str(link.get('state')))}{since}"


def _ledger(ledger: Mapping[str, Any]) -> str:
    counts = {state: int(ledger.get(state) or 0) for state in STATES}
    accepted = int(ledger.get("accepted") or 0)
    terms = [f"{paint(state)} {count}" for state, count in counts.items() if count]
    if not terms:
        return f"accepted {accepted}"
    sign = "=" if accepted == sum(counts.values()) else paint("does not equal", "failed")
    return f"accepted {accepted} {sign} {' + '.join(terms)}"
