"""Answering a request by a route of ``/v1``: what is asked goes on, what is answered comes back."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from integrationd.api.replies import json_reply

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]
_Answer = TypeVar("_Answer")
_FIRST_REFUSAL = 300


async def passed_on(
    request: Request,
    endpoint: Endpoint,
    *,
    path: Mapping[str, str],
    query: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Response:
    """Return what a route of ``/v1`` answers to the same caller.

    Args:
        request: What was asked.
        endpoint: The route.
        path: The variables of its path.
        query: Its options; those of the request where None.
        body: Its body; that of the request where None.
    """
    scope = {**request.scope, "path_params": dict(path)}
    if query is not None:
        scope["query_string"] = urlencode(query).encode()

    async def receive() -> Message:
        return {"type": "http.request", "body": body or b"", "more_body": False}

    return await endpoint(Request(scope, request.receive if body is None else receive))


def is_refusal(response: Response) -> bool:
    """Say whether a route has answered with a problem, which goes back as it is."""
    return response.status_code >= _FIRST_REFUSAL


def told_in(response: Response, kind: type[_Answer]) -> _Answer:
    """Return what a route has answered."""
    return msgspec.json.decode(bytes(response.body), type=kind)


def answered_with(
    response: Response, value: Any, headers: Mapping[bytes, bytes] = MappingProxyType({})
) -> Response:
    """Return a route's answer with another body.

    Args:
        response: What the route has answered.
        value: The body in its place.
        headers: Headers that are another too, in lower case; others than those of the body stay.
    """
    kept = {
        name: headers.get(name, value)
        for name, value in response.raw_headers
        if name not in (b"content-type", b"content-length")
    }
    return json_reply(value, response.status_code, list(kept.items())).as_response()
