"""How Stripe is spoken to: its forms, its headers, and what its errors mean for a send."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import urlencode

import httpx2
import msgspec

from integrationd.sdk import (
    Context,
    OutcomeError,
    Rejected,
    Retryable,
    Throttled,
    Uncertain,
    classify,
)

Json: TypeAlias = dict[str, Any]
Failure: TypeAlias = Rejected | Retryable | Throttled | Uncertain

FORM = "application/x-www-form-urlencoded"

# What these refuse is a repeat; the request before it has arrived.
_IN_DOUBT: Mapping[str, str] = {
    "idempotency_key_in_use": "the request before it, with the same key, is still under way",
    "idempotency_error": "a request with the same key but other parameters came before it",
}
_REASONS: Mapping[int, str] = {401: "bad_credentials", 403: "permission_missing"}


def form_of(params: Mapping[str, Any]) -> str:
    """Write parameters as Stripe reads them: ``a[b]=v``, ``a[0]=v``, ``true``, nulls left out."""
    pairs = urlencode(list(_flattened(params)))
    return pairs.replace("%5B", "[").replace("%5D", "]")


class Wire:
    """Makes the requests of one connection.

    Args:
        headers: What every request carries.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)

    async def get(
        self, ctx: Context, path: str, params: Mapping[str, Any] | None = None
    ) -> Json | Failure:
        """Read something."""
        return await self._ask(ctx, "GET", path, params)

    async def delete(self, ctx: Context, path: str, params: Mapping[str, Any]) -> Json | Failure:
        """Delete something, which needs no key: it can be done only once."""
        return await self._ask(ctx, "DELETE", path, params)

    async def post(
        self, ctx: Context, path: str, params: Mapping[str, Any], *, with_key: bool = True
    ) -> Json | Failure:
        """Do something, under the call's idempotency key unless it can be done only once."""
        headers = self._headers | {"Content-Type": FORM}
        if with_key:
            headers["Idempotency-Key"] = ctx.idempotency_key
        response = await ctx.http.post(path, content=form_of(params).encode(), headers=headers)
        return _read(response, ctx)

    async def known(self, ctx: Context, path: str, params: Mapping[str, Any] | None = None) -> Json:
        """Read something for a query.

        Raises:
            OutcomeError: Nothing could be learnt.
        """
        told = await self.get(ctx, path, params)
        if isinstance(told, dict):
            return told
        raise OutcomeError(told)

    async def _ask(
        self, ctx: Context, method: str, path: str, params: Mapping[str, Any] | None
    ) -> Json | Failure:
        url = f"{path}?{form_of(params)}" if params else path
        return _read(await ctx.http.request(method, url, headers=self._headers), ctx)


def _flattened(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        match value:
            case None:
                continue
            case bool():
                yield name, "true" if value else "false"
            case Mapping():
                yield from _flattened({f"{name}[{key}]": one for key, one in value.items()})
            case Sequence() if not isinstance(value, str):
                yield from _flattened({f"{name}[{at}]": one for at, one in enumerate(value)})
            case _:
                yield name, value


def _read(response: httpx2.Response, ctx: Context) -> Json | Failure:
    """Return the object that Stripe answered with, or what its answer means otherwise."""
    failure = failure_of(response, ctx.clock.now_ms())
    if failure is not None:
        return failure
    told = _object(response.content)
    if told is None or not isinstance(told.get("object"), str):
        said = classify.excerpt(response.content) or "nothing"
        return Uncertain(
            reason="unreadable_reply",
            detail=f"Stripe answered {response.status_code} and what cannot be read: {said}",
        )
    return told


def failure_of(response: httpx2.Response, now_ms: int) -> Failure | None:
    """Say what a status means; None for 2xx.

    A 5xx proves nothing, since Stripe may have acted before it failed, and answers the same key
    with the same 5xx again. A key that is in use, or was used with other parameters, proves that
    an earlier request has arrived.
    """
    plain = classify.of_status(response, now_ms)
    if plain is None or response.status_code < 400:
        return plain
    error = _error(response)
    reason, detail = _reason(error, response.status_code), _detail(error, response)
    if reason in _IN_DOUBT:
        return Uncertain(reason=reason, detail=f"{detail}; {_IN_DOUBT[reason]}.")
    if response.status_code >= 500:
        return Uncertain(reason=reason, detail=detail)
    if isinstance(plain, Throttled):
        return Throttled(wait_s=plain.wait_s, detail=detail)
    if _may_retry(response):
        wait_s = classify.retry_after_s(response.headers.get("Retry-After", ""), now_ms)
        return Retryable(reason=reason, detail=detail, wait_s=wait_s)
    if reason == "bad_credentials":
        detail = f"{detail} Check secret_key of the connection: it may be of another account."
    return Rejected(reason=reason, detail=detail)


def _may_retry(response: httpx2.Response) -> bool:
    """Say whether a refusal is only for now; what Stripe itself says of it goes first."""
    advice = response.headers.get("Stripe-Should-Retry")
    if advice in ("true", "false"):
        return bool(advice == "true")
    return response.status_code in (408, 409)


def _reason(error: Mapping[str, str], status: int) -> str:
    for name in ("code", "type"):
        if error.get(name) in _IN_DOUBT:
            return error[name]
    if status in _REASONS:
        return _REASONS[status]
    return error.get("decline_code") or error.get("code") or f"http_{status}"


def _detail(error: Mapping[str, str], response: httpx2.Response) -> str:
    said = error.get("message") or classify.excerpt(response.content) or "gave no reason"
    about = {
        "parameter": error.get("param"),
        "limit": response.headers.get("Stripe-Rate-Limited-Reason"),
        "request": response.headers.get("Request-Id"),
    }
    more = ", ".join(f"{name} {value}" for name, value in about.items() if value)
    told = f"Stripe answered {response.status_code}: {said}"
    return f"{told} ({more})" if more else told


def _error(response: httpx2.Response) -> dict[str, str]:
    """Return what an error says in words."""
    told = _object(response.content)
    error = told.get("error") if told else None
    if not isinstance(error, dict):
        return {}
    return {name: word for name, word in error.items() if isinstance(word, str) and word}


def _object(content: bytes) -> Json | None:
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
