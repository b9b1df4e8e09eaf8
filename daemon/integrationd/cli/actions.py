"""``retry``, ``cancel`` and ``resolve``: what a person can do about a call."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from integrationd.cli.exits import CommandError
from integrationd.cli.render import Times, paint
from integrationd.cli.session import Session, call_path, with_session

_REPEAT_WARNING = (
    "The first send may have arrived. Repeating it may make its effect happen twice.\nRepeat it?"
)


def register(program: click.Group) -> None:
    """Add this module's commands."""
    for command in (retry, cancel, resolve):
        program.add_command(command)


@click.command()
@click.argument("call_id", metavar="ID")
@with_session
def retry(session: Session, call_id: str) -> None:
    """Send a failed or expired call again."""
    answer = session.daemon.post(f"{call_path(call_id)}/retry")
    times = session.terminal.times()
    session.show(answer, lambda view: stands(view, times))


@click.command()
@click.argument("call_id", metavar="ID")
@with_session
def cancel(session: Session, call_id: str) -> None:
    """Call off a pending call."""
    answer = session.daemon.delete(call_path(call_id))
    times = session.terminal.times()
    session.show(answer, lambda view: stands(view, times))


@click.command()
@click.argument("call_id", metavar="ID")
@click.option(
    "--as",
    "resolution",
    type=click.Choice(["done", "refused", "repeat"]),
    required=True,
    help="What the provider says became of it; 'repeat' sends it again.",
)
@click.option("--note", default="", help="How you know; kept with the call.")
@click.option("--yes", is_flag=True, help="Do not ask before repeating.")
@with_session
def resolve(session: Session, call_id: str, resolution: str, note: str, yes: bool) -> None:
    """Settle a call of unknown outcome, once you have asked the provider."""
    path = call_path(call_id)
    if resolution == "repeat" and not yes and sys.stdin.isatty():
        _confirm_repeat()
    body = json.dumps({"resolution": resolution, "note": note})
    answer = session.daemon.post(f"{path}/resolve", body.encode())
    times = session.terminal.times()
    session.show(answer, lambda view: stands(view, times))


def stands(view: Mapping[str, Any], times: Times) -> str:
    """Return one line that says where a call stands now."""
    state = str(view.get("state"))
    line = f"Call {view.get('id')} is {paint(state)}"
    told = view.get("detail") or view.get("reason")
    if state == "pending" and view.get("next_attempt_at"):
        return f"{line}; its next attempt is {_due(times.relative(view['next_attempt_at']))}."
    return f"{line}: {str(told).rstrip('.')}." if told else f"{line}."


def _confirm_repeat() -> None:
    if not click.confirm(_REPEAT_WARNING, err=True):
        raise CommandError("nothing was done", hint="The call stays unknown until it is resolved.")


def _due(relative: str) -> str:
    return "due now" if relative == "now" or relative.endswith("ago") else f"due {relative}"
