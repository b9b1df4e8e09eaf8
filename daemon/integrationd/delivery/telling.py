"""What a subscriber is told of an event: the body, frozen once, in the words of its scheme."""

from collections.abc import Mapping
from typing import Any

import msgspec

from integrationd.clock import to_rfc3339
from integrationd.journal import StoredEvent

# Receivers and proxies in between are promised no more; the rest is for GET /v1/events.
BODY_LIMIT_BYTES = 20_000
_json = msgspec.json.Encoder().encode


def payload_of(event: StoredEvent, webhook_id: str, scheme: str) -> bytes:
    """Return the payload of the call that tells a subscriber of an event.

    Args:
        event: The event.
        webhook_id: The receiver's key against copies, the same for all that are told of it.
        scheme: ``standard`` or ``simple``.
    """
    body = body_of(event, _data_of(event), scheme)
    if len(body) > BODY_LIMIT_BYTES:
        body = body_of(event, _reference_to(event, len(body)), scheme)
    return payload(event.type, webhook_id, body)


def payload(kind: str, webhook_id: str, body: bytes) -> bytes:
    """Return a payload of ``webhook.send``."""
    return _json({"id": webhook_id, "type": kind, "body": body.decode()})


def body_of(event: StoredEvent, data: Mapping[str, Any], scheme: str) -> bytes:
    """Return the bytes that a receiver gets and that are signed."""
    if scheme == "simple":
        told = {
            "event": event.type,
            "timestamp": event.at_ms // 1000,
            "tenant_id": event.tenant,
            "data": data,
        }
    else:
        told = {
            "type": event.type,
            "timestamp": to_rfc3339(event.at_ms),
            "tenant_id": event.tenant,
            "sequence": event.seq,
            "data": data,
        }
    return _json(told)


def _data_of(event: StoredEvent) -> Mapping[str, Any]:
    """Return what happened, with the call that it happened to; without the seals of attempts."""
    data: dict[str, Any] = msgspec.json.decode(event.data)
    if event.call_id is None:
        return data
    data.pop("attempts", None)
    return {"call_id": event.call_id, "connection": event.connection, **data}


def _reference_to(event: StoredEvent, size: int) -> Mapping[str, Any]:
    """Return what stands in the place of data that would be too long."""
    return {"call_id": event.call_id, "sequence": event.seq, "omitted": True, "bytes": size}
