"""``explain``: the whole story of one call, in sentences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from integrationd.cli.exchanges import exchanges
from integrationd.cli.render import Times, one_line_json, paint
from integrationd.cli.session import Session, call_path, with_session

_JSON_SHOWN = 1000
_PARTS_SHOWN = 50
_FINAL = ("completed", "failed", "expired", "cancelled")


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(explain)


@click.command()
@click.argument("call_id", metavar="ID")
@click.option(
    "--acknowledge", is_flag=True, help="Take note of evidence against its state and clear it."
)
@with_session
def explain(session: Session, call_id: str, acknowledge: bool) -> None:
    """Tell what was asked, what was tried, where it stands and why, and what you can do."""
    path = call_path(call_id)
    if acknowledge:
        session.daemon.post(f"{path}/acknowledge")
    answer = session.daemon.get(path)
    times = session.terminal.times()
    session.show(answer, lambda view: "\n".join(_story(view, answer.value, times)))


def _story(call: Mapping[str, Any], raw: Mapping[str, Any], times: Times) -> Iterator[str]:
    """Yield the lines; ``raw`` is the same call, for what is shown as JSON."""
    yield from _asked(call, raw, times)
    yield from _section("What was tried", exchanges(call, times))
    yield from _section("What the provider sent", _words(call.get("webhooks") or [], times))
    yield from _section("Recipients", _parts(call.get("parts") or []))
    yield from _section("Where it stands", _stands(call, raw, times))
    yield from _section("What you can do", _next(call))


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    found = [f"  {line}" for line in lines]
    if found:
        yield from ("", click.style(title, bold=True), *found)


def _asked(call: Mapping[str, Any], raw: Mapping[str, Any], times: Times) -> Iterator[str]:
    yield f"Call {call.get('id')}: {call.get('operation')}, {paint(str(call.get('state')))}."
    yield (
        f"It was accepted {times.both(call.get('created_at'))} for tenant {call.get('tenant')}, "
        f"with {call.get('priority')} priority{_reference(call)}."
    )
    if "payload" in raw:
        yield f"What was asked: {one_line_json(raw['payload'], _JSON_SHOWN)}"
    if raw.get("metadata") is not None:
        yield f"Kept with it: {one_line_json(raw['metadata'], _JSON_SHOWN)}"


def _words(webhooks: Sequence[Mapping[str, Any]], times: Times) -> Iterator[str]:
    for one in webhooks:
        when, told = times.both(one.get("received_at")), one.get("note") or one.get("state")
        yield f"{when}: {told} (webhook {one.get('id')})"


def _reference(call: Mapping[str, Any]) -> str:
    reference = call.get("reference")
    if not reference:
        return ""
    return f" and the reference {reference.get('type')}:{reference.get('id')}"


def _parts(parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not parts:
        return
    states = [str(part.get("state")) for part in parts]
    counts = [f"{states.count(state)} {paint(state)}" for state in dict.fromkeys(states)]
    yield f"Of {len(parts)} recipients: {', '.join(counts)}."
    notable = [part for part in parts if part.get("state") != "done" or part.get("delivery")]
    yield from (_part(part) for part in notable[:_PARTS_SHOWN])
    if len(notable) > _PARTS_SHOWN:
        yield f"... and {len(notable) - _PARTS_SHOWN} more; --json lists them all."


def _part(part: Mapping[str, Any]) -> str:
    told = ", ".join(str(part[name]) for name in ("reason", "detail", "delivery") if part.get(name))
    line = f"{part.get('recipient')}: {paint(str(part.get('state')))}"
    return f"{line}, {told}" if told else line


def _stands(call: Mapping[str, Any], raw: Mapping[str, Any], times: Times) -> Iterator[str]:
    yield _state_sentence(call, times)
    if call.get("state") not in _FINAL:
        yield from _limits(call, times)
    if call.get("provider_reference"):
        yield f"The provider knows it as {call['provider_reference']}."
    if raw.get("result") is not None:
        yield f"Its result: {one_line_json(raw['result'], _JSON_SHOWN)}"
    if call.get("delivery"):
        yield f"A later receipt says: {call['delivery']}."
    if call.get("contradiction"):
        yield f"{paint('But evidence speaks against this:', 'failed')} {call['contradiction']}"


def _state_sentence(call: Mapping[str, Any], times: Times) -> str:
    state = str(call.get("state"))
    if state in _FINAL:
        told = call.get("detail") or call.get("reason")
        line = f"It is {paint(state)} since {times.both(call.get('finished_at'))}"
        return f"{line}: {told}" if told else f"{line}."
    line = f"It is {paint(state)}."
    if call.get("why"):
        line += f" {times.localised(str(call['why']))}"
    return f"{line} Until {times.both(call['until'])}." if call.get("until") else line


def _limits(call: Mapping[str, Any], times: Times) -> Iterator[str]:
    if call.get("state") not in ("pending", "processing"):
        return
    if call.get("expires_at"):
        yield f"A late effect would be a wrong one: it expires {times.both(call['expires_at'])}."
    yield f"Nothing more is tried after {times.both(call.get('gives_up_at'))}."


def _next(call: Mapping[str, Any]) -> Iterator[str]:
    ident, state = call.get("id"), call.get("state")
    if call.get("contradiction"):
        yield "Look it up at the provider; once that is done:"
        yield f"integrationd explain {ident} --acknowledge"
    match state:
        case "pending":
            yield f"Call it off: integrationd cancel {ident}"
        case "processing":
            yield "Nothing: the attempt is under way."
        case "waiting":
            yield "Nothing: it is settled when the provider tells."
        case "unknown":
            yield "Look it up at the provider, then say what became of it:"
            for resolution in ("done", "refused", "repeat"):
                yield f'integrationd resolve {ident} --as {resolution} --note "..."'
        case "failed" | "expired":
            yield f"Send it again: integrationd retry {ident}"
        case _:
            pass
