"""What a request costs the client: stock ``httpx.AsyncClient`` against the prepared client.

Run by hand: ``python tests/bench/bench_client.py [seconds per measurement]``. The server and each
client are processes of their own; the rounds of the clients are interleaved. Bounded to about half
a minute.
"""

import asyncio
import dataclasses
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import cast

import uvloop

CONCURRENCY = (1, 16, 64)
ROUNDS = 3
CLIENTS = ("httpx", "prepared", "prepared-recorded")
PAYLOAD = {"to": "+254711000111", "text": "x" * 1000, "sender": "SHULE"}
REPLY = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Thu, 15 Jan 2026 12:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: 11\r\nConnection: keep-alive\r\n\r\n"
    b'{"ok":true}'
)

Send = Callable[[], Awaitable[int]]


class Answerer(asyncio.Protocol):
    """Answers every request with 200 as soon as its body has come."""

    def __init__(self) -> None:
        self.waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while (head_bytes := self.waiting.find(b"\r\n\r\n") + 4) >= 4:
            head = self.waiting[:head_bytes].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(self.waiting) < head_bytes + length:
                return
            self.waiting = self.waiting[head_bytes + length :]
            self.transport.write(REPLY)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Answerer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@dataclasses.dataclass(frozen=True)
class Cost:
    """What was measured: requests per second, and client CPU microseconds per request."""

    rps: float
    cpu_us: float


async def measure(send: Send, concurrency: int, seconds: float) -> Cost:
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(send() for _ in range(concurrency)))
    until = loop.time() + seconds
    done = 0

    async def work() -> None:
        nonlocal done
        while loop.time() < until:
            assert await send() == 200
            done += 1

    started, cpu_s = loop.time(), _cpu_s()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return Cost(rps=done / (loop.time() - started), cpu_us=(_cpu_s() - cpu_s) / done * 1e6)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def run_client(name: str, port: int, concurrency: int, seconds: float) -> None:
    base_url = f"http://127.0.0.1:{port}"
    cost = await (
        _run_httpx(base_url, concurrency, seconds)
        if name == "httpx"
        else _run_prepared(base_url, concurrency, seconds, name.endswith("recorded"))
    )
    print(json.dumps(dataclasses.asdict(cost)))


async def _run_httpx(base_url: str, concurrency: int, seconds: float) -> Cost:
    import httpx  # noqa: PLC0415 - each process loads only the client that it measures

    async with httpx.AsyncClient(base_url=base_url, timeout=10, trust_env=False) as client:

        async def send() -> int:
            return (await client.post("/v1/messages", json=PAYLOAD)).status_code

        return await measure(send, concurrency, seconds)


async def _run_prepared(base_url: str, concurrency: int, seconds: float, is_recorded: bool) -> Cost:
    from integrationd.sdk.exchange import recording  # noqa: PLC0415 - as above
    from integrationd.sdk.http import prepare_client  # noqa: PLC0415 - as above

    async with prepare_client(base_url=base_url, timeout_s=10, allow_private=True) as client:

        async def send() -> int:
            return (await client.post("/v1/messages", json=PAYLOAD)).status_code

        async def send_recorded() -> int:
            with recording(lambda: None):
                return await send()

        return await measure(send_recorded if is_recorded else send, concurrency, seconds)


def main(seconds: float) -> None:
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        port = server.stdout.readline().strip()
        for concurrency in CONCURRENCY:
            _report(concurrency, _rounds(port, concurrency, seconds))
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def _rounds(port: str, concurrency: int, seconds: float) -> dict[str, list[Cost]]:
    costs: dict[str, list[Cost]] = {name: [] for name in CLIENTS}
    for _ in range(ROUNDS):
        for name in CLIENTS:
            command = [sys.executable, __file__, "--client", name, port, str(concurrency)]
            ran = subprocess.run(
                [*command, str(seconds)], capture_output=True, text=True, check=True
            )
            costs[name].append(Cost(**json.loads(ran.stdout)))
    return costs


def _report(concurrency: int, costs: dict[str, list[Cost]]) -> None:
    stock = statistics.median(cost.cpu_us for cost in costs["httpx"])
    for name, measured in costs.items():
        rps = statistics.median(cost.rps for cost in measured)
        cpu_us = statistics.median(cost.cpu_us for cost in measured)
        print(
            f"c={concurrency:<3} {name:18} {rps:8.0f} requests/s {cpu_us:8.1f} us/request"
            f"  1/{stock / cpu_us:.1f} of httpx"
        )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--serve"]:
            uvloop.run(serve())
        case ["--client", client, port, concurrency, seconds]:
            uvloop.run(run_client(client, int(port), int(concurrency), float(seconds)))
        case [seconds]:
            main(float(seconds))
        case _:
            main(0.7)
