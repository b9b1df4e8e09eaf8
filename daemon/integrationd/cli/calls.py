"""``calls``: the list, the latest first."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from integrationd.cli.client import Answer, Daemon
from integrationd.cli.render import Table, Times
from integrationd.cli.session import Session, with_session
from integrationd.cli.status import STATES

PAGE = 200
_HEADERS = ("ID", "STATE", "OPERATION", "CONNECTION", "ACCEPTED", "NOTE")


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(calls)


@click.command()
@click.option("--state", type=click.Choice(STATES), help="Only calls in this state.")
@click.option("--operation", help="Only this operation, for example sms.send.")
@click.option("--connection", help="Only calls that go through this connection.")
@click.option("--tenant", help="Only calls of this tenant.")
@click.option("--reference", metavar="TYPE:ID", help="Only calls with this reference of the app.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--all", "is_all", is_flag=True, help="All of them, however many.")
@with_session
def calls(
    session: Session, reference: str | None, limit: int, is_all: bool, **filters: str | None
) -> None:
    """List calls, the latest first."""
    wanted = {name: value for name, value in filters.items() if value is not None}
    if reference is not None:
        wanted["reference_type"], wanted["reference_id"] = split_reference(reference)
    pages = _pages(session.daemon, wanted, None if is_all else limit)
    if session.as_json:
        _print_json(session, pages, is_one_page=not is_all and limit <= PAGE)
    else:
        _print_table(session, pages)


def split_reference(text: str) -> tuple[str, str]:
    """Split ``TYPE:ID``; the id may contain colons.

    Raises:
        click.BadParameter: It is not of this form.
    """
    kind, colon, ident = text.partition(":")
    if not colon or not kind or not ident:
        raise click.BadParameter(
            "must be TYPE:ID, for example invoice:42", param_hint="'--reference'"
        )
    return kind, ident


def _pages(daemon: Daemon, filters: Mapping[str, str], limit: int | None) -> Iterator[Answer]:
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        size = PAGE if left is None else min(left, PAGE)
        page = {**filters, "limit": str(size), **({"cursor": cursor} if cursor else {})}
        answer = daemon.get("/v1/calls", page)
        yield answer
        cursor = answer.value.get("next")
        left = None if left is None else left - size
        if not cursor:
            return


def _print_json(session: Session, pages: Iterable[Answer], *, is_one_page: bool) -> None:
    """Print one object: the page as it came, or the items of all pages one by one."""
    if is_one_page:
        for answer in pages:
            session.terminal.say_json(answer.body)
        return
    lead, cursor = '{"items":[', None
    for answer in pages:
        cursor = answer.value.get("next")
        for item in answer.value.get("items") or []:
            session.terminal.say_json(f"{lead}{json.dumps(item, ensure_ascii=False)}".encode())
            lead = ","
    lead = "" if lead == "," else lead
    session.terminal.say(f'{lead}],"next":{json.dumps(cursor)}}}')


def _print_table(session: Session, pages: Iterable[Answer]) -> None:
    terminal = session.terminal
    table, count, cursor = Table(_HEADERS, terminal.room), 0, None
    for answer in pages:
        times, items = terminal.times(), answer.shown.get("items") or []
        for line in table.lines(_row(one, times) for one in items):
            terminal.say(line)
        count, cursor = count + len(items), answer.value.get("next")
    if not count:
        terminal.say("No calls.")
    elif cursor:
        terminal.note("There may be more: use --limit or --all.")


def _row(call: Mapping[str, Any], times: Times) -> Sequence[str]:
    return (
        str(call.get("id")),
        str(call.get("state")),
        str(call.get("operation")),
        str(call.get("connection") or "-"),
        times.at(call.get("created_at")),
        _note(call, times),
    )


def _note(call: Mapping[str, Any], times: Times) -> str:
    """Say in a few words what happens next, or why it ended as it did."""
    told = str(call.get("detail") or call.get("reason") or "")
    if call.get("contradiction"):
        return f"contradicted: {call['contradiction']}"
    match call.get("state"):
        case "pending" if times.is_ahead(call.get("next_attempt_at")):
            lead = f"goes {times.relative(call.get('next_attempt_at'))}"
        case "waiting" | "unknown" if call.get("ask_at"):
            lead = f"asked {times.relative(call.get('ask_at'))}"
        case "unknown":
            lead = "held for a person"
        case "completed":
            return str(call.get("delivery") or call.get("detail") or "")
        case _:
            return told
    return f"{lead}: {told}" if told else lead
