"""One request and what came of it, without the network: the words that plans and drivers share."""

import dataclasses
from collections.abc import Generator, Mapping
from typing import Any, TypeAlias, TypeVar

import httpx2

from integrationd.client.address import Address

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of the daemon.

    Attributes:
        method: The HTTP method.
        path: The path, quoted.
        params: The query.
        headers: The headers besides those of every request.
        body: JSON, or None.
        wait_s: Seconds for which the daemon may wait before it answers.
    """

    method: str
    path: str
    params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    headers: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    body: bytes | None = None
    wait_s: int = 0

    def arguments(self, timeout: httpx2.Timeout) -> dict[str, Any]:
        """Return what the HTTP client takes besides method and path."""
        headers = dict(self.headers)
        if self.body is not None:
            headers["Content-Type"] = b"application/json"
        if self.wait_s:
            headers["Prefer"] = b"wait=%d" % self.wait_s
        patient = httpx2.Timeout(timeout)
        patient.read = (timeout.read or 0.0) + self.wait_s
        return {
            "params": self.params,
            "headers": headers,
            "content": self.body,
            "timeout": patient,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What the daemon answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Lost:
    """No answer came.

    Attributes:
        reason: Why, in words.
        maybe_arrived: Whether the request may have been carried out all the same.
    """

    reason: str
    maybe_arrived: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is asked for so many seconds."""

    seconds: float


Step: TypeAlias = Request | Pause
Heard: TypeAlias = Reply | Lost | None
# A plan says what is to be done next, is told what came of it, and returns what was wanted.
Plan: TypeAlias = Generator[Step, Heard, _T]


def lost(address: Address, error: httpx2.RequestError) -> Lost:
    """Say what an exchange came to that ended without an answer."""
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return Lost(f"nothing takes connections at {address}: {_words(error)}", False)
    if isinstance(error, httpx2.TimeoutException):
        return Lost(f"{address} did not answer in time", True)
    return Lost(f"{address} broke off: {_words(error)}", True)


def reply_of(response: httpx2.Response) -> Reply:
    """Return an answer that was read."""
    return Reply(response.status_code, response.headers, response.content)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
