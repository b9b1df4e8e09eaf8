"""``webhooks``: what providers sent, where they send it, and having one worked on again."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from integrationd.cli.connections import ListByDefault
from integrationd.cli.render import Table, Times, paint
from integrationd.cli.session import Session, with_session

_HEADERS = ("ID", "RECEIVED", "CONNECTION", "TYPES", "STATE", "NOTE")
_ENDPOINT_HEADERS = ("CONNECTION", "PROVIDER", "RECEIVED", "COPIES", "LAST", "ADDRESS")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(webhooks)


@click.group(cls=ListByDefault)
def webhooks() -> None:
    """Show what providers sent, or have one of them worked on again."""


@webhooks.command("list")
@click.option("--connection", help="Only those that came to this connection.")
@click.option("--state", help="Only those in this state, for example unmatched.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, help="How many at most.")
@with_session
def list_webhooks(session: Session, connection: str | None, state: str | None, limit: int) -> None:
    """List webhooks, the latest first; this is what 'webhooks' alone does."""
    given = {"connection": connection, "state": state, "limit": str(limit)}
    params = {name: value for name, value in given.items() if value is not None}
    answer = session.daemon.get("/v1/webhooks", params)
    times, room = session.terminal.times(), session.terminal.room
    session.show(answer, lambda view: "\n".join(_lines(view.get("items") or [], times, room)))


@webhooks.command("show")
@click.argument("webhook_id", metavar="ID")
@with_session
def show_webhook(session: Session, webhook_id: str) -> None:
    """Show one webhook whole."""
    answer = session.daemon.get(_path(webhook_id))
    times = session.terminal.times()
    session.show(answer, lambda view: "\n".join(_story(view, times)))


@webhooks.command("replay")
@click.argument("webhook_id", metavar="ID")
@with_session
def replay(session: Session, webhook_id: str) -> None:
    """Have one webhook worked on again, with the plugin as it is now."""
    answer = session.daemon.post(f"{_path(webhook_id)}/replay")
    session.show(answer, lambda view: f"Webhook {view.get('id')} is worked on again.")


@webhooks.command("endpoints")
@with_session
def endpoints(session: Session) -> None:
    """Show where each provider sends its webhooks, and what has come there."""
    answer = session.daemon.get("/v1/webhook-endpoints")
    times, room = session.terminal.times(), session.terminal.room
    session.show(answer, lambda view: "\n".join(_places(view.get("items") or [], times, room)))


def _path(webhook_id: str) -> str:
    if not _ID.fullmatch(webhook_id):
        raise click.UsageError(
            f"{webhook_id[:80]!r} is not the id of a webhook; ids are given whole, "
            "as 'integrationd webhooks' shows them"
        )
    return f"/v1/webhooks/{webhook_id}"


def _lines(items: Sequence[Mapping[str, Any]], times: Times, room: int | None) -> Iterator[str]:
    if not items:
        yield "No webhooks."
        return
    yield from Table(_HEADERS, room).lines(
        (
            str(one.get("id")),
            times.relative(one.get("received_at")),
            str(one.get("connection")),
            str(one.get("types") or "-"),
            paint(str(one.get("state"))),
            str(one.get("note") or ""),
        )
        for one in items
    )


def _story(view: Mapping[str, Any], times: Times) -> Iterator[str]:
    yield f"Webhook {view.get('id')} is {paint(str(view.get('state')))}: {view.get('note') or '-'}"
    came = times.both(view.get("received_at"))
    where = f"{view.get('connection')} ({view.get('provider')})"
    yield f"Came {came} to {where} from {view.get('source')}"
    yield f"Proved by {view.get('proof')}; answered {view.get('reply_status')}"
    yield f"Tells: {view.get('types') or 'nothing that concerns us'}"
    if view.get("call_id"):
        yield f"About call {view['call_id']}"
    if view.get("repeats"):
        yield f"Copies: {view['repeats']}, the last {times.relative(view.get('repeated_at'))}"
    yield ""
    yield str(view.get("body") or f"(not text, base64) {view.get('body_base64') or ''}")


def _places(items: Sequence[Mapping[str, Any]], times: Times, room: int | None) -> Iterator[str]:
    if not items:
        yield "No connection receives webhooks."
        return
    yield from Table(_ENDPOINT_HEADERS, room).lines(
        (
            str(one.get("connection")),
            str(one.get("provider")),
            str(one.get("received")),
            str(one.get("repeats")),
            times.relative(one["last_received_at"]) if one.get("last_received_at") else "never",
            str(one.get("address") or one.get("path")),
        )
        for one in items
    )
