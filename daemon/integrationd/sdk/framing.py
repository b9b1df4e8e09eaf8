"""Requests as bytes and bytes as responses: what HTTP/1.1 asks for, and no input or output.

Invariant: what would let a value break out of its header or its body is refused here.
"""

import re
import zlib
from collections.abc import AsyncIterable
from typing import Any, Literal, TypeAlias

import httpx2
import msgspec

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]
BrokenReply: TypeAlias = Literal["connection_lost", "cut_reply", "garbled_reply"]

_HEAD = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-~]+ HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\x00-\x08\x0a-\x1f\x7f]*\r\n)*\r\n"
)
_ZLIB_CODINGS = frozenset({b"gzip", b"x-gzip", b"deflate"})


class BrokenReplyError(httpx2.RemoteProtocolError):
    """The other side closed the connection too early, or what it sent is not HTTP.

    Attributes:
        reason: ``connection_lost``: no reply at all; ``cut_reply``: it ends in the middle;
            ``garbled_reply``: it is not HTTP.
        status: The status of the reply, if that much of it came.
    """

    def __init__(self, message: str, *, reason: BrokenReply, status: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status


class ReplyTooLargeError(httpx2.ReadError):
    """The reply is larger than anyone would keep; the rest of it was not read.

    Attributes:
        status: The status of the reply, if that much of it came.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it goes over the wire.

    Attributes:
        head: Request line and headers with the empty line after them.
        body: The bytes, or where they come from.
        is_chunked: Whether the body is framed in chunks; else the head states its length.
        has_reply_body: False for HEAD.
        length: The stated length, None if it is chunked.
    """

    head: bytes
    body: bytes | AsyncIterable[bytes]
    is_chunked: bool
    has_reply_body: bool
    length: int | None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A complete reply, its body as it was sent."""

    status: int
    headers: RawHeaders
    body: bytes


class BufferedResponse(httpx2.Response):
    """A response that was read to its end before anyone sees it."""

    def __init__(self, request: httpx2.Request, reply: Reply, content: bytes) -> None:
        super().__init__(
            reply.status,
            headers=reply.headers,
            stream=httpx2.ByteStream(reply.body),
            request=request,
        )
        self._content = content

    def json(self, **kwargs: Any) -> Any:
        """Return the body as JSON.

        Raises:
            ValueError: It is not JSON, or nested too deeply to be read.
        """
        try:
            return super().json(**kwargs)
        except RecursionError:
            raise ValueError("the JSON of the reply is nested too deeply") from None


def serialised(request: httpx2.Request) -> Outgoing:
    """Serialise a request.

    Raises:
        httpx2.LocalProtocolError: It cannot be sent as it stands.
    """
    headers = request.headers.raw
    lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
    target = request.url.raw_path
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (request.method.encode(), target, lines)
    # A value with a line break in it may look like two headers, so the lines are counted as well.
    if not _HEAD.fullmatch(head) or head.count(b"\n") != len(headers) + 2:
        raise httpx2.LocalProtocolError(
            "the method, the path or a header contains a character that HTTP does not allow"
        )
    body = _body_of(request)
    length, is_chunked = _framing(headers, body)
    return Outgoing(
        head=head,
        body=body,
        length=length,
        is_chunked=is_chunked,
        has_reply_body=request.method != "HEAD",
    )


def _body_of(request: httpx2.Request) -> bytes | httpx2.AsyncByteStream:
    stream = request.stream
    if isinstance(stream, httpx2.ByteStream):
        return request.read()
    if isinstance(stream, httpx2.AsyncByteStream):
        return stream
    raise httpx2.LocalProtocolError("the body must be bytes or an asynchronous stream")


def _framing(headers: RawHeaders, body: bytes | httpx2.AsyncByteStream) -> tuple[int | None, bool]:
    """Return the announced length of the body, and whether it is chunked instead."""
    stated = {name.lower(): value for name, value in headers}
    length = stated.get(b"content-length")
    coding = stated.get(b"transfer-encoding")
    if b"host" not in stated:
        raise httpx2.LocalProtocolError("the Host header is missing")
    if coding is not None:
        if length is not None or coding != b"chunked" or isinstance(body, bytes):
            raise httpx2.LocalProtocolError("only a streamed body can be chunked, and only so")
        return None, True
    if not (length or b"0").isdigit():
        raise httpx2.LocalProtocolError("Content-Length is not a number")
    announced = int(length or 0)
    if isinstance(body, bytes) and announced != len(body):
        raise httpx2.LocalProtocolError("Content-Length is not the length of the body")
    return announced, False


def decompressed(reply: Reply, max_bytes: int) -> bytes:
    """Return the content of a reply; codings that were not asked for and are unknown stay."""
    coding = _header(reply.headers, b"content-encoding").strip().lower()
    if coding not in _ZLIB_CODINGS or not reply.body:
        return reply.body
    decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        content = decoder.decompress(reply.body, max_bytes + 1)
    except zlib.error as error:
        raise httpx2.DecodingError(f"the reply cannot be decompressed: {error}") from error
    if len(content) > max_bytes:
        raise ReplyTooLargeError(
            f"the reply is larger than {max_bytes} bytes when decompressed", status=reply.status
        )
    if not decoder.eof or decoder.unused_data:
        raise httpx2.DecodingError("the reply cannot be decompressed: it is not whole")
    return content


def _header(headers: RawHeaders, wanted: bytes) -> bytes:
    for name, value in headers:
        if name.lower() == wanted:
            return value
    return b""
