"""The bad link: connections that break once a request was read, and the post for callbacks.

Everything random is drawn from one seed; the clock is the machine's.
"""

import asyncio
import contextlib
import dataclasses
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any, Protocol

import httpx2
from starlette.types import Message
from tests.sdk.scripted_server import Peer, Received, ScriptedServer, serving

AsgiApp = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class LinkBrokenError(Exception):
    """The reply is lost; the request has taken effect."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weather:
    """How bad it is.

    Attributes:
        dropped: The share of connections that break after the request was read.
        lost: The share of callbacks that never come.
        repeated: The share of callbacks that come twice or more.
        early: The share of callbacks that come before the reply to our own request.
        latest_s: The longest that a callback is under way; they overtake each other.
        slow_s: The longest that a provider thinks.
    """

    dropped: float = 0.3
    lost: float = 0.2
    repeated: float = 0.2
    early: float = 0.3
    latest_s: float = 1.5
    slow_s: float = 0.05


class Parcel(Protocol):
    """A callback that a provider wants brought."""

    @property
    def url(self) -> str:
        """Where to."""
        ...

    @property
    def headers(self) -> Any:
        """With which headers."""
        ...

    @property
    def body(self) -> bytes:
        """What."""
        ...


class Post:
    """Brings callbacks: late, twice, in any order, or not.

    Args:
        weather: How bad it is.
        dice: Randomness.
        tries: How often a provider tries again when nobody answers with 200.

    Attributes:
        told: How many callbacks were lost, repeated, early, answered, not answered.
        arrived: The bodies that were answered with 200, by address and body.
    """

    def __init__(self, weather: Weather, dice: random.Random, tries: int = 1) -> None:
        self._weather = weather
        self._dice = dice
        self._tries = tries
        self.told: Counter[str] = Counter()
        self.arrived: set[tuple[str, bytes]] = set()
        self._client = httpx2.AsyncClient(timeout=10.0, limits=httpx2.Limits(max_connections=64))
        self._under_way: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """Wait for what is under way."""
        while self._under_way:
            await asyncio.gather(*self._under_way)
        await self._client.aclose()

    async def send_all(self, parcels: "deque[Any]") -> None:
        """Take what is to be brought; what comes early is brought before this returns."""
        while parcels:
            parcel = parcels.popleft()
            if self._dice.random() < self._weather.lost:
                self.told["lost"] += 1
                continue
            copies = 1
            if self._dice.random() < self._weather.repeated:
                self.told["repeated"] += 1
                copies = self._dice.randint(2, 3)
            if self._dice.random() < self._weather.early:
                self.told["early"] += 1
                await self._bring(parcel, 0)
                copies -= 1
            for _ in range(copies):
                delay_s = self._dice.uniform(0, self._weather.latest_s)
                task = asyncio.create_task(self._bring(parcel, delay_s))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)

    async def _bring(self, parcel: Parcel, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        for number in range(self._tries):
            if number:
                await asyncio.sleep(1.0)
            with contextlib.suppress(httpx2.HTTPError):
                reply = await self._client.post(
                    parcel.url, content=parcel.body, headers=dict(parcel.headers)
                )
                if reply.status_code == HTTPStatus.OK:
                    self.told["answered"] += 1
                    self.arrived.add((parcel.url, parcel.body))
                    return
                self.told[f"status {reply.status_code}"] += 1
        self.told["not answered"] += 1


@contextlib.asynccontextmanager
async def reachable(app: AsgiApp) -> AsyncIterator[ScriptedServer]:
    """Serve an ASGI app on loopback; what raises :class:`LinkBrokenError` closes the connection."""

    async def talk(peer: Peer) -> None:
        while True:
            request = await peer.request()
            try:
                reply = await _run(app, request)
            except LinkBrokenError:
                return
            await peer.send(reply)

    async with serving(talk) as server:
        yield server


async def _run(app: AsgiApp, request: Received) -> bytes:
    path, _, query = request.target.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in request.headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1),
        "root_path": "",
    }
    answer: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: Message) -> None:
        answer.append(message)

    await app(scope, receive, send)
    return _raw(answer)


def _raw(answer: list[Message]) -> bytes:
    status = answer[0]["status"]
    body = b"".join(message.get("body", b"") for message in answer[1:])
    headers = {bytes(name).lower(): bytes(value) for name, value in answer[0]["headers"]}
    headers[b"content-length"] = str(len(body)).encode()
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode() + lines + b"\r\n" + body
