"""``connections``: how they are, and closing a breaker by hand; the rest is in its own module."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from integrationd.cli.render import Table, Times
from integrationd.cli.session import Session, with_session

_HEADERS = (
    "CONNECTION",
    "PROVIDER",
    "ENVIRONMENT",
    "BREAKER",
    "RUNNING",
    "PENDING",
    "LIMIT",
    "NOTE",
)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class ListByDefault(click.Group):
    """A group that lists when no command of it is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``list`` in front of options that come without a command.

        A command line that a shell only completes is left alone.
        """
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        asks_for_help = any(each in ctx.help_option_names for each in args)
        if not asks_for_help and not any(each in self.commands for each in args[:1]):
            is_option = not args or args[0].startswith("-")
            args = ["list", *args] if is_option else args
        return super().parse_args(ctx, args)


@click.group(cls=ListByDefault)
def connections() -> None:
    """Show the connections, or add, test, pause or remove one."""


@connections.command("list")
@with_session
def list_connections(session: Session) -> None:
    """Show all connections; this is what 'connections' alone does."""
    answer = session.daemon.get("/v1/connections")
    times, room = session.terminal.times(), session.terminal.room
    session.show(
        answer, lambda view: "\n".join(connection_table(view.get("items") or [], times, room))
    )


@connections.command("reset-breaker")
@click.argument("name")
@with_session
def reset_breaker(session: Session, name: str) -> None:
    """Close the breaker of the connection NAME, so that its calls go out again."""
    if not _NAME.fullmatch(name):
        raise click.UsageError(f"{name[:80]!r} is not the name of a connection")
    answer = session.daemon.post(f"/v1/connections/{name}/breaker/reset")
    session.show(
        answer, lambda view: f"Connection {view.get('id')}: its breaker is {view.get('breaker')}."
    )


def connection_table(
    items: Sequence[Mapping[str, Any]], times: Times, room: int | None
) -> Iterator[str]:
    """Return the lines that show connections, or the one that says that there are none."""
    if not items:
        yield "There are no connections: add one with 'integrationd connections add'."
        return
    yield from Table(_HEADERS, room).lines(_row(one, times) for one in items)


def _row(one: Mapping[str, Any], times: Times) -> Sequence[str]:
    return (
        str(one.get("id")),
        str(one.get("provider")),
        str(one.get("environment")),
        str(one.get("breaker")),
        f"{one.get('running')}/{one.get('concurrency')}",
        str(one.get("pending")),
        str(one.get("rate_limit") or "-"),
        _note(one, times),
    )


def _note(one: Mapping[str, Any], times: Times) -> str:
    if one.get("problem"):
        return str(one["problem"])
    if not one.get("enabled", True):
        return "switched off"
    if one.get("state") in {"paused", "leaving"}:
        return str(one["state"])
    until = one.get("breaker_until")
    return f"tried again {times.relative(until)}" if until else ""
