"""A reader of server-sent events, as an app would write one."""

import contextlib
import dataclasses
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import httpx2

STREAM = {"Accept": "text/event-stream"}
# A sign of life comes more often.
SILENCE_S = 30.0


@dataclasses.dataclass
class Block:
    """What stands between two empty lines of a stream."""

    id: str | None = None
    event: str | None = None
    data: str | None = None
    retry: str | None = None
    comment: str | None = None

    @property
    def told(self) -> dict[str, Any]:
        """What it tells, whose number and type are those of its lines."""
        assert self.data is not None
        told: dict[str, Any] = json.loads(self.data)
        assert (str(told["seq"]), told["type"]) == (self.id, self.event)
        return told


class Stream:
    """An open stream."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def blocks(self) -> AsyncGenerator[Block, None]:
        """Yield its blocks to the end; one that is cut off counts for nothing."""
        block = Block()
        async for line in self._lines:
            if not line:
                yield block
                block = Block()
                continue
            name, _, value = line.partition(":")
            setattr(block, name or "comment", value.removeprefix(" "))

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the events alone."""
        async for block in self.blocks():
            if block.data is not None:
                yield block.told

    async def next(self, count: int) -> list[dict[str, Any]]:
        """Return the next events."""
        found: list[dict[str, Any]] = []
        async with contextlib.aclosing(self.events()) as events:
            async for event in events:
                found.append(event)
                if len(found) == count:
                    break
        return found


@contextlib.asynccontextmanager
async def streaming(
    client: httpx2.AsyncClient, query: str = "", headers: Mapping[str, str] | None = None
) -> AsyncIterator[Stream]:
    """Open a stream of events."""
    async with client.stream(
        "GET", f"/v1/events{query}", headers={**STREAM, **(headers or {})}, timeout=SILENCE_S
    ) as response:
        yield Stream(response)
