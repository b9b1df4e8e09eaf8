"""Receivers of webhooks on loopback: good ones, and all the others.

Each has a path of its own on one server and does what it is named for. What came is written down in
the order in which it came in whole, and every signature is held against the receiver's own secret.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from types import TracebackType

import standardwebhooks

LIVE = ("good", "simple", "slow", "cutting")
DEAD = ("broken", "gone", "moved", "dead")
TRAP = "trap"
SLOW_S = 0.12
CUT_EVERY = 4

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_REPLIES = {
    "broken": b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n",
    "gone": b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
    "moved": b"HTTP/1.1 302 Found\r\nLocation: /trap/0\r\nContent-Length: 0\r\n\r\n",
}
_CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf"


@dataclass(frozen=True)
class Copy:
    """One event as a receiver got it.

    Attributes:
        webhook_id: Its id.
        call_id: The call that it is about.
        sequence: Its number in the log of the daemon.
    """

    webhook_id: str
    call_id: str | None
    sequence: int


@dataclass
class Receiver:
    """What one receiver has got.

    Attributes:
        kind: What it does.
        secret: What it verifies with.
        copies: What it has answered with success, in the order in which it came.
        taken: The numbers of those events.
        seen: How often each id came, whatever was answered.
        forged: What did not verify.
    """

    kind: str
    secret: str = ""
    copies: list[Copy] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)
    seen: Counter[str] = field(default_factory=Counter)
    forged: list[str] = field(default_factory=list)

    @property
    def ids(self) -> set[str]:
        """The events that it has taken."""
        return {one.webhook_id for one in self.copies}

    def firsts(self) -> dict[str, list[int]]:
        """Return the numbers of each call's events, in the order in which they first came."""
        known: set[str] = set()
        order: dict[str, list[int]] = defaultdict(list)
        for one in self.copies:
            if one.webhook_id not in known and one.call_id is not None:
                order[one.call_id].append(one.sequence)
            known.add(one.webhook_id)
        return order


class Receivers:
    """The server; a context manager that listens while it is entered.

    Attributes:
        all: The receivers, by their path.
        trapped: Requests that followed a redirect.
    """

    def __init__(self) -> None:
        self.all: dict[str, Receiver] = {}
        self.trapped = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Receivers":
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, whoever is still connected."""
        if self._server is not None:
            self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def add(self, name: str, kind: str) -> str:
        """Have one more receiver; return its path."""
        self.all[name] = Receiver(kind)
        return f"/{name}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._answer_one(reader, writer):
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.split("\r\n")[:-2]
        headers = {name.lower(): value for name, _, value in (f.partition(": ") for f in fields)}
        body = await reader.readexactly(int(headers["content-length"]))
        name = line.split(" ")[1].strip("/").partition("/")[0]
        if name == TRAP:
            self.trapped += 1
            return False
        return await self._answer(self.all[name], headers, body, writer)

    async def _answer(
        self, one: Receiver, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        webhook_id = headers.get("webhook-id", "")
        one.seen[webhook_id] += 1
        fault = _fault(one, headers, body)
        if fault:
            one.forged.append(fault)
        if one.kind in _REPLIES:
            writer.write(_REPLIES[one.kind])
            return True
        copy = _copy(webhook_id, body)
        one.copies.append(copy)
        one.taken.add(copy.sequence)
        if one.kind == "slow":
            await asyncio.sleep(SLOW_S)
        is_cut = one.kind == "cutting" and _is_cut(webhook_id) and one.seen[webhook_id] == 1
        writer.write(_CUT if is_cut else _OK)
        return not is_cut


def _is_cut(webhook_id: str) -> bool:
    """Say whether the first reply for an event is cut; so seldom that the breaker stays closed."""
    return int(webhook_id.split("_")[1]) % CUT_EVERY == 0


def _copy(webhook_id: str, body: bytes) -> Copy:
    data = json.loads(body)["data"]
    return Copy(webhook_id, data.get("call_id"), int(webhook_id.split("_")[1]))


def _fault(one: Receiver, headers: dict[str, str], body: bytes) -> str:
    if one.kind == "simple":
        digest = hmac.new(one.secret.encode(), body, hashlib.sha256).hexdigest()
        return "" if headers.get("x-signature") == digest else f"X-Signature of {headers}"
    try:
        standardwebhooks.Webhook(one.secret).verify(body, headers)
    except (standardwebhooks.WebhookVerificationError, ValueError) as error:
        return f"{error} of {headers}"
    return ""
