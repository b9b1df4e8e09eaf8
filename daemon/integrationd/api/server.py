"""The HTTP server: an ASGI app behind sockets that are already bound.

It lives inside the daemon's own event loop: it takes no signals, starts no loop, and ends when it
is told to.

Descriptors. The server holds at most ``max_connections`` connections, the refusals that linger, and
one round of accepted ones; :func:`fit_descriptors` keeps that under the process's limit. Should
the process run out all the same, uvloop drops the newest connections and logs nothing, and asyncio
lets them wait and reports thousands of failed accepts a second, here made one line in ten seconds.
"""

import asyncio
import contextlib
import dataclasses
import resource
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import structlog
import uvicorn
from starlette.types import ASGIApp

from integrationd.api.admission import Gate, Limits, SparseLog
from integrationd.api.listeners import BACKLOG
from integrationd.api.protocol import LimitedHttpProtocol

_RESERVED_DESCRIPTORS = 256
_FEWEST_CONNECTIONS = 8
_DATE_REFRESH_S = 1.0
_CANCEL_GRACE_S = 2.0
_ACCEPT_FAILED = "socket.accept() out of system resource"

log = structlog.get_logger("integrationd.api")


class ApiServer:
    """Serves an ASGI app on bound sockets.

    Args:
        app: Answers the requests.
        sockets: Listening sockets; the server closes them.
        limits: What a client may ask; as many connections as there are descriptors for.
    """

    def __init__(
        self, app: ASGIApp, sockets: Sequence[socket.socket], limits: Limits | None = None
    ) -> None:
        self._sockets = list(sockets)
        self._server = _Server(app, self._sockets, fit_descriptors(limits or Limits()))

    def use(self, limits: Limits) -> None:
        """Hold connections that are made from now on to other limits."""
        self._server.use(fit_descriptors(limits))

    async def started(self) -> None:
        """Wait until requests are answered."""
        await self._server.is_started.wait()

    async def serve(self) -> None:
        """Serve until :meth:`close`; when cancelled, drop everything at once."""
        with _quiet_accept_failures():
            try:
                await self._server.serve(self._sockets)
            finally:
                self._server.stop_accepting()
                self._server.drop()
                self._server.is_stopped.set()

    def stop_accepting(self) -> None:
        """Close the listeners and idle connections; requests under way are still answered."""
        self._server.stop_accepting()

    async def close(self, grace_s: float) -> None:
        """Stop accepting, let requests finish, and end :meth:`serve`.

        Args:
            grace_s: Seconds after which what is still under way is cut off.
        """
        self._server.stop_accepting()
        self._server.leave_within(grace_s)
        if self._server.is_started.is_set():
            await self._server.is_stopped.wait()


def fit_descriptors(limits: Limits) -> Limits:
    """Lower ``max_connections`` to what the process's descriptor limit allows, and say so."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = max(_FEWEST_CONNECTIONS, allowed - max(_RESERVED_DESCRIPTORS, allowed // 4))
    if allowed == resource.RLIM_INFINITY or limits.max_connections <= room:
        return limits
    log.warning(
        "max_connections_lowered",
        asked=limits.max_connections,
        used=room,
        descriptors=allowed,
        hint="Raise the limit on open files (LimitNOFILE= in the unit, or ulimit -n).",
    )
    return dataclasses.replace(limits, max_connections=room)


class _Server(uvicorn.Server):
    """uvicorn's server without signals and polling, on our own connections."""

    def __init__(self, app: ASGIApp, sockets: Sequence[socket.socket], limits: Limits) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
            )
        )
        self.server_state = self._gate = Gate(limits)
        self.servers = []
        self._sockets = sockets
        self._grace_s = 0.0
        self._leaving = asyncio.Event()
        self.is_started = asyncio.Event()
        self.is_stopped = asyncio.Event()

    def use(self, limits: Limits) -> None:
        """Hold connections that are made from now on to other limits."""
        self._gate.limits = limits

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to their owner."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve the sockets."""
        if self.should_exit:
            return
        loop = asyncio.get_running_loop()
        for sock in sockets or ():
            if sock.family == socket.AF_UNIX:
                server = await loop.create_unix_server(self._connect, sock=sock, backlog=BACKLOG)
            else:
                server = await loop.create_server(self._connect, sock=sock, backlog=BACKLOG)
            self.servers.append(server)
        self.started = True
        self.is_started.set()

    async def main_loop(self) -> None:
        """Keep the date header right until told to leave."""
        while not await self.on_tick(0):
            with anyio.move_on_after(_DATE_REFRESH_S):
                await self._leaving.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests finish within the grace, then cut them off."""
        self.stop_accepting()
        with anyio.move_on_after(self._grace_s):
            await self._all_answered()
        self.drop()
        with anyio.move_on_after(_CANCEL_GRACE_S):
            await self._all_answered()

    def leave_within(self, grace_s: float) -> None:
        """End the main loop."""
        self._grace_s = grace_s
        self.should_exit = True
        self._leaving.set()

    def stop_accepting(self) -> None:
        """Close the listeners, and every connection after the answers that it is owed."""
        for server in self.servers:
            server.close()
        for sock in self._sockets:
            sock.close()
        for connection in self._connections():
            connection.shutdown()

    def drop(self) -> None:
        """Cut off whatever is still under way."""
        tasks = list(self._gate.tasks)
        if tasks:
            log.warning("requests_cut_off", count=len(tasks))
        for connection in self._connections():
            connection.transport.abort()
        for task in tasks:
            task.cancel()

    async def _all_answered(self) -> None:
        await self._gate.is_empty.wait()
        if self._gate.tasks:
            await asyncio.wait(self._gate.tasks)

    def _connect(self) -> LimitedHttpProtocol:
        return LimitedHttpProtocol(self.config, self._gate)

    def _connections(self) -> list[LimitedHttpProtocol]:
        everyone = (*self._gate.connections, *self._gate.strangers)
        return [each for each in everyone if isinstance(each, LimitedHttpProtocol)]


@contextlib.contextmanager
def _quiet_accept_failures() -> Iterator[None]:
    """Keep asyncio from logging every connection that finds no descriptor."""
    loop = asyncio.get_running_loop()
    earlier = loop.get_exception_handler()
    failures = SparseLog(_tell_accept_failures)

    def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") == _ACCEPT_FAILED:
            failures.note()
        elif earlier is not None:
            earlier(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(on_error)
    try:
        yield
    finally:
        if loop.get_exception_handler() is on_error:
            loop.set_exception_handler(earlier)


def _tell_accept_failures(count: int) -> None:
    log.error(
        "accept_failed",
        count=count,
        reason="no file descriptors left",
        hint="Raise the limit on open files (LimitNOFILE= in the unit, or ulimit -n).",
    )
