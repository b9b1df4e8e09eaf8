"""What an HTTP exchange came to: exceptions and statuses as outcomes, in one place for all plugins.

The question is always whether the request could have arrived. A plugin lets httpx2's exceptions
pass; the daemon asks :func:`of_error` about them.
"""

import datetime as dt
import email.utils
import re
import socket
import ssl
from collections.abc import Iterator
from typing import TypeAlias, assert_never

import httpx2

from integrationd.sdk.framing import BrokenReplyError, ReplyTooLargeError
from integrationd.sdk.outcome import (
    CannotTell,
    Rejected,
    Retryable,
    Throttled,
    Uncertain,
)
from integrationd.sdk.target import TargetRefusedError

Failure: TypeAlias = Rejected | Retryable | Throttled | Uncertain

MAX_RETRY_AFTER_S = 3600.0
MAX_EXCERPT_CHARACTERS = 200

_DELTA_SECONDS = re.compile(r"\d{1,18}(?:\.\d{1,9})?")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\s]+")


def of_error(error: Exception, now_ms: int | None = None) -> Failure:
    """Say what an exception of a send means.

    Args:
        error: What the HTTP client, or the plugin itself, raised.
        now_ms: UTC milliseconds, for an error that carries a ``Retry-After`` date.
    """
    match error:
        case TargetRefusedError():
            return Rejected(reason="target_refused", detail=str(error))
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol() | httpx2.LocalProtocolError():
            return Rejected(reason="invalid_request", detail=f"Not sent: {error}.")
        case httpx2.HTTPStatusError():
            return of_status(error.response, now_ms) or _unexpected(error)
        case BrokenReplyError() | ReplyTooLargeError():
            return _of_broken_reply(error)
        case _:
            return _never_left(error) or _may_have_arrived(error)


def of_status(response: httpx2.Response, now_ms: int | None) -> Failure | None:
    """Say what a status means; None for 2xx, which the plugin reads itself.

    Args:
        response: The response, its body read.
        now_ms: UTC milliseconds, against which a ``Retry-After`` date is held.
    """
    if response.is_success:
        return None
    if 300 <= response.status_code < 400:
        return _redirected(response)
    wait_s = retry_after_s(response.headers.get("Retry-After", ""), now_ms)
    return _of_code(response.status_code, wait_s, excerpt(response.content))


def finding_of_error(error: Exception) -> CannotTell:
    """Say what an exception of a query means: whatever it is, nothing was learnt."""
    match of_error(error):
        case Rejected() | Retryable() | Uncertain() as outcome:
            return CannotTell(reason=outcome.reason, detail=outcome.detail)
        case Throttled() as outcome:
            return CannotTell(reason="throttled", detail=outcome.detail)
        case outcome:
            assert_never(outcome)


def retry_after_s(value: str, now_ms: int | None) -> float | None:
    """Read a ``Retry-After`` header.

    Args:
        value: Seconds or an HTTP date in any of its three forms.
        now_ms: UTC milliseconds; without it dates are not understood.

    Returns:
        Seconds from now, between 0 and one hour, or None if it says nothing usable.
    """
    value = value.strip()
    if value.isascii() and _DELTA_SECONDS.fullmatch(value):
        return min(float(value), MAX_RETRY_AFTER_S)
    at = None if now_ms is None else _http_date(value)
    if at is None or now_ms is None:
        return None
    return min(max(at.timestamp() - now_ms / 1000, 0.0), MAX_RETRY_AFTER_S)


def excerpt(body: bytes) -> str:
    """Return the beginning of a body as one printable line."""
    text = body[: MAX_EXCERPT_CHARACTERS * 4].decode("utf-8", "replace")
    line = _UNPRINTABLE.sub(" ", text).strip()
    if len(line) <= MAX_EXCERPT_CHARACTERS:
        return line
    return f"{line[: MAX_EXCERPT_CHARACTERS - 1]}…"


def _of_code(status: int, wait_s: float | None, said: str) -> Failure:
    """Turn a status other than 2xx and 3xx into an outcome."""
    detail = f"The provider answered {status} ({_phrase(status)})" + (f": {said}" if said else ".")
    match status:
        case 408:
            return Retryable(reason="http_408", detail=detail, wait_s=wait_s)
        case 425 | 429:
            return Throttled(wait_s=wait_s, detail=detail)
        case 503:
            return Retryable(reason="http_503", detail=detail, wait_s=wait_s)
        case _ if 400 <= status < 500:
            return Rejected(reason=f"http_{status}", detail=detail)
        case _:
            return Uncertain(reason=f"http_{status}", detail=detail)


def _redirected(response: httpx2.Response) -> Rejected:
    status = response.status_code
    return Rejected(
        reason=f"http_{status}",
        detail=(
            f"The provider answered {status} ({_phrase(status)}) and pointed to "
            f"{_location_host(response)}; redirects are not followed. If that is where requests "
            "belong, set it as the connection's base_url."
        ),
    )


def _location_host(response: httpx2.Response) -> str:
    """Return where a redirect points to, without path and query, which may hold secrets."""
    location = response.headers.get("Location", "")
    if not location:
        return "nowhere"
    try:
        url = httpx2.URL(location)
    except (httpx2.InvalidURL, ValueError):
        return "an address that is none"
    return excerpt(url.host.encode()) or "another path of the same host"


def _of_broken_reply(error: BrokenReplyError | ReplyTooLargeError) -> Failure:
    """Go by the status if it was seen and says no; a broken 2xx or 3xx stays uncertain."""
    if error.status is not None and error.status >= 400:
        return _of_code(error.status, None, f"{error}")
    reason = "reply_too_large" if isinstance(error, ReplyTooLargeError) else error.reason
    return Uncertain(reason=reason, detail=f"The request was sent, but {error}.")


def _never_left(error: Exception) -> Retryable | None:
    match error:
        case httpx2.ConnectTimeout():
            reason = "connect_timeout"
        case httpx2.PoolTimeout():
            reason = "no_free_connection"
        case httpx2.ProxyError():
            reason = "proxy_failure"
        case httpx2.ConnectError():
            reason = _connect_failure(error)
        case _:
            return None
    return Retryable(reason=reason, detail=f"Not sent: {error}.", sent=False)


def _connect_failure(error: httpx2.ConnectError) -> str:
    for cause in _causes(error):
        match cause:
            case socket.gaierror() | UnicodeError():
                return "dns_failure"
            case ssl.SSLError():
                return "tls_failure"
            case ConnectionRefusedError():
                return "connection_refused"
            case _:
                continue
    return "connect_failure"


def _may_have_arrived(error: Exception) -> Uncertain:
    match error:
        case httpx2.ReadTimeout() | httpx2.WriteTimeout() | TimeoutError():
            reason = "timeout"
        case httpx2.DecodingError():
            reason = "unreadable_reply"
        case httpx2.RemoteProtocolError():
            reason = "garbled_reply"
        case httpx2.NetworkError() | ConnectionError():
            reason = "connection_lost"
        case _:
            return _unexpected(error)
    return Uncertain(reason=reason, detail=f"The request was sent, but {_text(error)}.")


def _unexpected(error: Exception) -> Uncertain:
    return Uncertain(reason="unexpected_error", detail=f"{type(error).__name__}: {_text(error)}")


def _text(error: Exception) -> str:
    return str(error) or "the time was up"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what caused an error, the nearest cause first."""
    seen: set[int] = set()
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _http_date(value: str) -> dt.datetime | None:
    try:
        at = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)


def _phrase(status: int) -> str:
    return httpx2.codes.get_reason_phrase(status) or "no known status"
