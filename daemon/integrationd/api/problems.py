"""Errors as RFC 9457 problem details, the same shape everywhere."""

from http import HTTPStatus

import msgspec

from integrationd.api.ports import ConfigProblem
from integrationd.errors import (
    DamagedError,
    IntegrationdError,
    JournalError,
    JournalFullError,
    RequestError,
    TooManyError,
)

CONTENT_TYPE = "application/problem+json"
_RETRY_AFTER_S = 5
_DETAIL_LIMIT = 1000
_encode = msgspec.json.Encoder().encode


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is wrong, for programs and for the person who has to mend it.

    Attributes:
        title: The status in words.
        status: The HTTP status.
        code: A stable machine word.
        detail: What is wrong.
        hint: What to do about it.
        pointer: JSON pointer to the member at fault.
        retry_after_s: Seconds after which repeating makes sense; sent as ``Retry-After`` too.
        problems: Where several things are wrong, each of them.
    """

    title: str
    status: int
    code: str
    detail: str
    hint: str = ""
    pointer: str = ""
    retry_after_s: int = 0
    problems: tuple[ConfigProblem, ...] = ()

    def body(self) -> bytes:
        """Return the problem as JSON."""
        return _encode({"type": "about:blank", **msgspec.to_builtins(self)})

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that go with the body."""
        fields = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", str(len(self.body())).encode()),
        ]
        if self.retry_after_s:
            fields.append((b"retry-after", str(self.retry_after_s).encode()))
        if self.status == HTTPStatus.UNAUTHORIZED:
            fields.append((b"www-authenticate", b"Bearer"))
        return fields


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str = "",
    pointer: str = "",
    retry_after_s: int = 0,
    problems: tuple[ConfigProblem, ...] = (),
) -> Problem:
    """Return a problem with its status put in words."""
    return Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=_shortened(detail),
        hint=hint,
        pointer=pointer,
        retry_after_s=retry_after_s,
        problems=problems,
    )


def _shortened(text: str) -> str:
    """Cut what repeats an endless part of the request."""
    return text if len(text) <= _DETAIL_LIMIT else f"{text[: _DETAIL_LIMIT - 1]}…"


def problem_of(error: Exception) -> Problem:
    """Turn an error into the problem that its caller sees; what is unexpected stays unnamed."""
    if isinstance(error, RequestError):
        return problem(
            error.status,
            error.error_code,
            str(error),
            hint=error.hint,
            pointer=error.pointer,
            retry_after_s=error.retry_after_s if isinstance(error, TooManyError) else 0,
        )
    if isinstance(error, JournalFullError):
        return problem(507, error.code, str(error), hint=error.hint, retry_after_s=_RETRY_AFTER_S)
    if isinstance(error, DamagedError):
        return problem(500, error.code, str(error), hint=error.hint)
    if isinstance(error, JournalError):
        return problem(503, error.code, str(error), hint=error.hint, retry_after_s=_RETRY_AFTER_S)
    if isinstance(error, IntegrationdError):
        return problem(500, error.code, str(error), hint=error.hint)
    return problem(
        500, "internal", "The daemon failed to answer.", hint="The log says what happened."
    )
