"""A closed-loop HTTP load: so many connections, each sending when it has been answered."""

import asyncio
import datetime as dt
import hashlib
import hmac
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import uvloop
from tests.bench.children import measured, order_of

# Of the size that the targets speak of: about 1.1 KB with its envelope.
CALL: dict[str, Any] = {
    "operation": "http.request",
    "payload": {"method": "POST", "path": "/orders", "json": {"text": "x" * 1000}},
}
ENDS_WITHIN_S = 60.0
# Each run tells of payments of its own.
SERIAL = time.time_ns() // 1000
NEXT_YEAR = dt.datetime.now(dt.UTC) + dt.timedelta(days=365)
LATER = {**CALL, "not_before": NEXT_YEAR.isoformat()}


class _Load:
    def __init__(self, requests: Iterator[bytes], count: int) -> None:
        self.requests = requests
        self.left = count
        self.took_s: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.open = 0
        self.ended = asyncio.get_running_loop().create_future()


class _Client(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self._load = load
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._load.ended.done():
            self._load.ended.set_exception(exc or ConnectionError("the server hung up"))

    def send(self) -> None:
        load = self._load
        if load.left == 0:
            load.open -= 1
            if load.open == 0 and not load.ended.done():
                load.ended.set_result(None)
            return
        load.left -= 1
        self._sent_s = time.perf_counter()
        self._transport.write(next(load.requests))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(body) < int(length):
            return
        self._load.took_s.append(time.perf_counter() - self._sent_s)
        self._load.statuses[head[9:12].decode()] += 1
        self._received = b""
        self.send()


async def _run(order: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    load = _Load(_requests(order), order["count"])
    clients = []
    for _ in range(order["concurrency"]):
        _, client = await loop.create_connection(lambda: _Client(load), "127.0.0.1", order["port"])
        clients.append(client)
    load.open = len(clients)
    began_s, cpu_s = time.monotonic(), time.process_time()
    for client in clients:
        client.send()
    async with asyncio.timeout(ENDS_WITHIN_S):
        await load.ended
    took_s, load.took_s = time.monotonic() - began_s, sorted(load.took_s)
    return {
        "rps": order["count"] / took_s,
        "p50_ms": load.took_s[len(load.took_s) // 2] * 1000,
        "p99_ms": load.took_s[int(len(load.took_s) * 0.99)] * 1000,
        "busy": (time.process_time() - cpu_s) / took_s,
        "began_s": began_s,
        "statuses": load.statuses,
    }


def _requests(order: dict[str, Any]) -> Iterator[bytes]:
    if "webhook_key" in order:
        return iter([_webhook(order["webhook_key"], number) for number in range(order["count"])])
    return itertools.repeat(_request(order))


def _webhook(key: str, number: int) -> bytes:
    """Return a payment that nobody had asked for, as Paystack tells it, each of its own."""
    paid = {"id": SERIAL + number, "reference": f"p-{SERIAL + number}", "status": "success"}
    paid |= {"amount": 250_000, "currency": "NGN", "customer": {"email": "ann@example.com"}}
    body = json.dumps({"event": "charge.success", "data": paid | {"note": "x" * 800}}).encode()
    signature = hmac.new(key.encode(), body, hashlib.sha512).hexdigest()
    head = (
        f"POST /webhooks/paystack/naira HTTP/1.1\r\nHost: localhost\r\n"
        f"X-Paystack-Signature: {signature}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _request(order: dict[str, Any]) -> bytes:
    body = json.dumps(order["call"]).encode()
    head = (
        f"POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {order['key']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def send_calls(
    port: int, key: str, count: int, concurrency: int, call: dict[str, Any] = CALL
) -> Any:
    """Submit calls from another process; all must be answered with 202.

    Returns:
        ``rps``, ``p50_ms``, ``p99_ms``, ``busy`` (the client's share of one CPU), ``began_s``.
    """
    found = measured("load", port=port, key=key, count=count, concurrency=concurrency, call=call)
    assert found["statuses"] == {"202": count}, found["statuses"]
    return found


def send_webhooks(port: int, key: str, count: int, concurrency: int) -> Any:
    """Send signed webhooks from another process; all must be answered with 200.

    Returns:
        As :func:`send_calls` does.
    """
    found = measured("load", port=port, webhook_key=key, count=count, concurrency=concurrency)
    assert found["statuses"] == {"200": count}, found["statuses"]
    return found


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(order_of(sys.argv)))))
