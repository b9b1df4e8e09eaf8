"""One HTTP/1.1 connection: it writes one request at a time and reads the reply to it.

A connection on which anything was out of order, or on which a request or its reply is incomplete,
is closed and never used again. What went wrong is told apart by the exception:
``WriteError``, ``WriteTimeout``: while the request was being written; ``ReadTimeout``: the other
side fell silent; ``ReadError``: the connection broke; ``RemoteProtocolError``: it was closed
before the reply was complete, or the reply is not HTTP.
"""

import asyncio
import select
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import cast

import httptools
import httpx2

from integrationd.sdk.framing import (
    BrokenReplyError,
    Outgoing,
    RawHeaders,
    Reply,
    ReplyTooLargeError,
)

MAX_HEAD_BYTES = 64 * 1024
SLICE_BYTES = 128 * 1024


class Connection(asyncio.Protocol):
    """A connection to one origin.

    Args:
        max_body_bytes: The largest reply body that is read.

    Attributes:
        is_open: Whether neither side has closed it.
        idle_until: Loop time in seconds until which it may wait for another request.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self.is_open = False
        self.idle_until = 0.0
        self._max_body_bytes = max_body_bytes
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._readable = select.poll()
        self._answered: asyncio.Future[Exception | None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_paused = False
        self._begin(has_reply_body=True)

    # The caller's side.

    async def exchange(
        self,
        request: Outgoing,
        *,
        on_sent: Callable[[], None],
        read_s: float | None,
        write_s: float | None,
    ) -> Reply:
        """Send one request and return the reply; on any exception the connection is closed.

        Args:
            request: What to send.
            on_sent: Called just before the first byte is written.
            read_s: Seconds for which the other side may be silent.
            write_s: Seconds for which it may refuse to take more of the request.

        Raises:
            httpx2.ConnectError: It was closed before anything was written.
            httpx2.TransportError: As in the module's description.
        """
        if not self.is_open:
            raise httpx2.ConnectError("the connection was closed before the request was written")
        self._begin(request.has_reply_body)
        answered = self._answered = self._loop.create_future()
        try:
            on_sent()
            await self._write(request, write_s)
            error = await self._outcome(answered, read_s)
        except BaseException:
            self.close()
            raise
        finally:
            self._answered = None
        if error is not None:
            self.close()
            raise error
        return Reply(status=self._status, headers=self._headers, body=bytes(self._body))

    def is_reusable(self) -> bool:
        """Say whether the last exchange left the connection in order."""
        return self.is_open and self._keeps_alive and self._is_written and self._is_flushed()

    def is_fresh(self) -> bool:
        """Say whether it may take a request now: open, not idle for long, nothing unread."""
        return self.is_open and self._loop.time() < self.idle_until and not self._readable.poll(0)

    def close(self) -> None:
        """Close at once; what was not yet written is dropped."""
        self.is_open = False
        self._transport.abort()

    def _begin(self, has_reply_body: bool) -> None:
        self._has_reply_body = has_reply_body
        self._status = 0
        self._headers: RawHeaders = []
        self._body = bytearray()
        self._received_bytes = 0
        self._heard_at = self._loop.time()
        self._is_headed = False
        self._is_done = False
        self._is_written = False
        self._keeps_alive = False

    async def _write(self, request: Outgoing, write_s: float | None) -> None:
        body = request.body
        if isinstance(body, bytes) and len(body) <= SLICE_BYTES:
            self._transport.write(request.head + body)
            self._is_written = True
            return
        self._transport.write(request.head)
        pieces = _sliced(body) if isinstance(body, bytes) else _framed(body, request)
        try:
            async for piece in pieces:
                self._transport.write(piece)
                if self._is_paused:
                    await self._drain(write_s)
                if not self._is_waited_for():
                    return
        finally:
            await pieces.aclose()
        self._is_written = True

    async def _drain(self, write_s: float | None) -> None:
        """Wait until more can be written, or until there is no point in it any more."""
        self._drained = self._loop.create_future()
        timer = None if write_s is None else self._loop.call_later(write_s, self._stop_writing)
        try:
            await self._drained
        finally:
            self._drained = None
            if timer is not None:
                timer.cancel()

    async def _outcome(
        self, answered: asyncio.Future[Exception | None], read_s: float | None
    ) -> Exception | None:
        if answered.done() or read_s is None:
            return await answered
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(read_s, self._check_silence, read_s)
        try:
            return await answered
        finally:
            self._timer.cancel()

    def _is_waited_for(self) -> bool:
        return self._answered is not None and not self._answered.done()

    def _is_flushed(self) -> bool:
        return self._transport.get_write_buffer_size() == 0

    def _settle(self, error: Exception | None) -> None:
        """Wake the caller; only the first answer counts."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(error)
        self._wake_writer()

    def _wake_writer(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _stop_writing(self) -> None:
        self._settle(httpx2.WriteTimeout("the other side stopped taking the request"))

    def _check_silence(self, read_s: float) -> None:
        left_s = self._heard_at + read_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._check_silence, read_s)
        elif self._is_headed:
            self._settle(httpx2.ReadTimeout(f"the reply stopped coming for {read_s:g} s"))
        else:
            self._settle(httpx2.ReadTimeout(f"no reply within {read_s:g} s"))

    # The event loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from the event loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Read on; data that nobody asked for ends the connection."""
        if self._is_done or not self._is_waited_for():
            self.close()
            return
        self._heard_at = self._loop.time()
        self._received_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._refuse(f"the reply is not valid HTTP ({error})")
        if not self._is_done:
            self._check_size()

    def eof_received(self) -> None:
        """End the reply if only the end of the connection ends it."""
        self.is_open = False
        if self._is_headed and not self._is_done and self._ends_by_close():
            self._finish(keeps_alive=False)
        self._settle(self._loss(None))
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the caller, if there is one."""
        self.is_open = False
        self._settle(self._loss(exc))

    def pause_writing(self) -> None:
        """Note that the other side does not keep up."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Write on."""
        self._is_paused = False
        self._wake_writer()

    # The parser's side.

    def on_message_begin(self) -> None:
        """Notice a second reply to one request."""
        if self._is_done:
            self._keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are dropped."""
        if not self._is_headed:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Learn the status; the reply to HEAD ends here."""
        status = self._parser.get_status_code()
        if self._is_done or 100 <= status < 200:
            return
        self._status = status
        self._is_headed = True
        if not self._has_reply_body:
            self._finish(self._parser.should_keep_alive())
            self._parser = httptools.HttpResponseParser(self)

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        if self._is_done:
            self._keeps_alive = False
        else:
            self._body += data

    def on_message_complete(self) -> None:
        """End the reply, or drop an interim one."""
        if self._is_done:
            return
        if self._is_headed:
            self._finish(self._parser.should_keep_alive())
        else:
            self._headers.clear()

    def _finish(self, keeps_alive: bool) -> None:
        self._is_done = True
        self._keeps_alive = keeps_alive
        self._settle(None)

    def _refuse(self, reason: str) -> None:
        """Give the reply up; if it was complete already, only the connection."""
        self._settle(BrokenReplyError(reason, reason="garbled_reply", status=self._known_status()))
        self.close()

    def _check_size(self) -> None:
        if not self._is_headed:
            limit, what = MAX_HEAD_BYTES, "the head of the reply is"
            size = self._received_bytes
        else:
            limit, what = self._max_body_bytes, "the reply is"
            size = max(len(self._body), self._received_bytes // 2 - MAX_HEAD_BYTES)
        if size > limit:
            message = f"{what} larger than {limit} bytes"
            self._settle(ReplyTooLargeError(message, status=self._known_status()))
            self.close()

    def _known_status(self) -> int | None:
        return self._status if self._is_headed else None

    def _ends_by_close(self) -> bool:
        stated = {name.lower(): value for name, value in self._headers}
        coding = stated.get(b"transfer-encoding")
        if coding is not None:
            return coding.rpartition(b",")[2].strip().lower() != b"chunked"
        return b"content-length" not in stated

    def _loss(self, exc: Exception | None) -> Exception:
        if exc is None and (self._received_bytes or self._is_headed):
            message = "the reply was cut in the middle"
            return BrokenReplyError(message, reason="cut_reply", status=self._known_status())
        if exc is None:
            message = "the connection was closed without a reply"
            return BrokenReplyError(message, reason="connection_lost")
        broken = httpx2.ReadError if self._is_written else httpx2.WriteError
        error = broken(f"the connection broke: {exc}")
        error.__cause__ = exc
        return error


async def _sliced(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), SLICE_BYTES):
        yield body[start : start + SLICE_BYTES]


async def _framed(chunks: AsyncIterable[bytes], request: Outgoing) -> AsyncGenerator[bytes, None]:
    """Frame a streamed body as its head announced it.

    Raises:
        httpx2.WriteError: It is longer or shorter than announced.
    """
    written = 0
    iterator = aiter(chunks)
    try:
        async for chunk in iterator:
            written += len(chunk)
            if request.length is not None and written > request.length:
                raise httpx2.WriteError("the body is longer than its Content-Length")
            if chunk:
                yield b"%x\r\n%b\r\n" % (len(chunk), chunk) if request.is_chunked else chunk
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()
    if request.length is not None and written < request.length:
        raise httpx2.WriteError("the body is shorter than its Content-Length")
    if request.is_chunked:
        yield b"0\r\n\r\n"
