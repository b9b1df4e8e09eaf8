"""HTTP/1.1 connections that nobody can hold open, or fill, without limit.

uvicorn's protocol, plus a deadline for whatever the client owes (first byte, headers, body, taking
the answer) and a limit on whatever it sends. What goes over is refused as a problem, in its turn
behind the answers that are still owed, and the connection is closed. A refused client may send on
for a moment, unheard, so that it finds the refusal and not a reset.
"""

import asyncio
import contextlib
import enum
import math
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import httptools
import structlog
from starlette.requests import ClientDisconnect
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from integrationd.api.admission import Gate, Peer, peer_at
from integrationd.api.body import ClientGoneError
from integrationd.api.problems import Problem
from integrationd.api.refusals import (
    ENCODING_REFUSED,
    FAILED,
    METHOD_REFUSED,
    PIPELINE_FULL,
    TARGET_REFUSED,
    TOO_MANY_CONNECTIONS,
    UPGRADE_REFUSED,
    VERSION_REFUSED,
    RefusedError,
    as_response,
    body_too_large,
    malformed,
    too_long,
    too_slow,
)

_PEER = "integrationd.peer"
_SLICE_BYTES = 8192
_NOTED = frozenset({b"content-length", b"transfer-encoding", b"expect"})
_REFUSED_METHODS = frozenset({b"TRACE", b"CONNECT"})
_VERSIONS = frozenset({"1.0", "1.1"})
_App: TypeAlias = Callable[..., Awaitable[None]]
_ASGI = {"version": "3.0", "spec_version": "2.3"}

log = structlog.get_logger("integrationd.api")


def peer_of(scope: Mapping[str, Any]) -> Peer | None:
    """Return who sent a request; None when it did not come over a Unix socket."""
    peer: Peer | None = scope.get("extensions", {}).get(_PEER)
    return peer


class _Phase(enum.Enum):
    """What is being read: nothing, a request line and headers, or a body."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


# Looked up several times a request, and an enum's attributes are slow to find.
_IDLE, _HEAD, _BODY = _Phase


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection.

    Deadlines cost one timer a connection: it is armed for the earliest deadline ever asked, looks
    at the present one when it fires, and sleeps again if that is later.

    Args:
        config: uvicorn's settings.
        gate: What it shares with the server's other connections.
    """

    def __init__(self, config: Config, gate: Gate) -> None:
        super().__init__(config=config, server_state=gate, app_state={})
        self._gate = gate
        self._limits = gate.limits
        self._extensions: dict[str, Any] | None = None
        self._phase = _IDLE
        self._timed_phase: _Phase | None = None
        self._unfinished_bytes = 0
        self._body_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._refusal: Problem | None = None
        self._is_leaving = False
        self._read_by = self._write_by = self._timer_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Let the connection in, or turn it away."""
        super().connection_made(transport)
        if not self._gate.admits_one():
            self.connections.discard(self)
            self._answer_refusal(TOO_MANY_CONNECTIONS)
            if not self._gate.lets_linger(self):
                self._close()
            return
        self._extensions = {_PEER: peer} if (peer := peer_at(transport)) else None
        self._expect_within(self._limits.first_byte_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the app, and forget the connection."""
        super().connection_lost(exc)
        self._disconnect(self._answering)
        self.pipeline.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._gate.leave(self)

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn narrows asyncio's bool to None
        """Stay for the answer when a client has closed its half; a stream's reader has gone."""
        if self._phase is _IDLE and self._is_answering() and not self.cycle.response_started:
            self.cycle.keep_alive = False
            return True
        return False

    def pause_writing(self) -> None:
        """Give the client a limited time to take what was written."""
        super().pause_writing()
        self._write_by = self.loop.time() + self._limits.write_s
        self._arm(self._write_by)

    def resume_writing(self) -> None:
        """Go on when the client has taken it."""
        super().resume_writing()
        self._write_by = math.inf

    def shutdown(self) -> None:
        """Answer the requests under way, then close."""
        self._is_leaving = True
        if self._is_answering():
            self.cycle.keep_alive = False
        elif self._phase is not _HEAD:
            self._close()

    def data_received(self, data: bytes | memoryview) -> None:
        """Parse what came, in slices small enough to stop in time."""
        if self._refusal is not None:
            return
        if len(data) > _SLICE_BYTES:
            view = memoryview(data)
            for start in range(0, len(data), _SLICE_BYTES):
                self.data_received(view[start : start + _SLICE_BYTES])
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(_problem_in(error))
            return
        if self._phase is not _IDLE:
            self._watch_unfinished(len(data))

    def on_message_begin(self) -> None:
        """Start a request."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._phase = _HEAD
        self._timed_phase = None
        self._unfinished_bytes = self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Collect the request target."""
        self.url += url
        limit = self._limits.max_target_bytes
        if len(self.url) > limit:
            raise RefusedError(too_long(414, "request target", limit, "bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header."""
        name = name.lower()
        if name in _NOTED:
            self._note_header(name, value)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Hand the request to the app, if it may be served."""
        version, method = self.parser.get_http_version(), self.parser.get_method()
        self._check_head(version, method)
        cycle = RequestResponseCycle(
            scope=self._scope(version, method),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version == "1.1"
            and not self._is_leaving
            and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self.cycle = cycle
        self._phase = _BODY
        # Trailers must not turn into headers under the app's eyes.
        self.headers = []
        if self._is_answering():
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        else:
            self._start_asgi_task(cycle, self.app)

    def on_body(self, body: bytes) -> None:
        """Count the body while it arrives; a chunked one declares no length."""
        self._unfinished_bytes = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            raise RefusedError(body_too_large(self._limits.max_body_bytes))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Owe nothing more until the answer is complete."""
        self._phase = _IDLE
        self._read_by = math.inf
        cycle = self.cycle
        if cycle.response_complete:
            self._expect_within(self._limits.keep_alive_s)
            return
        cycle.more_body = False
        cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Turn to the next request, the refusal that had to wait, or the next idle time."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._expect_within(self._limits.write_s)
        elif self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._answer_refusal(self._refusal)
        else:
            self.flow.resume_reading()
            if self._phase is _IDLE:
                self._expect_within(self._limits.keep_alive_s)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: _App) -> None:
        self._answering = cycle
        task = self.loop.create_task(self._answer(cycle, app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, cycle: RequestResponseCycle, app: _App) -> None:
        """Run the app; a client that went away is nothing to speak of."""
        try:
            await app(cycle.scope, cycle.receive, cycle.send)
            if not (cycle.response_complete or cycle.disconnected):
                log.error("request_unanswered", path=cycle.scope["path"])
        except (ClientGoneError, ClientDisconnect):
            pass
        except Exception:
            log.exception("request_failed", path=cycle.scope["path"])
        finally:
            if not (cycle.response_complete or cycle.disconnected):
                self._give_up(cycle)
            # It would keep the connection alive.
            cycle.on_response = lambda: None

    def _give_up(self, cycle: RequestResponseCycle) -> None:
        """Close a connection whose request got no full answer."""
        cycle.disconnected = True
        self.pipeline.clear()
        if cycle.response_started:
            self._close()
        else:
            self._answer_refusal(FAILED)

    def _watch_unfinished(self, size: int) -> None:
        """Hold a request that is not complete yet to its deadline and its size."""
        limits = self._limits
        if self._phase is not self._timed_phase:
            self._timed_phase = self._phase
            self._unfinished_bytes = 0
            self._expect_within(self._time_for_phase())
        # Of a body, these are the bytes since it last grew: chunk extensions and trailers.
        self._unfinished_bytes += size
        # A slice may have begun with the end of an earlier request.
        if self._unfinished_bytes > limits.max_header_bytes + _SLICE_BYTES:
            self._refuse(too_long(431, "header", limits.max_header_bytes, "bytes"))
        elif self._phase is _HEAD and len(self.headers) > limits.max_headers:
            self._refuse(too_long(431, "header", limits.max_headers, "lines"))

    def _time_for_phase(self) -> float:
        return self._limits.header_s if self._phase is _HEAD else self._limits.body_s

    def _note_header(self, name: bytes, value: bytes) -> None:
        if self._phase is _BODY:
            return
        if name == b"content-length":
            # The parser has let digits pass only.
            if int(value) > self._limits.max_body_bytes:
                raise RefusedError(body_too_large(self._limits.max_body_bytes))
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif value.lower() != b"chunked":
            raise RefusedError(ENCODING_REFUSED)

    def _scope(self, version: str, method: bytes) -> Any:
        """Return the request as ASGI knows it."""
        try:
            target = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            raise RefusedError(TARGET_REFUSED) from None
        path = (target.path or b"").decode("ascii")
        if not path.startswith("/"):  # an asterisk, or an origin alone
            raise RefusedError(TARGET_REFUSED)
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": "http",
            "method": method.decode("ascii"),
            "root_path": "",
            "path": urllib.parse.unquote(path) if "%" in path else path,
            "raw_path": target.path,
            "query_string": target.query or b"",
            "headers": self.headers,
        }
        if self._extensions is not None:
            scope["extensions"] = self._extensions
        return scope

    def _check_head(self, version: str, method: bytes) -> None:
        limits = self._limits
        if len(self.headers) > limits.max_headers:
            raise RefusedError(too_long(431, "header", limits.max_headers, "lines"))
        # Zero for a head that came in one slice, as nearly all do.
        if self._unfinished_bytes and _size(self.headers) > limits.max_header_bytes:
            raise RefusedError(too_long(431, "header", limits.max_header_bytes, "bytes"))
        if method in _REFUSED_METHODS:
            raise RefusedError(METHOD_REFUSED)
        if self.parser.should_upgrade():
            raise RefusedError(UPGRADE_REFUSED)
        if version not in _VERSIONS:
            raise RefusedError(VERSION_REFUSED)
        if len(self.pipeline) >= limits.max_pipelined:
            raise RefusedError(PIPELINE_FULL)

    def _refuse(self, told: Problem) -> None:
        """Read nothing more; refuse when the answers that come first are out."""
        self._refusal = told
        self._read_by = math.inf
        is_half_read, self._phase = self._phase is _BODY, _IDLE
        if is_half_read and self.pipeline:
            # The newest one, whose app has not begun.
            self.pipeline.popleft()
        elif is_half_read and self._answering is not None:
            self._interrupt(self._answering, told)
            return
        if not self._is_answering():
            self._answer_refusal(told)

    def _interrupt(self, cycle: RequestResponseCycle, told: Problem) -> None:
        """Refuse the request that an app is reading; the app finds its client gone."""
        self._disconnect(cycle)
        if not cycle.response_started:
            self._answer_refusal(told)
        elif cycle.response_complete:
            self._linger()
        else:
            self.transport.abort()

    def _answer_refusal(self, told: Problem) -> None:
        self._refusal = told
        if not self.transport.is_closing():
            self.transport.write(as_response(told, self.server_state.default_headers))
        self._linger()

    def _linger(self) -> None:
        """Close our half; the client has a moment to read before the rest follows."""
        self.flow.resume_reading()
        with contextlib.suppress(OSError):
            self.transport.write_eof()
        self._expect_within(self._limits.linger_s)

    def _close(self) -> None:
        """Close when what was written is taken, or when its time is over."""
        self.transport.close()
        self._expect_within(self._limits.write_s)

    def _is_answering(self) -> bool:
        cycle = self._answering
        return cycle is not None and not (cycle.response_complete or cycle.disconnected)

    @staticmethod
    def _disconnect(cycle: RequestResponseCycle | None) -> None:
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()

    def _expect_within(self, seconds: float) -> None:
        self._read_by = self.loop.time() + seconds
        self._arm(self._read_by)

    def _arm(self, at: float) -> None:
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(at, self._on_timer)
            self._timer_at = at

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = self.loop.time()
        if now >= self._write_by:
            self.transport.abort()
        elif now >= self._read_by:
            self._expire()
        else:
            self._arm(min(self._read_by, self._write_by))

    def _expire(self) -> None:
        if self._refusal is not None or self.transport.is_closing():
            self.transport.abort()
        elif self._phase is _IDLE:
            self._close()
        elif self.flow.read_paused:
            # We do not let the client send: its time starts again.
            self._expect_within(self._time_for_phase())
        else:
            part = "headers" if self._phase is _HEAD else "body"
            self._refuse(too_slow(part, self._time_for_phase()))


def _size(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _problem_in(error: httptools.HttpParserError) -> Problem:
    """Tell our own refusals from what the parser cannot read, and both from a fault of ours."""
    cause = error.__context__
    if isinstance(cause, RefusedError):
        return cause.problem
    if cause is None:
        return malformed(error)
    log.error("request_failed", exc_info=cause)
    return FAILED
