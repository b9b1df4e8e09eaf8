"""What is kept of an attempt's exchanges: masked first, then written."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec

from integrationd.masking import Masker
from integrationd.personal import PersonalData
from integrationd.sdk.exchange import Exchange, HeaderPairs, Recorder

_encode = msgspec.json.Encoder().encode

# These say nothing about who is asking, so looking for secrets in them is work for nothing.
_PLAIN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "host",
        "server",
        "user-agent",
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """The masked record of an attempt.

    Attributes:
        status_code: The last reply's status, where there was one.
        request: What was sent, as JSON: an object, or a list where there were several requests.
        response: What came back, likewise.
    """

    status_code: int | None = None
    request: str | None = None
    response: str | None = None


def describe(
    recorder: Recorder | None, masker: Masker, personal: PersonalData | None = None
) -> Seen:
    """Return the masked record of an attempt's exchanges."""
    exchanges = recorder.exchanges if recorder else []
    if not exchanges:
        return Seen()
    return Seen(
        status_code=exchanges[-1].status,
        request=_json([_shown(_request(one, masker), personal) for one in exchanges]),
        response=_json([_shown(_response(one, masker), personal) for one in exchanges]),
    )


def _request(exchange: Exchange, masker: Masker) -> dict[str, Any]:
    return {
        "method": exchange.method,
        "url": masker.url(exchange.url),
        "headers": _headers(exchange.request_headers, masker),
        "body": _body(
            exchange.request_body, exchange.request_bytes, exchange.request_headers, masker
        ),
        "bytes": exchange.request_bytes,
    }


def _response(exchange: Exchange, masker: Masker) -> dict[str, Any]:
    if exchange.status is None:
        return {"error": masker.text(exchange.error)}
    return {
        "status": exchange.status,
        "headers": _headers(exchange.response_headers, masker),
        "body": _body(
            exchange.response_body, exchange.response_bytes, exchange.response_headers, masker
        ),
        "bytes": exchange.response_bytes,
        "error": masker.text(exchange.error) if exchange.error else "",
    }


def _shown(exchange: dict[str, Any], personal: PersonalData | None) -> dict[str, Any]:
    """Return one side of an exchange without what tells who a person is, where that is asked."""
    if personal is None or not personal.is_masked:
        return exchange
    body = {"body": personal.body(exchange["body"])} if "body" in exchange else {}
    return {**personal.value(exchange), **body}


def _headers(headers: HeaderPairs, masker: Masker) -> dict[str, str]:
    shown = {name: value for name, value in headers if name.lower() in _PLAIN_HEADERS}
    others = [pair for pair in headers if pair[0].lower() not in _PLAIN_HEADERS]
    return {**shown, **masker.headers(others)} if others else shown


def _body(body: bytes, size: int, headers: HeaderPairs, masker: Masker) -> str:
    """Return what is kept of a body of so many bytes."""
    shown = masker.body(body, _type_of(headers))
    return masker.at_cut(shown) if size > len(body) else shown


def _type_of(headers: HeaderPairs) -> str | None:
    for name, value in headers:
        if name.lower() == "content-type":
            return value
    return None


def _json(described: Sequence[dict[str, Any]]) -> str:
    value: Any = described[0] if len(described) == 1 else described
    return _encode(value).decode()
