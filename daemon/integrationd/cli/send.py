"""``send``: hand a call to the daemon, and wait for its outcome where that is asked."""

import dataclasses
import datetime as dt
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from integrationd.cli.actions import stands
from integrationd.cli.calls import split_reference
from integrationd.cli.client import LONGEST_WAIT_S, Answer, UnreachableError
from integrationd.cli.exits import Exit
from integrationd.cli.payload import as_object, read_payload
from integrationd.cli.render import one_line_json
from integrationd.cli.session import Session, call_path, with_session

DEFAULT_WAIT_S = 30

_NUMBER = re.compile(r"\d+(\.\d+)?")
_OPEN = ("pending", "processing")
_ENDS = {
    "completed": Exit.OK,
    "failed": Exit.CALL_FAILED,
    "expired": Exit.CALL_FAILED,
    "cancelled": Exit.CALL_FAILED,
}
_RESULT_SHOWN = 2000


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(send)


class SendCommand(click.Command):
    """Lets ``--wait`` stand without a number in front of any argument."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the default out where no number follows ``--wait``."""
        before = list(itertools.takewhile(lambda each: each != "--", args))
        for at, each in enumerate(before):
            if each == "--wait" and not _NUMBER.fullmatch("".join(before[at + 1 : at + 2])):
                before[at] = f"--wait={DEFAULT_WAIT_S}"
        return super().parse_args(ctx, before + args[len(before) :])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What ``send`` may say about a call besides its payload."""

    tenant: str | None
    connection: str | None
    priority: str | None
    not_before: str | None
    expires_in: str | None
    reference: str | None
    metadata: str | None
    on_uncertain: str | None

    def members(self, zone: dt.tzinfo | None) -> dict[str, Any]:
        """Return the members of the request that are given.

        Raises:
            click.BadParameter: One of them makes no sense.
        """
        metadata = self.metadata
        members = {
            "tenant": self.tenant,
            "connection": self.connection,
            "priority": self.priority,
            "not_before": _moment(self.not_before, zone),
            "expires_in": _duration(self.expires_in),
            "reference": _reference(self.reference),
            "metadata": None if metadata is None else as_object(metadata.encode(), "--metadata"),
            "on_uncertain": self.on_uncertain,
        }
        return {name: value for name, value in members.items() if value is not None}


@click.command(cls=SendCommand)
@click.argument("operation")
@click.argument("items", metavar="[JSON | @FILE | -] [KEY=VALUE ...]", nargs=-1)
@click.option("--tenant", help="Whose call it is; else that of the key, or 'default'.")
@click.option("--connection", help="Send it through this connection and no other.")
@click.option("--priority", type=click.Choice(["high", "normal", "low"]))
@click.option("--not-before", metavar="TIME", help="Not before this, for example 2026-01-31T14:00.")
@click.option("--expires-in", metavar="DURATION", help="Too late after this: 30s, 15m, 2h.")
@click.option("--reference", metavar="TYPE:ID", help="The app's own reference, to find it by.")
@click.option("--metadata", metavar="JSON", help="An object that is kept with the call.")
@click.option(
    "--on-uncertain",
    type=click.Choice(["hold", "repeat"]),
    help="What to do if nobody can tell whether it arrived.",
)
@click.option(
    "--wait",
    "wait_s",
    metavar="[SECONDS]",
    type=click.FloatRange(min=0, max=86_400),
    help=f"Wait until it has been attempted; {DEFAULT_WAIT_S} seconds if you do not say.",
)
@click.option("--idempotency-key", metavar="KEY", help="Make repeating this command safe.")
@with_session
def send(
    session: Session,
    operation: str,
    items: Sequence[str],
    wait_s: float | None,
    idempotency_key: str | None,
    **options: Any,
) -> None:
    r"""Hand the call OPERATION to the daemon, which keeps and delivers it.

    The payload is JSON, from the command line, a file or standard input, or KEY=VALUE for each
    text and KEY:=JSON for each other value:

    \b
      integrationd send sms.send to=+254711000111 message="Hello"
      integrationd send http.request method=POST path=/orders json:='{"id": 7}' --wait
    """
    members = Options(**options).members(session.terminal.zone)
    body = _encoded({"operation": operation, "payload": read_payload(items), **members})
    answer = _accepted(session, body, _headers(idempotency_key), wait_s or 0)
    session.show(answer, lambda view: _told(view, answer, session))
    if wait_s is not None:
        click.get_current_context().exit(_ENDS.get(str(answer.value.get("state")), Exit.CALL_OPEN))


def _accepted(session: Session, body: bytes, headers: Mapping[str, str], wait_s: float) -> Answer:
    """Hand the call over, and wait in turns, since the daemon lets nobody wait for very long."""
    clock = session.terminal.clock
    deadline = clock.monotonic() + wait_s
    turn_s = _turn_s(wait_s)
    began = clock.monotonic()
    try:
        answer = session.daemon.post("/v1/calls", body, headers=headers, wait_s=turn_s)
    except UnreachableError as error:
        if error.sent:
            raise _perhaps_accepted(error, headers) from error
        raise
    # An answer that comes early although nothing has happened means: do not wait any longer.
    while _is_open(answer) and clock.monotonic() - began > turn_s - 1:
        turn_s, began = _turn_s(deadline - clock.monotonic()), clock.monotonic()
        if turn_s <= 0:
            break
        try:
            answer = session.daemon.get(call_path(str(answer.value.get("id"))), wait_s=turn_s)
        except UnreachableError as error:
            session.terminal.note(f"The call is kept, but {error.message}.")
            break
    return answer


def _turn_s(left_s: float) -> int:
    return min(math.ceil(left_s), LONGEST_WAIT_S)


def _is_open(answer: Answer) -> bool:
    return answer.value.get("state") in _OPEN


def _perhaps_accepted(error: UnreachableError, headers: Mapping[str, str]) -> UnreachableError:
    hint = "Look with 'integrationd calls' before you repeat it; --idempotency-key makes that safe."
    if headers:
        hint = "Repeat it with the same --idempotency-key; it is accepted once."
    told = f"{error.message}; it is not known whether the call was accepted"
    return UnreachableError(told, hint=hint, sent=True)


def _told(view: Mapping[str, Any], answer: Answer, session: Session) -> str:
    lines = [stands(view, session.terminal.times())]
    if answer.headers.get("Idempotency-Replayed") == "true":
        lines.append("It was accepted before, with the same idempotency key.")
    if answer.value.get("result") is not None:
        lines.append(f"Result: {one_line_json(answer.value['result'], _RESULT_SHOWN)}")
    return "\n".join(lines)


def _encoded(request: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(request)
    except UnicodeEncodeError as error:
        raise click.UsageError("an argument is not UTF-8 text") from error


def _headers(key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if not key or len(key) > 255 or not (key.isascii() and key.isprintable()):
        raise click.BadParameter(
            "must be 1 to 255 printable ASCII characters", param_hint="'--idempotency-key'"
        )
    return {"Idempotency-Key": key}


def _moment(text: str | None, zone: dt.tzinfo | None) -> str | None:
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
        local = moment.replace(tzinfo=zone) if moment.tzinfo is None else moment
        return local.astimezone(dt.UTC).isoformat()
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            "must be a time such as 2026-01-31T14:00 or 2026-01-31T11:00Z",
            param_hint="'--not-before'",
        ) from error


def _duration(text: str | None) -> float | None:
    if text is None:
        return None
    from integrationd.settings.units import parse_duration  # noqa: PLC0415 - slow, rarely needed

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--expires-in'") from error


def _reference(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    kind, ident = split_reference(text)
    return {"type": kind, "id": ident}
