"""``keys``: who may use the API, and giving, replacing and taking back its keys."""

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

_HEADERS = ("ID", "NAME", "ROLE", "TENANT", "STATE", "LAST USED", "NOTE")
_ID = re.compile(r"[0-9a-f]{16}")
_MOST_SHOWN = 500


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(keys)


@click.group(cls=ListByDefault)
def keys() -> None:
    """Show the API keys, or create, rotate or revoke one."""


@keys.command("list")
@click.option("--limit", type=click.IntRange(1, _MOST_SHOWN), default=50, help="How many at most.")
@click.option("--tenant", help="Only keys of this tenant.")
@with_session
def list_keys(session: Session, limit: int, tenant: str | None) -> None:
    """List the API keys, the latest first; this is what 'keys' alone does."""
    wanted = {"limit": str(limit), **({"tenant": tenant} if tenant is not None else {})}
    answer = session.daemon.get("/v1/keys", wanted)
    times, room = session.terminal.times(), session.terminal.room
    session.show(answer, lambda view: "\n".join(_lines(view.get("items") or [], times, room)))


@keys.command("create")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["admin", "staff", "read"]),
    required=True,
    help="read looks, staff sends and settles calls too, admin does everything.",
)
@click.option("--tenant", help="The one tenant that it is for; else all that yours is for.")
@click.option(
    "--expires-in",
    type=seconds,
    metavar="DURATION",
    help="After how long it ends, for example 90d.",
)
@with_session
def create(
    session: Session, name: str, role: str, tenant: str | None, expires_in: float | None
) -> None:
    """Create an API key for NAME and print it; it is never shown again."""
    body = {"name": name, "role": role, "tenant": tenant, "expires_in": expires_in}
    _show_made(session, session.daemon.post("/v1/keys", _given(body)))


@keys.command("rotate")
@click.argument("key_id", metavar="ID")
@click.option(
    "--grace",
    type=seconds,
    metavar="DURATION",
    help="How long the old key is still good; else 1d.",
)
@click.option(
    "--expires-in", type=seconds, metavar="DURATION", help="After how long the new one ends."
)
@with_session
def rotate(session: Session, key_id: str, grace: float | None, expires_in: float | None) -> None:
    """Print a new key in the place of one, which is still good for a while."""
    body = {"grace": grace, "expires_in": expires_in}
    _show_made(session, session.daemon.post(f"{_path(key_id)}/rotate", _given(body)))


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@with_session
def revoke(session: Session, key_id: str) -> None:
    """Take an API key away for ever; it is refused from now on."""
    answer = session.daemon.delete(_path(key_id))
    session.show(answer, lambda view: f"API key {view.get('id')} ({view.get('name')}) is revoked.")


def _given(body: Mapping[str, Any]) -> bytes:
    return json.dumps({key: value for key, value in body.items() if value is not None}).encode()


def _path(key_id: str) -> str:
    if not _ID.fullmatch(key_id):
        # What was given may be a whole key, so it is not repeated.
        raise click.UsageError(
            "that is not the id of an API key; ids are given whole, as 'integrationd keys' shows"
            " them"
        )
    return f"/v1/keys/{key_id}"


def _show_made(session: Session, answer: Answer) -> None:
    """Print the key alone, so that it can be sent to a file, and the rest beside it."""
    view = answer.shown
    session.show(answer, lambda shown: str(shown.get("key")))
    if not session.as_json:
        session.terminal.note(
            f"This is the API key {view.get('name')} ({view.get('id')}) with the role"
            f" {view.get('role')}. Keep it well: it is never shown again."
        )


def _lines(items: Sequence[Mapping[str, Any]], times: Times, room: int | None) -> Iterator[str]:
    if not items:
        yield "There are no API keys but the one in the key file."
        return
    yield from Table(_HEADERS, room).lines(
        (
            str(one.get("id")),
            str(one.get("name")),
            str(one.get("role")),
            str(one.get("tenant") or "all"),
            paint(str(one.get("state"))),
            times.relative(one["last_used_at"]) if one.get("last_used_at") else "never",
            _note(one, times),
        )
        for one in items
    )


def _note(one: Mapping[str, Any], times: Times) -> str:
    if one.get("state") == "revoked":
        return f"revoked {times.relative(one.get('revoked_at'))}"
    if one.get("replaced_by"):
        verb = "ends" if one.get("state") == "grace" else "ended"
        return f"replaced by {one['replaced_by']}, {verb} {times.relative(one.get('grace_until'))}"
    if one.get("expires_at"):
        verb = "expired" if one.get("state") == "expired" else "expires"
        return f"{verb} {times.relative(one['expires_at'])}"
    return ""
