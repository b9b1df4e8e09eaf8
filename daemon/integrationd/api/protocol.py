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
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import httptools
import structlog
from starlette.requests import ClientDisconnect
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from integrationd.api.body import ClientGoneError, too_large
from integrationd.api.listeners import Gate, Peer, peer_at
from integrationd.api.problems import Problem, problem, problem_of

_PEER = "integrationd.peer"
_SLICE_BYTES = 8192
_NOTED = frozenset({b"content-length", b"transfer-encoding", b"expect"})
_REFUSED_METHODS = frozenset({b"TRACE", b"CONNECT"})
_ALLOW = (b"allow", b"DELETE, GET, HEAD, OPTIONS, POST, PUT")

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


class _RefusedError(Exception):
    """Raised inside the parser's callbacks to stop it."""

    def __init__(self, told: Problem) -> None:
        super().__init__(told.detail)
        self.problem = told


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
            self._turn_away()
            return
        peer = peer_at(transport)
        self._extensions = None if peer is None else {_PEER: peer}
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
        """Stay for the answer when a client has sent its request and closed its half."""
        if self._phase is _IDLE and self._is_answering():
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

    def data_received(self, data: bytes) -> None:
        """Parse what came, in slices small enough to stop in time."""
        if len(data) <= _SLICE_BYTES:
            self._parse(data)
            return
        view = memoryview(data)
        for start in range(0, len(data), _SLICE_BYTES):
            self._parse(view[start : start + _SLICE_BYTES])

    def on_message_begin(self) -> None:
        """Start a request."""
        super().on_message_begin()
        self._phase = _HEAD
        self._timed_phase = None
        self._unfinished_bytes = self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Collect the request target."""
        self.url += url
        if len(self.url) > self._limits.max_target_bytes:
            raise _RefusedError(
                _too_long(414, "request target", self._limits.max_target_bytes, "bytes")
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header."""
        name = name.lower()
        if name in _NOTED:
            self._note_header(name, value)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Hand the request to the app, if it may be served."""
        self._check_head()
        if self._extensions is not None:
            self.scope["extensions"] = self._extensions
        super().on_headers_complete()
        self._phase = _BODY
        # Trailers must not turn into headers under the app's eyes.
        self.headers = []
        if self._is_leaving:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Count the body while it arrives; a chunked one declares no length."""
        self._unfinished_bytes = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            raise _RefusedError(problem_of(too_large(self._limits.max_body_bytes)))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Owe nothing more until the answer is complete."""
        super().on_message_complete()
        self._phase = _IDLE
        self._read_by = math.inf
        if self.cycle.response_complete:
            self._expect_within(self._limits.keep_alive_s)

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

    def _start_asgi_task(
        self, cycle: RequestResponseCycle, app: Callable[..., Awaitable[None]]
    ) -> None:
        self._answering = cycle
        task = self.loop.create_task(self._answer(cycle, app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(
        self, cycle: RequestResponseCycle, app: Callable[..., Awaitable[None]]
    ) -> None:
        """Run the app; a client that went away is nothing to speak of."""
        try:
            await app(cycle.scope, cycle.receive, cycle.send)
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
            self._answer_refusal(_FAILED)

    def _parse(self, data: bytes | memoryview) -> None:
        if self._refusal is not None:
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(_problem_in(error))
            return
        if self._phase is not _IDLE:
            self._watch_unfinished(len(data))

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
            self._refuse(_too_long(431, "header", limits.max_header_bytes, "bytes"))
        elif self._phase is _HEAD and len(self.headers) > limits.max_headers:
            self._refuse(_too_long(431, "header", limits.max_headers, "lines"))

    def _time_for_phase(self) -> float:
        return self._limits.header_s if self._phase is _HEAD else self._limits.body_s

    def _note_header(self, name: bytes, value: bytes) -> None:
        if self._phase is _BODY:
            return
        if name == b"content-length":
            # The parser has let digits pass only.
            if int(value) > self._limits.max_body_bytes:
                raise _RefusedError(problem_of(too_large(self._limits.max_body_bytes)))
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif value.lower() != b"chunked":
            raise _RefusedError(
                problem(
                    400,
                    "transfer_encoding",
                    "no transfer encoding but chunked is understood",
                    hint="Send the body as it is, with a Content-Length.",
                )
            )

    def _check_head(self) -> None:
        limits = self._limits
        parser = self.parser
        if len(self.headers) > limits.max_headers:
            raise _RefusedError(_too_long(431, "header", limits.max_headers, "lines"))
        # Zero for a head that came in one slice, as nearly all do.
        if self._unfinished_bytes and self._head_bytes() > limits.max_header_bytes:
            raise _RefusedError(_too_long(431, "header", limits.max_header_bytes, "bytes"))
        if parser.get_method() in _REFUSED_METHODS:
            raise _RefusedError(_METHOD_REFUSED)
        if parser.should_upgrade():
            raise _RefusedError(_UPGRADE_REFUSED)
        if parser.get_http_version() not in ("1.1", "1.0"):
            raise _RefusedError(_VERSION_REFUSED)
        if len(self.pipeline) >= limits.max_pipelined:
            raise _RefusedError(_PIPELINE_FULL)

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

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

    def _turn_away(self) -> None:
        self._refusal = _TOO_MANY_CONNECTIONS
        if self._gate.lets_linger(self):
            self._answer_refusal(self._refusal)
            return
        self._write_refusal(self._refusal)
        self._close()

    def _answer_refusal(self, told: Problem) -> None:
        self._refusal = told
        self._write_refusal(told)
        self._linger()

    def _write_refusal(self, told: Problem) -> None:
        if self.transport.is_closing():
            return
        fields = [*self.server_state.default_headers, *told.headers(), (b"connection", b"close")]
        if told.status == HTTPStatus.METHOD_NOT_ALLOWED:
            fields.append(_ALLOW)
        lines = [b"HTTP/1.1 %d %s" % (told.status, told.title.encode())]
        lines += [name + b": " + value for name, value in fields]
        self.transport.write(b"\r\n".join([*lines, b"", told.body()]))

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
            seconds = self._time_for_phase()
            self._refuse(
                problem(
                    408,
                    "request_timeout",
                    f"the request's {part} did not arrive within {seconds:g} s",
                    hint="Send the request again, in one go.",
                )
            )


def _problem_in(error: httptools.HttpParserError) -> Problem:
    """Tell our own refusals from what the parser cannot read."""
    cause = error.__context__
    if isinstance(cause, _RefusedError):
        return cause.problem
    reason = "its target cannot be read" if cause is not None else str(error)
    return problem(400, "malformed_request", f"this is not a valid HTTP/1.1 request: {reason}")


def _too_long(status: int, what: str, limit: int, unit: str) -> Problem:
    return problem(
        status, "request_too_long", f"the {what} is over {limit} {unit}", hint="Send less of it."
    )


_METHOD_REFUSED = problem(405, "method_not_allowed", "TRACE and CONNECT are not possible here")
_UPGRADE_REFUSED = problem(
    400, "no_upgrade", "this server speaks HTTP/1.1 only", hint="Leave the Upgrade header out."
)
_VERSION_REFUSED = problem(400, "http_version", "this server speaks HTTP/1.1 only")
_PIPELINE_FULL = problem(
    429,
    "pipeline_full",
    "too many requests were sent on one connection without waiting for their answers",
    hint="Read the answers first, then send this and the following requests again.",
)
_TOO_MANY_CONNECTIONS = problem(
    503,
    "too_many_connections",
    "too many connections are open",
    hint="Close connections that are not needed, or wait a moment.",
    retry_after_s=1,
)
_FAILED = problem(
    500, "internal", "The daemon failed to answer.", hint="The log says what happened."
)
