"""The API's client: one request, one answer, and every fault told in words."""

import dataclasses
import errno
import json
import os
import socket
from collections.abc import Iterator, Mapping
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click
import httpx2

from integrationd.cli.exits import CommandError, Exit
from integrationd.cli.render import cleaned
from integrationd.client.address import CONNECT_TIMEOUT_S, Address

ANSWER_TIMEOUT_S = 30.0
LONGEST_WAIT_S = 60
# A stream shows a sign of life more often than this.
SILENCE_S = 60.0

_START = "Start it with 'integrationd run', or say where it listens with --socket or --url."
_SOCKET_REASONS = {
    errno.ENOENT: ("there is no socket {}", _START),
    errno.ECONNREFUSED: ("nothing listens on the socket {}", _START),
    errno.EACCES: (
        "you may not use the socket {}",
        "Run this as the daemon's user, or join the group that owns the socket.",
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What the daemon answered.

    Attributes:
        status: The HTTP status.
        headers: The response headers, names in any case.
        body: The JSON as it came.
        value: The same, decoded.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    value: dict[str, Any]

    @cached_property
    def shown(self) -> dict[str, Any]:
        """The value with all texts made safe to print."""
        shown: dict[str, Any] = cleaned(self.value)
        return shown


class ProblemError(CommandError):
    """The daemon answered with an error.

    Attributes:
        body: The JSON that says which.
        problem: The same, decoded.
    """

    def __init__(self, status: int, body: bytes, problem: Mapping[str, Any]) -> None:
        told = str(problem.get("detail") or problem.get("title") or f"status {status}")
        pointer = problem.get("pointer")
        super().__init__(
            f"{told} (at {pointer})" if pointer else told, hint=str(problem.get("hint") or "")
        )
        self.body = body
        self.problem = problem


class UnreachableError(CommandError):
    """The daemon cannot be reached, or broke off.

    Attributes:
        sent: Whether the request may have arrived all the same.
    """

    def __init__(self, message: str, *, hint: str, sent: bool) -> None:
        super().__init__(message, hint=hint, code=Exit.UNREACHABLE)
        self.sent = sent


class Daemon:
    """A daemon that answers requests; use it as a context manager.

    Args:
        address: Where it listens.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._client = _client(address)

    def __enter__(self) -> Self:
        if self._address.socket is not None:
            self._knock(self._address.socket)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def _knock(self, path: Path) -> None:
        """See whether anybody listens, which tells the reason more exactly than a request."""
        try:
            with socket.socket(socket.AF_UNIX) as knocking:
                knocking.settimeout(CONNECT_TIMEOUT_S)
                knocking.connect(str(path))
        except (OSError, ValueError) as error:
            self._client.close()
            raise _not_reached(self._address, error) from error

    def get(self, path: str, params: Mapping[str, str] | None = None, *, wait_s: int = 0) -> Answer:
        """Ask for something, and have the daemon wait for a call at most ``wait_s`` seconds.

        Raises:
            CommandError: There is no answer, or it is an error.
        """
        return self._request("GET", path, params=params, headers=_prefer(wait_s))

    def post(
        self,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        wait_s: int = 0,
    ) -> Answer:
        """Have something done.

        Raises:
            CommandError: There is no answer, or it is an error.
        """
        kind = {"Content-Type": "application/json"} if body else {}
        fields = {**kind, **(headers or {}), **_prefer(wait_s)}
        return self._request("POST", path, content=body, headers=fields)

    def put(self, path: str, body: bytes) -> Answer:
        """Put something in its place.

        Raises:
            CommandError: There is no answer, or it is an error.
        """
        headers = {"Content-Type": "application/json"}
        return self._request("PUT", path, content=body, headers=headers)

    def delete(self, path: str) -> Answer:
        """Call something off.

        Raises:
            CommandError: There is no answer, or it is an error.
        """
        return self._request("DELETE", path)

    def lines(
        self, path: str, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> Iterator[str]:
        """Yield an answer line by line, for as long as the daemon goes on.

        Raises:
            CommandError: There is no answer, it is an error, or it breaks off.
        """
        patience = httpx2.Timeout(SILENCE_S, connect=CONNECT_TIMEOUT_S)
        try:
            with self._client.stream(
                "GET", path, params=params, headers=headers, timeout=patience
            ) as response:
                if response.status_code != HTTPStatus.OK:
                    response.read()
                    _answer(self._address, response)
                yield from response.iter_lines()
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise _not_reached(self._address, error) from error
        except httpx2.RequestError as error:
            raise _broken_off(f"{self._address} broke off: {error}") from error

    def _request(self, method: str, path: str, **request: Any) -> Answer:
        try:
            response = self._client.request(method, path, **request)
        except UnicodeEncodeError as error:
            raise click.UsageError("an argument is not UTF-8 text") from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise _not_reached(self._address, error) from error
        except httpx2.TimeoutException as error:
            raise _broken_off(f"{self._address} did not answer in time") from error
        except httpx2.RequestError as error:
            raise _broken_off(f"{self._address} broke off: {error}") from error
        return _answer(self._address, response)


def _client(address: Address) -> httpx2.Client:
    uds = address.transport_settings()
    transport = None if uds is None else httpx2.HTTPTransport(**uds)
    # Longer than the longest wait, since the daemon itself ends that with an answer.
    settings = address.settings(LONGEST_WAIT_S + ANSWER_TIMEOUT_S)
    return httpx2.Client(transport=transport, **settings)


def _prefer(wait_s: int) -> dict[str, str]:
    return {"Prefer": f"wait={min(wait_s, LONGEST_WAIT_S)}"} if wait_s else {}


def _answer(address: Address, response: httpx2.Response) -> Answer:
    try:
        value = json.loads(response.content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or response.status_code // 100 not in (2, 4, 5):
        raise CommandError(
            f"{address} answered with status {response.status_code}, but not as integrationd does",
            hint="Something else seems to listen there; check --socket or --url.",
        )
    if response.status_code >= 400:
        raise ProblemError(response.status_code, response.content, value)
    return Answer(
        status=response.status_code,
        headers=response.headers,
        body=response.content,
        value=value,
    )


def _not_reached(address: Address, error: Exception) -> UnreachableError:
    cause = _system_error(error)
    number = cause.errno or 0 if cause else 0
    if address.socket is not None and number in _SOCKET_REASONS:
        told, hint = _SOCKET_REASONS[number]
        return UnreachableError(
            f"the daemon cannot be reached: {told.format(address.socket)}", hint=hint, sent=False
        )
    reason = os.strerror(number).lower() if number > 0 else str(error) or "no answer in time"
    return UnreachableError(
        f"the daemon cannot be reached at {address}: {reason}", hint=_START, sent=False
    )


def _system_error(error: BaseException | None) -> OSError | None:
    """Return what the operating system said, however deep the library has wrapped it."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _broken_off(message: str) -> UnreachableError:
    return UnreachableError(message, hint="The daemon's log may say why.", sent=True)
