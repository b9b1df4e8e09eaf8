"""The app's side of its own door: a server that takes events, or refuses to."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import standardwebhooks

POLL_S = 0.02


@dataclass(frozen=True)
class Seen:
    """One request to the app.

    Attributes:
        webhook_id: The event's id.
        type: Its type.
        call_id: The call that it is about.
        sequence: Its number in the daemon's log.
        status: What was answered; 0 where nothing was.
        fault: Why its signature does not fit; empty where it does.
    """

    webhook_id: str
    type: str
    call_id: str | None
    sequence: int
    status: int
    fault: str


@dataclass
class App:
    """An app; it listens within :meth:`listening`.

    Attributes:
        secret: What it verifies with.
        refused: The calls about which it answers 500.
        is_silent: Whether it answers nothing at all.
        seen: Every request, in order.
    """

    secret: str
    refused: set[str] = field(default_factory=set)
    is_silent: bool = False
    seen: list[Seen] = field(default_factory=list)

    @property
    def taken(self) -> list[Seen]:
        """What it has answered with success."""
        return [one for one in self.seen if one.status == 200]

    def about(self, call_id: str) -> list[str]:
        """Return the types of events about a call that were taken, in their order."""
        return [one.type for one in self.taken if one.call_id == call_id]

    def orders(self) -> dict[str, list[int]]:
        """Return the numbers of the events that were taken, by call, in their order."""
        found: dict[str, list[int]] = defaultdict(list)
        for one in self.taken:
            if one.call_id is not None:
                found[one.call_id].append(one.sequence)
        return found

    async def until(self, done: Callable[["App"], bool], within_s: float = 30.0) -> None:
        """Wait until something holds.

        Raises:
            TimeoutError: It does not.
        """
        async with asyncio.timeout(within_s):
            while not done(self):
                await asyncio.sleep(POLL_S)

    @contextlib.asynccontextmanager
    async def listening(self, at: int | Path) -> AsyncIterator[None]:
        """Listen on a port of loopback, or on a Unix socket."""
        if isinstance(at, Path):
            at.unlink(missing_ok=True)
            server = await asyncio.start_unix_server(self._serve, at)
        else:
            server = await asyncio.start_server(self._serve, "127.0.0.1", at)
        self._running: set[asyncio.Task[None]] = set()
        try:
            yield
        finally:
            server.close()
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # It is over; the server looks at nobody's result.
            pass
        finally:
            writer.close()
            self._running.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        fields = (line.partition(": ") for line in head.split("\r\n")[1:-2])
        headers = {name.lower(): value for name, _, value in fields}
        body = await reader.readexactly(int(headers["content-length"]))
        seen = self._look(headers, body)
        self.seen.append(seen)
        if not seen.status:
            await asyncio.sleep(60)
        writer.write(f"HTTP/1.1 {seen.status} X\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        return True

    def _look(self, headers: dict[str, str], body: bytes) -> Seen:
        told = json.loads(body)
        call_id = told["data"].get("call_id")
        status = 0 if self.is_silent else 500 if call_id in self.refused else 200
        fault = ""
        try:
            standardwebhooks.Webhook(self.secret).verify(body, headers)
        except (standardwebhooks.WebhookVerificationError, ValueError) as error:
            fault = str(error)
        return Seen(
            webhook_id=headers["webhook-id"],
            type=told["type"],
            call_id=call_id,
            sequence=told["sequence"],
            status=status,
            fault=fault,
        )
