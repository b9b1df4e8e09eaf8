"""The exchanges about a call, each told in a sentence."""

from collections.abc import Iterator, Mapping
from typing import Any

from integrationd.cli.render import COLOURS, Times, paint, span

_SENDS = {
    "delivered": ("it was delivered", "done"),
    "partial": ("it was delivered to some of its recipients", "attention"),
    "accepted": ("the provider took it on, its effect is still open", "waiting"),
    "rejected": ("the provider refused it", "failed"),
    "throttled": ("the provider asked to slow down", "pending"),
    "retryable": ("it failed and may be tried again", "pending"),
    "uncertain": ("nobody can tell whether it arrived", "unknown"),
}
_QUERIES = {
    "done": ("the provider says that it is done", "done"),
    "refused": ("the provider says that it was refused", "failed"),
    "pending": ("the provider says that it is still open", "waiting"),
    "never_happened": ("the provider proves that it never arrived", "pending"),
    "cannot_tell": ("the provider could not tell", "unknown"),
}


def exchanges(call: Mapping[str, Any], times: Times) -> Iterator[str]:
    """Yield a sentence for each exchange in the call's ``attempt_log``, oldest first."""
    log = call.get("attempt_log") or []
    if not log:
        yield "Nothing yet: it has not been attempted."
        return
    if int(call.get("tries") or 0) + int(call.get("queries") or 0) > len(log):
        yield "(earlier exchanges are not shown)"
    for attempt in log:
        yield _sentence(attempt, times)
        yield from (f"  {line}" for line in _because(attempt))


def _sentence(attempt: Mapping[str, Any], times: Times) -> str:
    is_query = attempt.get("kind") == "query"
    what = "Query" if is_query else "Send"
    took = span(float(attempt.get("duration_ms") or 0) / 1000)
    return (
        f"{what} {attempt.get('number')}, {times.at(attempt.get('started_at'))}, "
        f"through {attempt.get('connection')} ({attempt.get('provider')}): "
        f"after {took} {_outcome(attempt, is_query=is_query)}{_status(attempt)}."
    )


def _outcome(attempt: Mapping[str, Any], *, is_query: bool) -> str:
    name = str(attempt.get("outcome"))
    if name == "retryable" and not attempt.get("sent"):
        return paint("it failed before anything had left this machine", "pending")
    words, state = (_QUERIES if is_query else _SENDS).get(name, (name, ""))
    return paint(words, state) if state in COLOURS else words


def _status(attempt: Mapping[str, Any]) -> str:
    code = attempt.get("status_code")
    return f" (HTTP {code})" if code else ""


def _because(attempt: Mapping[str, Any]) -> Iterator[str]:
    told = ": ".join(str(attempt[name]) for name in ("reason", "detail") if attempt.get(name))
    if told:
        yield f"Why: {told}"
    if attempt.get("rule"):
        yield f"Rule applied: {attempt['rule']}."
