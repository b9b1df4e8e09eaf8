"""Streams of events over real sockets: each number once, whatever becomes of the line."""

import contextlib
import socket
from collections.abc import AsyncIterator

import anyio
import httpx2
import pytest
from tests.api.world import KEY, ApiWorld, code_of
from tests.sse import Block, Stream, streaming

from integrationd.api.admission import Limits
from integrationd.api.event_streams import CHUNK, MOST_OF_ONE, RECENT
from integrationd.api.listeners import bind_tcp
from integrationd.api.server import ApiServer
from integrationd.call import EventRecord
from integrationd.journal import Transaction

SOON_S = 10.0
LIMITS = Limits(write_s=0.3)


class Served:
    """The API of a world on a TCP socket."""

    def __init__(self, world: ApiWorld, address: tuple[str, int], server: ApiServer) -> None:
        self.world = world
        self.address = address
        self.server = server

    def client(self, key: str = KEY) -> httpx2.AsyncClient:
        host, port = self.address
        headers = {"Authorization": f"Bearer {key}"}
        limits = httpx2.Limits(max_connections=None)
        return httpx2.AsyncClient(base_url=f"http://{host}:{port}", headers=headers, limits=limits)

    async def append(self, *kinds: str, tenant: str | None = None, data: str = "") -> None:
        def job(writing: Transaction) -> None:
            for kind in kinds:
                record = EventRecord(type=kind, data={"told": data}, tenant=tenant)
                writing.chain.append(writing.db, record, 7)

        await self.world.journal.write(job)


@pytest.fixture
async def served(idle: ApiWorld) -> AsyncIterator[Served]:
    listener = bind_tcp("127.0.0.1:0")
    host, port, *_ = listener.getsockname()
    server = ApiServer(idle.app, [listener], LIMITS)
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve)
        await server.started()
        with anyio.fail_after(60):
            yield Served(idle, (host, port), server)
        idle.app.end_streams()
        await server.close(grace_s=1)


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx2.AsyncClient]:
    async with served.client() as client:
        yield client


async def first_block(stream: Stream) -> Block:
    async with contextlib.aclosing(stream.blocks()) as blocks:
        async for block in blocks:
            return block
    raise AssertionError("the stream has ended")


async def until(served: Served, count: int) -> None:
    """Wait until so many streams are open."""
    with anyio.fail_after(SOON_S):
        while served.world.streams.count != count:
            await anyio.sleep(0.01)


async def test_stream_tells_what_was_and_then_what_comes(
    served: Served, client: httpx2.AsyncClient
) -> None:
    await served.append("a.b", "c.d")

    async with streaming(client, "?after=0") as stream:
        assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.response.headers["cache-control"] == "no-store"
        before = await stream.next(2)
        await served.append("e.f", tenant="default")
        after = await stream.next(1)

    assert [(one["seq"], one["type"]) for one in before] == [(1, "a.b"), (2, "c.d")]
    assert (after[0]["seq"], after[0]["tenant"], after[0]["data"]) == (3, "default", {"told": ""})


@pytest.mark.parametrize(
    ("query", "headers", "found"),
    [
        ("?after=0", {}, [1, 2, 3, 4]),
        ("?after=2", {}, [3, 4]),
        ("?after=0", {"Last-Event-ID": "2"}, [3, 4]),
        ("?last=3", {"Last-Event-ID": "3"}, [4]),
        ("?last=2", {}, [2, 3, 4]),
        ("", {}, [4]),
        ("?last=0", {}, [4]),
        ("?type=c.*&after=0", {}, [3]),
    ],
)
async def test_stream_begins_where_the_reader_says(
    served: Served,
    client: httpx2.AsyncClient,
    query: str,
    headers: dict[str, str],
    found: list[int],
) -> None:
    await served.append("a.b", "a.c", "c.a")

    async with streaming(client, query, headers) as stream:
        start = await first_block(stream)
        await served.append("z.z")
        told = await stream.next(len(found))

    assert [one["seq"] for one in told] == found
    assert start.retry == "2000"
    assert start.data is None
    assert int(start.id or "") <= found[0] - 1


async def test_reader_that_comes_back_sees_each_number_once(
    served: Served, client: httpx2.AsyncClient
) -> None:
    seen: list[int] = []
    cursor = "0"

    async def produce() -> None:
        for number in range(60):
            await served.append(*["a.b"] * (1 + number % 7))

    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        for turn in range(20):
            async with streaming(client, "?after=0", {"Last-Event-ID": cursor}) as stream:
                told = await stream.next(1 + turn % 5)
            seen += [one["seq"] for one in told]
            cursor = str(seen[-1])

    assert seen == list(range(1, len(seen) + 1))


async def test_many_readers_at_the_end_are_told_all_and_share_the_reading(
    served: Served, client: httpx2.AsyncClient
) -> None:
    total, readers = 3 * RECENT, 12
    seen: list[list[int]] = []

    async def read(started: anyio.Event) -> None:
        async with streaming(client) as stream:
            await first_block(stream)
            started.set()
            seen.append([one["seq"] for one in await stream.next(total)])

    async with anyio.create_task_group() as group:
        begun = [anyio.Event() for _ in range(readers)]
        for one in begun:
            group.start_soon(read, one)
        for one in begun:
            await one.wait()
        for _ in range(total // 16):
            await served.append(*["a.b"] * 16)

    assert seen == [list(range(1, total + 1))] * readers


async def test_slow_reader_is_cut_off_and_others_are_not_held_up(
    served: Served, client: httpx2.AsyncClient
) -> None:
    host, port = served.address
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((host, port))
        head = (
            f"GET /v1/events?after=0 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        )
        slow.sendall(f"{head}Accept: text/event-stream\r\n\r\n".encode())
        await until(served, 1)
        for _ in range(60):
            await served.append(*["a.b"] * CHUNK, data="x" * 2000)

        async with streaming(client, "?after=0") as stream:
            told = await stream.next(60 * CHUNK)
        await until(served, 0)

    assert told[-1]["seq"] == 60 * CHUNK


@pytest.mark.parametrize("end", ["close", "half", "reset"])
async def test_reader_that_has_gone_is_noticed_though_nothing_happens(
    served: Served, end: str
) -> None:
    host, port = served.address
    head = f"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    with socket.create_connection((host, port)) as gone:
        gone.sendall(f"{head}Accept: text/event-stream\r\n\r\n".encode())
        await until(served, 1)
        if end == "half":
            gone.shutdown(socket.SHUT_WR)
        elif end == "reset":
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            gone.close()
        else:
            gone.close()

        await until(served, 0)


async def test_stream_ends_when_the_daemon_stops(
    served: Served, client: httpx2.AsyncClient
) -> None:
    async with streaming(client) as stream:
        await first_block(stream)
        served.world.app.end_streams()
        with anyio.fail_after(SOON_S):
            rest = [block async for block in stream.blocks()]

    assert rest == []


async def test_stream_ends_when_its_key_is_revoked(
    served: Served, client: httpx2.AsyncClient
) -> None:
    made = (await client.post("/v1/keys", json={"name": "app", "role": "read"})).json()

    async with served.client(made["key"]) as app, streaming(app, "?after=0&type=z.*") as stream:
        await first_block(stream)
        assert (await client.delete(f"/v1/keys/{made['id']}")).status_code == 200
        await served.append("z.a")
        with anyio.fail_after(SOON_S):
            told = [event async for event in stream.events()]

    assert told == []


async def test_key_of_a_tenant_streams_its_own_events_alone(
    served: Served, client: httpx2.AsyncClient
) -> None:
    body = {"name": "app", "role": "read", "tenant": "default"}
    made = (await client.post("/v1/keys", json=body)).json()

    async with served.client(made["key"]) as app, streaming(app, "?type=a.*&after=0") as stream:
        await served.append("a.b")
        await served.append("a.c", tenant="other")
        await served.append("a.d", tenant="default")
        (told,) = await stream.next(1)

    assert told["type"] == "a.d"


async def test_streams_of_one_caller_are_limited_and_their_places_come_back(
    served: Served, client: httpx2.AsyncClient
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(streaming(client)) for _ in range(MOST_OF_ONE)]
        for stream in held:
            await first_block(stream)
        async with streaming(client) as one_too_many:
            await one_too_many.response.aread()
            assert code_of(one_too_many.response, 503) == "too_many_streams"
    await until(served, 0)

    async with streaming(client) as stream:
        assert (await first_block(stream)).retry


async def test_stream_after_pruned_events_is_refused(
    served: Served, client: httpx2.AsyncClient
) -> None:
    await served.append(*["a.b"] * 9)
    await served.world.journal.write(
        lambda writing: writing.db.execute("DELETE FROM event WHERE seq < 5")
    )

    async with streaming(client, "?after=2") as gone, streaming(client, "?after=99") as ahead:
        assert [gone.response.status_code, ahead.response.status_code] == [410, 410]
        await gone.response.aread()
        assert code_of(gone.response) == "events_gone"
        assert "events 3 to 4 have been pruned" in gone.response.json()["detail"]
    async with streaming(client, "?after=4") as stream:
        assert [one["seq"] for one in await stream.next(5)] == [5, 6, 7, 8, 9]


async def test_head_of_a_stream_is_that_of_the_list(client: httpx2.AsyncClient) -> None:
    answer = await client.head("/v1/events", headers={"Accept": "text/event-stream"})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
