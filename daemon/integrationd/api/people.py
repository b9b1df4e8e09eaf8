"""Answers without what tells who a person is, where ``[privacy]`` asks for that."""

from typing import Literal

import msgspec
from starlette.responses import Response

from integrationd.api.roles import Role
from integrationd.personal import PersonalData

_JSON = "application/json"
_EXACT = frozenset({"payload", "metadata", "result", "body"})
_encode = msgspec.json.Encoder().encode


def without_personal(
    response: Response, shown: Literal["", "all", "readers"], role: Role, personal: PersonalData
) -> Response:
    """Return an answer as its reader may see it.

    Args:
        response: The answer.
        shown: What the route's table says: see :class:`integrationd.api.told.Told`.
        role: The reader's.
        personal: What masks it, while that is switched on.
    """
    if not shown or not personal.is_masked or response.headers.get("content-type") != _JSON:
        return response
    exact = _EXACT if shown == "readers" and role is not Role.READ else frozenset()
    response.body = masked_json(bytes(response.body), personal, exact)
    response.headers["content-length"] = str(len(response.body))
    return response


def masked_json(body: bytes, personal: PersonalData, exact: frozenset[str] = frozenset()) -> bytes:
    """Return a JSON object masked, but for some of its members."""
    told = msgspec.json.decode(body)
    kept = {name: told[name] for name in told if name in exact}
    return _encode({**personal.value(told), **kept})
