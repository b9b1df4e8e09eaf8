"""Refusals of the server itself, before any route has seen the request."""

from collections.abc import Iterable
from http import HTTPStatus

from integrationd.api.body import too_large
from integrationd.api.problems import Problem, problem, problem_of

_ALLOW = (b"allow", b"DELETE, GET, HEAD, OPTIONS, POST, PUT")


class RefusedError(Exception):
    """A request is not served; ``problem`` says why."""

    def __init__(self, told: Problem) -> None:
        super().__init__(told.detail)
        self.problem = told


def body_too_large(limit: int) -> Problem:
    """Return the refusal of a body over ``limit`` bytes."""
    return problem_of(too_large(limit))


def too_long(status: int, what: str, limit: int, unit: str) -> Problem:
    """Return the refusal of a request line or headers over a limit."""
    return problem(
        status, "request_too_long", f"the {what} is over {limit} {unit}", hint="Send less of it."
    )


def too_slow(part: str, seconds: float) -> Problem:
    """Return the refusal of a request that did not arrive in time."""
    return problem(
        408,
        "request_timeout",
        f"the request's {part} did not arrive within {seconds:g} s",
        hint="Send the request again, in one go.",
    )


def malformed(error: Exception) -> Problem:
    """Return the refusal of what the parser cannot read."""
    return problem(400, "malformed_request", f"this is not a valid HTTP/1.1 request: {error}")


def as_response(told: Problem, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a refusal as the last response of its connection."""
    fields = [*default_headers, *told.headers(), (b"connection", b"close")]
    if told.status == HTTPStatus.METHOD_NOT_ALLOWED:
        fields.append(_ALLOW)
    lines = [f"HTTP/1.1 {told.status} {told.title}".encode()]
    lines += [name + b": " + value for name, value in fields]
    return b"\r\n".join([*lines, b"", told.body()])


METHOD_REFUSED = problem(405, "method_not_allowed", "TRACE and CONNECT are not possible here")
UPGRADE_REFUSED = problem(
    400, "no_upgrade", "this server speaks HTTP/1.1 only", hint="Leave the Upgrade header out."
)
TARGET_REFUSED = problem(400, "malformed_request", "the request target cannot be read")
VERSION_REFUSED = problem(400, "http_version", "this server speaks HTTP/1.1 only")
ENCODING_REFUSED = problem(
    400,
    "transfer_encoding",
    "no transfer encoding but chunked is understood",
    hint="Send the body as it is, with a Content-Length.",
)
PIPELINE_FULL = problem(
    429,
    "pipeline_full",
    "too many requests were sent on one connection without waiting for their answers",
    hint="Read the answers first, then send this and the following requests again.",
)
TOO_MANY_CONNECTIONS = problem(
    503,
    "too_many_connections",
    "too many connections are open",
    hint="Close connections that are not needed, or wait a moment.",
    retry_after_s=1,
)
FAILED = problem(
    500, "internal", "The daemon failed to answer.", hint="The log says what happened."
)
