"""Replies: a status, headers and a body, sent as plain ASGI or returned to Starlette."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Send

from integrationd.api.problems import Problem

_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back.

    Attributes:
        status: The HTTP status.
        body: The body.
        headers: All headers, with content type and length.
    """

    status: int
    body: bytes
    headers: Sequence[tuple[bytes, bytes]]

    async def send(self, send: Send) -> None:
        """Send it as plain ASGI messages."""
        await send(
            {"type": "http.response.start", "status": self.status, "headers": list(self.headers)}
        )
        await send({"type": "http.response.body", "body": self.body})

    def as_response(self) -> Response:
        """Return it as a Starlette response."""
        response = Response(self.body, status_code=self.status)
        response.raw_headers = list(self.headers)
        return response


def json_reply(value: Any, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> Reply:
    """Return a value as JSON."""
    body = _encode(value)
    return Reply(status, body, (_JSON, (b"content-length", str(len(body)).encode()), *headers))


def problem_reply(problem: Problem) -> Reply:
    """Return a problem as ``application/problem+json``."""
    return Reply(problem.status, problem.body(), problem.headers())
