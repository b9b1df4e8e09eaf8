"""``subscriptions``: who is told of which events, and what became of it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from integrationd.cli.client import Answer
from integrationd.cli.connections import ListByDefault
from integrationd.cli.durations import seconds
from integrationd.cli.render import Table, Times, paint
from integrationd.cli.session import Session, with_session

_HEADERS = ("ID", "NAME", "TENANT", "STATE", "BEHIND", "FAILED", "URL")
_DELIVERY_HEADERS = ("ID", "EVENT", "STATUS", "TRIES", "CODE", "NOTE")
_ID = re.compile(r"sub_[0-9a-f]{16}")
_MOST_SHOWN = 500
_LIMIT = click.option(
    "--limit", type=click.IntRange(1, _MOST_SHOWN), default=50, help="How many at most."
)


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(subscriptions)


@click.group(cls=ListByDefault)
def subscriptions() -> None:
    """Show who is told of which events, or add, test, rotate or remove a subscription."""


@subscriptions.command("list")
@_LIMIT
@with_session
def list_all(session: Session, limit: int) -> None:
    """List the subscriptions; this is what 'subscriptions' alone does."""
    answer = session.daemon.get("/v1/subscriptions", {"limit": str(limit)})
    room = session.terminal.room
    session.show(answer, lambda view: "\n".join(_lines(view.get("items") or [], room)))


@subscriptions.command("add")
@click.argument("receiver", metavar="URL")
@click.option("--event", "events", multiple=True, help="An event, or payment.*; else all of them.")
@click.option("--name", default="", help="What people call it.")
@click.option("--description", default="", help="What it is for.")
@click.option("--scheme", type=click.Choice(["standard", "simple"]), default="standard")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="Sent along.")
@click.option("--tenant", help="Whose events; else those of your key, or of all.")
@click.option("--allow-private", is_flag=True, help="It is in a network of your own.")
@with_session
def add(session: Session, receiver: str, **options: Any) -> None:
    """Have events sent to URL, and print the secret; it is never shown again."""
    headers = dict(_header(one) for one in options["headers"])
    body = {
        "url": receiver,
        "name": options["name"],
        "description": options["description"],
        "scheme": options["scheme"],
        "allow_private": options["allow_private"],
        "tenant": options["tenant"],
        "events": list(options["events"]) or None,
        "headers": headers or None,
    }
    _show_secret(session, session.daemon.post("/v1/subscriptions", _given(body)))


@subscriptions.command("show")
@click.argument("subscription", metavar="ID")
@with_session
def show(session: Session, subscription: str) -> None:
    """Show how a subscription stands."""
    answer = session.daemon.get(_path(subscription))
    times = session.terminal.times()
    session.show(answer, lambda view: "\n".join(_story(view, times)))


@subscriptions.command("test")
@click.argument("subscription", metavar="ID")
@with_session
def test(session: Session, subscription: str) -> None:
    """Send a test event."""
    answer = session.daemon.post(f"{_path(subscription)}/test", b"")
    session.show(
        answer,
        lambda view: (
            f"A test event is on its way as {view.get('delivery')}; see"
            f" 'integrationd subscriptions deliveries {subscription}'."
        ),
    )


@subscriptions.command("rotate")
@click.argument("subscription", metavar="ID")
@click.option(
    "--overlap", type=seconds, metavar="DURATION", help="How long the old one is good; else 1d."
)
@with_session
def rotate(session: Session, subscription: str, overlap: float | None) -> None:
    """Print a new secret, which takes the old one's place."""
    body = _given({"overlap": overlap})
    _show_secret(session, session.daemon.post(f"{_path(subscription)}/rotate", body))


@subscriptions.command("deliveries")
@click.argument("subscription", metavar="ID")
@click.option("--state", help="Only those in this state: pending, completed, failed ...")
@_LIMIT
@with_session
def deliveries(session: Session, subscription: str, state: str | None, limit: int) -> None:
    """List what was sent, the latest first."""
    query = {"limit": str(limit), **({"state": state} if state else {})}
    answer = session.daemon.get(f"{_path(subscription)}/deliveries", query)
    room = session.terminal.room
    session.show(answer, lambda view: "\n".join(_sent(view.get("items") or [], room)))


@subscriptions.command("redeliver")
@click.argument("subscription", metavar="ID")
@click.option("--delivery", help="The id of one delivery.")
@click.option("--after", type=click.IntRange(0), help="Events with a greater number.")
@click.option("--upto", type=click.IntRange(0), help="Events up to this number.")
@click.option("--from", "from_", metavar="TIME", help="Events from this time on (RFC 3339).")
@click.option("--until", metavar="TIME", help="Events from before this time.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@with_session
def redeliver(session: Session, subscription: str, from_: str | None, **given: Any) -> None:
    """Deliver one event, or those of a range, once more, under the same ids."""
    body = _given({**given, "from": from_})
    answer = session.daemon.post(f"{_path(subscription)}/redeliver", body)
    session.show(answer, _told_again)


@subscriptions.command("remove")
@click.argument("subscription", metavar="ID")
@with_session
def remove(session: Session, subscription: str) -> None:
    """Tell it nothing more; deliveries that wait are called off."""
    answer = session.daemon.delete(_path(subscription))
    session.show(answer, lambda _view: f"Subscription {subscription} is removed.")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise click.BadParameter("write NAME:VALUE", param_hint="--header")
    return name.strip(), value.strip()


def _given(body: Mapping[str, Any]) -> bytes:
    return json.dumps({key: value for key, value in body.items() if value is not None}).encode()


def _path(subscription: str) -> str:
    if not _ID.fullmatch(subscription):
        raise click.UsageError(
            f"{subscription[:40]!r} is not the id of a subscription; 'integrationd subscriptions'"
            " shows them"
        )
    return f"/v1/subscriptions/{subscription}"


def _show_secret(session: Session, answer: Answer) -> None:
    """Print the secret alone, so that it can be sent to a file, and the rest beside it."""
    view = answer.shown
    session.show(answer, lambda shown: str(shown.get("secret")))
    if not session.as_json:
        session.terminal.note(
            f"This is the secret of subscription {view.get('id')}. Receivers verify with it; it is"
            " never shown again."
        )


def _told_again(view: Mapping[str, Any]) -> str:
    count = view.get("count")
    if view.get("dry_run"):
        return f"{count} events would be delivered once more."
    if view.get("delivery"):
        return f"It is delivered once more as {view['delivery']}."
    return f"{count} events are delivered once more."


def _lines(items: Sequence[Mapping[str, Any]], room: int | None) -> Iterator[str]:
    if not items:
        yield "There are no subscriptions."
        return
    yield from Table(_HEADERS, room).lines(
        (
            str(one.get("id")),
            str(one.get("name")),
            str(one.get("tenant") or "all"),
            paint(str(one.get("state"))),
            str(one.get("behind")),
            str(one.get("failed")),
            str(one.get("url")),
        )
        for one in items
    )


def _sent(items: Sequence[Mapping[str, Any]], room: int | None) -> Iterator[str]:
    if not items:
        yield "Nothing was sent yet."
        return
    yield from Table(_DELIVERY_HEADERS, room).lines(
        (
            str(one.get("id")),
            str(one.get("type")),
            paint(str(one.get("status"))),
            str(one.get("attempts")),
            str(one.get("status_code") or ""),
            "" if one.get("status") == "success" else str(one.get("detail") or ""),
        )
        for one in items
    )


def _story(view: Mapping[str, Any], times: Times) -> Iterator[str]:
    yield f"Subscription {view.get('id')} {view.get('name')}".rstrip()
    yield f"  state       {paint(str(view.get('state')))}"
    if view.get("problem") or view.get("stopped"):
        yield f"  because     {view.get('problem') or view.get('stopped')}"
    yield f"  url         {view.get('url')}"
    yield f"  tenant      {view.get('tenant') or 'all'}"
    yield f"  events      {', '.join(view.get('events') or [])}"
    yield f"  scheme      {view.get('scheme')}"
    yield f"  told up to  event {view.get('last_event')}, {view.get('behind')} not looked at"
    yield (
        f"  deliveries  {view.get('open')} open, {view.get('delivered')} delivered,"
        f" {view.get('failed')} failed"
    )
    if view.get("failing_since"):
        yield f"  failing     since {times.relative(view['failing_since'])}"
