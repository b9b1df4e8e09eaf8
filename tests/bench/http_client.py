"""What requests cost the process that makes them, with stock httpx or with the prepared client."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import uvloop
from tests.bench.children import order_of

MESSAGE = {"to": "+254711000111", "text": "x" * 1000, "sender": "SHULE"}

Send = Callable[[], Awaitable[int]]


@contextlib.asynccontextmanager
async def _stock(base_url: str) -> AsyncIterator[Send]:
    import httpx  # noqa: PLC0415 - each process loads only the client that it measures

    async with httpx.AsyncClient(base_url=base_url, timeout=10, trust_env=False) as client:

        async def send() -> int:
            return (await client.post("/v1/messages", json=MESSAGE)).status_code

        yield send


@contextlib.asynccontextmanager
async def _prepared(base_url: str) -> AsyncIterator[Send]:
    from integrationd.sdk.http import prepare_client  # noqa: PLC0415 - as above

    async with prepare_client(base_url=base_url, timeout_s=10, allow_private=True) as client:

        async def send() -> int:
            return (await client.post("/v1/messages", json=MESSAGE)).status_code

        yield send


@contextlib.asynccontextmanager
async def _recorded(base_url: str) -> AsyncIterator[Send]:
    """The prepared client as an attempt uses it: with the exchange kept for the journal."""
    from integrationd.sdk.exchange import recording  # noqa: PLC0415 - as above

    async with _prepared(base_url) as send:

        async def send_recorded() -> int:
            with recording(lambda: None):
                return await send()

        yield send_recorded


CLIENTS = {"httpx": _stock, "prepared": _prepared, "recorded": _recorded}


async def _measure(send: Send, concurrency: int, seconds: float) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(send() for _ in range(concurrency)))
    until, done = loop.time() + seconds, 0

    async def work() -> None:
        nonlocal done
        while loop.time() < until:
            assert await send() == 200
            done += 1

    began_s, cpu_s = loop.time(), time.process_time()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    cpu_us = (time.process_time() - cpu_s) * 1e6
    return {"done": done, "rps": done / (loop.time() - began_s), "cpu_us": cpu_us / done}


async def _run(order: dict[str, Any]) -> dict[str, float]:
    async with CLIENTS[order["client"]](f"http://127.0.0.1:{order['port']}") as send:
        return await _measure(send, order["concurrency"], order["seconds"])


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(order_of(sys.argv)))))
