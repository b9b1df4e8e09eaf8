"""What can go wrong when the daemon is asked for something, as one tree.

ClientError
├── UnreachableError        no answer came, for as long as it was tried
├── UnexpectedAnswerError   what answers there is not integrationd
└── ProblemError            the daemon answered with a problem
    ├── InvalidError        the request cannot be carried out as it is
    ├── AccessError         the caller may not do this
    ├── NotFoundError       there is no such thing
    ├── ConflictError       the state of the thing does not allow it
    ├── BusyError           not now; it was tried for as long as the client's patience lasts
    └── NoAnswerError       the provider did not answer what was asked of it in time
"""

from http import HTTPStatus

import msgspec


class ClientError(Exception):
    """Base of all errors of the client."""


class UnreachableError(ClientError):
    """The daemon cannot be reached, or broke off, for as long as it was tried.

    Attributes:
        maybe_arrived: Whether the request may have been carried out all the same.
        idempotency_key: The key that it carried; sending it again with this key is safe.
    """

    def __init__(
        self, message: str, *, maybe_arrived: bool, idempotency_key: str | None = None
    ) -> None:
        super().__init__(message)
        self.maybe_arrived = maybe_arrived
        self.idempotency_key = idempotency_key


class UnexpectedAnswerError(ClientError):
    """What answers at this address does not answer as integrationd does."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, as the daemon tells it (RFC 9457).

    Attributes:
        title: The status in words.
        status: The HTTP status.
        code: A stable machine word.
        detail: What is wrong.
        hint: What to do about it.
        pointer: JSON pointer to the member at fault.
        retry_after_s: Seconds after which repeating makes sense; 0 where it does not.
    """

    title: str
    status: int
    code: str
    detail: str
    hint: str = ""
    pointer: str = ""
    retry_after_s: int = 0


class ProblemError(ClientError):
    """The daemon answered with a problem.

    Attributes:
        problem: What is wrong.
        idempotency_key: The key that the request carried, if any.
    """

    def __init__(self, problem: Problem, idempotency_key: str | None = None) -> None:
        place = f" (at {problem.pointer})" if problem.pointer else ""
        hint = f" {problem.hint}" if problem.hint else ""
        super().__init__(f"{problem.status} {problem.code}: {problem.detail}{place}.{hint}")
        self.problem = problem
        self.idempotency_key = idempotency_key

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def code(self) -> str:
        """The stable machine word."""
        return self.problem.code


class InvalidError(ProblemError):
    """The request cannot be carried out as it is; repeating it changes nothing."""


class AccessError(ProblemError):
    """The caller is not known, or may not do this."""


class NotFoundError(ProblemError):
    """There is no such thing, or none that this caller may see."""


class ConflictError(ProblemError):
    """The thing is in a state that does not allow this."""


class GoneError(ProblemError):
    """What was asked for is not kept any more, such as events after a long absence."""


class BusyError(ProblemError):
    """The daemon takes no such work at the moment; nothing was kept, unless the code says so."""


class NoAnswerError(ProblemError):
    """The provider did not answer in time what was only asked of it; nothing was changed."""


_KINDS: dict[int, type[ProblemError]] = {
    HTTPStatus.UNAUTHORIZED: AccessError,
    HTTPStatus.FORBIDDEN: AccessError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.CONFLICT: ConflictError,
    HTTPStatus.GONE: GoneError,
    HTTPStatus.TOO_MANY_REQUESTS: BusyError,
    HTTPStatus.SERVICE_UNAVAILABLE: BusyError,
    HTTPStatus.INSUFFICIENT_STORAGE: BusyError,
    HTTPStatus.GATEWAY_TIMEOUT: NoAnswerError,
}


def error_of(status: int, body: bytes, idempotency_key: str | None = None) -> ClientError:
    """Return the error that an answer with a status above 399 tells of."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return UnexpectedAnswerError(
            f"status {status}, but not as integrationd answers; something else seems to listen"
        )
    kind = _KINDS.get(status, InvalidError if status < 500 else ProblemError)
    return kind(problem, idempotency_key)
