"""The transport under every HTTP provider: guarded, pooled, recorded, and it never repeats.

``ConnectError``, ``ConnectTimeout``, ``PoolTimeout``, ``UnsupportedProtocol`` and
``LocalProtocolError`` mean that no byte of the request was written. Every other exception means
that it may have arrived. A pooled connection that was found closed before anything was written on
it is replaced; nothing else is ever tried again. No redirects, cookies, proxies or environment.
"""

import asyncio
import datetime as dt
import functools
import re
import ssl
from collections import deque
from typing import TypeAlias

import httpx2

from integrationd.sdk.exchange import (
    MAX_KEPT_BYTES,
    Exchange,
    Recorder,
    current_recorder,
    readable,
    worth_keeping,
)
from integrationd.sdk.framing import (
    BufferedResponse,
    Outgoing,
    RawHeaders,
    Reply,
    decompressed,
    serialised,
)
from integrationd.sdk.target import Resolve, allowed_addresses, system_addresses
from integrationd.sdk.wire import Connection

MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_CONNECTIONS = 64
IDLE_S = 4.0
MAX_IDLE_S = 60.0
MAX_ADDRESSES_TRIED = 4

_Origin: TypeAlias = tuple[str, str, int]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_KEEP_ALIVE_TIMEOUT = re.compile(rb"timeout\s*=\s*(\d{1,6})", re.IGNORECASE)


class Transport(httpx2.AsyncBaseTransport):
    """Sends requests over pooled HTTP/1.1 connections.

    Args:
        allow_private: Let requests go to private, loopback and link-local addresses.
        tls: What https is spoken with; verified against the usual authorities when None.
        max_connections: Connections to one origin at a time.
        idle_s: Seconds that a connection waits for another request, unless the other side says
            how long it keeps connections. Kept short: a request written on a connection that is
            just being closed may or may not have arrived.
        max_body_bytes: The largest reply body that is read, also when it is decompressed.
        resolve: What turns a host into addresses.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        tls: ssl.SSLContext | None = None,
        max_connections: int = MAX_CONNECTIONS,
        idle_s: float = IDLE_S,
        max_body_bytes: int = MAX_BODY_BYTES,
        resolve: Resolve = system_addresses,
    ) -> None:
        self._allow_private = allow_private
        self._tls = tls
        self._max_connections = max_connections
        self._idle_s = idle_s
        self._max_body_bytes = max_body_bytes
        self._resolve = resolve
        self._pools: dict[_Origin, _Pool] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request and read the whole response.

        Raises:
            httpx2.TransportError: As in the module's description.
            httpx2.DecodingError: The body of the response cannot be decompressed.
        """
        trace = _Trace(request, current_recorder())
        try:
            outgoing = serialised(request)
            reply = trace.reply = await self._send(request, outgoing, trace)
            content = trace.content = decompressed(reply, self._max_body_bytes)
        except BaseException as error:
            if isinstance(error, httpx2.RequestError):
                error.request = request
            trace.end(str(error) or "given up before the reply was complete")
            raise
        response = BufferedResponse(request, reply, content)
        response.elapsed = dt.timedelta(seconds=trace.end(""))
        return response

    async def reach(self, url: httpx2.URL, connect_s: float) -> None:
        """Open a connection to the host of a URL, and close it without a word.

        Args:
            url: Whose host; with https its certificate is verified.
            connect_s: Seconds that it may take.

        Raises:
            httpx2.ConnectError, httpx2.ConnectTimeout: It cannot be reached.
        """
        (await self._connect(_origin(url), connect_s)).close()

    async def aclose(self) -> None:
        """Close the waiting connections; those in use close when their reply is complete."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for pool in self._pools.values():
            pool.close_idle()
        # One turn of the loop lets the closed connections give their sockets back.
        await asyncio.sleep(0)

    async def _send(self, request: httpx2.Request, outgoing: Outgoing, trace: "_Trace") -> Reply:
        timeouts = request.extensions.get("timeout", {})
        origin = _origin(request.url)
        pool = self._pools.get(origin) or self._pools.setdefault(
            origin, _Pool(self._max_connections)
        )
        await pool.acquire(timeouts.get("pool"))
        try:
            connection = pool.take() or await self._connect(origin, timeouts.get("connect"))
            reply = await connection.exchange(
                outgoing,
                on_sent=trace.sent,
                read_s=timeouts.get("read"),
                write_s=timeouts.get("write"),
            )
            self._keep(pool, connection, reply)
            return reply
        finally:
            pool.release()

    def _keep(self, pool: "_Pool", connection: Connection, reply: Reply) -> None:
        if self._is_closed or not connection.is_reusable():
            connection.close()
            return
        loop = asyncio.get_running_loop()
        connection.idle_until = loop.time() + _idle_s(reply.headers, self._idle_s)
        pool.put(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._idle_s, self._sweep)

    def _sweep(self) -> None:
        """Close what has waited too long, and come back while anything waits."""
        waiting = sum(pool.close_stale() for pool in self._pools.values())
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(self._idle_s, self._sweep) if waiting else None

    async def _connect(self, origin: _Origin, connect_s: float | None) -> Connection:
        _, host, port = origin
        try:
            async with asyncio.timeout(connect_s):
                addresses = await allowed_addresses(
                    host, port, allow_private=self._allow_private, resolve=self._resolve
                )
                return await self._dial(origin, addresses[:MAX_ADDRESSES_TRIED], connect_s)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(f"no connection to {host}:{port} in time") from error
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(f"no connection to {host}:{port}: {error}") from error

    async def _dial(
        self, origin: _Origin, addresses: list[str], connect_s: float | None
    ) -> Connection:
        """Try one address after the other; each gets its share of the time."""
        scheme, host, port = origin
        share_s = None if connect_s is None else connect_s / len(addresses)
        tls = (self._tls or default_tls()) if scheme == "https" else None
        failure: OSError | None = None
        for address in addresses:
            try:
                async with asyncio.timeout(share_s):
                    _, connection = await asyncio.get_running_loop().create_connection(
                        lambda: Connection(self._max_body_bytes),
                        address,
                        port,
                        ssl=tls,
                        server_hostname=host.rstrip(".") if tls else None,
                    )
                    return connection
            except OSError as error:
                failure = error
        raise failure or OSError(f"{host} has no address")


class _Pool:
    """The connections to one origin; the one used last is taken first."""

    def __init__(self, max_connections: int) -> None:
        self._idle: deque[Connection] = deque()
        self._slots = asyncio.Semaphore(max_connections)
        self._max_connections = max_connections

    def release(self) -> None:
        self._slots.release()

    def take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh():
                return connection
            connection.close()
        return None

    def put(self, connection: Connection) -> None:
        self._idle.append(connection)

    def close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def close_stale(self) -> int:
        """Close what has waited too long and return how many go on waiting."""
        waiting = list(self._idle)
        self._idle.clear()
        for connection in waiting:
            if connection.is_fresh():
                self._idle.append(connection)
            else:
                connection.close()
        return len(self._idle)

    async def acquire(self, pool_s: float | None) -> None:
        """Wait for the right to one connection."""
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(pool_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise httpx2.PoolTimeout(
                f"all {self._max_connections} connections were busy for {pool_s:g} s"
            ) from error


class _Trace:
    """One exchange in the making."""

    __slots__ = ("content", "is_sent", "recorder", "reply", "request", "started_at")

    def __init__(self, request: httpx2.Request, recorder: Recorder | None) -> None:
        self.request = request
        self.recorder = recorder
        self.reply: Reply | None = None
        self.content = b""
        self.is_sent = False
        self.started_at = asyncio.get_running_loop().time()

    def sent(self) -> None:
        """Tell that the first byte is about to be written."""
        self.is_sent = True
        if self.recorder is not None:
            self.recorder.on_sent()

    def end(self, error: str) -> float:
        """Record the exchange and return how many seconds it took."""
        taken_s = asyncio.get_running_loop().time() - self.started_at
        if self.recorder is not None:
            self.recorder.exchanges.append(self._exchange(error, taken_s * 1000))
        return taken_s

    def _exchange(self, error: str, duration_ms: float) -> Exchange:
        request, reply = self.request, self.reply
        body = request.read() if isinstance(request.stream, httpx2.ByteStream) else b""
        return Exchange(
            method=request.method,
            url=str(request.url),
            request_headers=readable(request.headers.raw),
            request_body=body[:MAX_KEPT_BYTES],
            request_bytes=len(body),
            status=None if reply is None else reply.status,
            response_headers=worth_keeping(reply.headers) if reply is not None else (),
            response_body=self.content[:MAX_KEPT_BYTES],
            response_bytes=len(self.content),
            duration_ms=duration_ms,
            error=error,
            sent=self.is_sent,
        )


@functools.cache
def default_tls() -> ssl.SSLContext:
    """Return the TLS context of everyone: verified, TLS 1.2 at least, no key log.

    It trusts the system's authorities, or those of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``.
    """
    # Not create_default_context(), which would log session keys to SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _origin(url: httpx2.URL) -> _Origin:
    scheme = url.scheme
    host = url.raw_host.decode("ascii")
    port = url.port
    if port is None:
        port = _DEFAULT_PORTS.get(scheme, 0)
    if scheme not in _DEFAULT_PORTS or not host:
        raise httpx2.UnsupportedProtocol(f"{url} is not an http:// or https:// address")
    return scheme, host, port


def _idle_s(headers: RawHeaders, default_s: float) -> float:
    """Return how long the connection may wait: as the other side says, less a margin."""
    for name, value in headers:
        if name.lower() == b"keep-alive":
            hint = _KEEP_ALIVE_TIMEOUT.search(value)
            if hint is not None:
                return min(max(int(hint[1]) - 1.0, 0.0), MAX_IDLE_S)
    return default_s
