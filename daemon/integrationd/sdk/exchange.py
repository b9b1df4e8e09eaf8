"""The record of what went over the wire, kept for the attempt that caused it.

Whoever runs an attempt opens a :func:`recording`; the transport adds one :class:`Exchange` per
request to it. Nothing is masked here: who stores or shows an exchange masks it first.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator

import msgspec

MAX_KEPT_BYTES = 2048

HeaderPairs = tuple[tuple[str, str], ...]

_KEPT_REPLY_HEADERS = frozenset(
    {
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"date",
        b"etag",
        b"location",
        b"retry-after",
        b"server",
        b"www-authenticate",
    }
)
_KEPT_REPLY_WORDS = (b"request-id", b"requestid", b"correlation-id", b"trace", b"ratelimit")


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request and what came back, unmasked.

    Attributes:
        method: The HTTP method.
        url: The whole address, with its query.
        request_headers: All headers as they were sent, in order.
        request_body: At most the first 2 KiB; empty for a body that was streamed.
        request_bytes: The length of the whole body; 0 for a body that was streamed.
        status: The status of the reply, None if none was read.
        response_headers: Those worth keeping: type, length, ids, limits, where to and when.
        response_body: At most the first 2 KiB, decompressed.
        response_bytes: The length of the whole decompressed body.
        duration_ms: From the request for a connection to the last byte or the error.
        error: What went wrong, empty if nothing did.
        sent: Whether a byte of the request may have left the machine.
    """

    method: str
    url: str
    request_headers: HeaderPairs
    request_body: bytes
    request_bytes: int
    status: int | None
    response_headers: HeaderPairs
    response_body: bytes
    response_bytes: int
    duration_ms: float
    error: str
    sent: bool


class Recorder:
    """Collects the exchanges of one attempt.

    Args:
        on_sent: Called exactly before the first byte of each request is written.

    Attributes:
        exchanges: What has ended so far, in that order.
    """

    __slots__ = ("exchanges", "on_sent")

    def __init__(self, on_sent: Callable[[], None]) -> None:
        self.on_sent = on_sent
        self.exchanges: list[Exchange] = []


_recorder: contextvars.ContextVar[Recorder | None] = contextvars.ContextVar(
    "integrationd_recorder", default=None
)


@contextlib.contextmanager
def recording(on_sent: Callable[[], None]) -> Iterator[Recorder]:
    """Collect the exchanges of the block and of every task that is started in it.

    Args:
        on_sent: Called exactly before the first byte of each request is written.
    """
    recorder = Recorder(on_sent)
    token = _recorder.set(recorder)
    try:
        yield recorder
    finally:
        _recorder.reset(token)


@contextlib.contextmanager
def unmarked() -> Iterator[None]:
    """Record the exchanges of the block, but do not count them as the sending of the call."""
    recorder = _recorder.get()
    if recorder is None:
        yield
        return
    marked, recorder.on_sent = recorder.on_sent, _nothing
    try:
        yield
    finally:
        recorder.on_sent = marked


def _nothing() -> None:
    """Take no note."""


def current_recorder() -> Recorder | None:
    """Return the recorder of the attempt that is under way, if there is one."""
    return _recorder.get()


def readable(headers: list[tuple[bytes, bytes]]) -> HeaderPairs:
    """Turn raw headers into text, as HTTP reads them."""
    return tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])


def worth_keeping(headers: list[tuple[bytes, bytes]]) -> HeaderPairs:
    """Choose the reply headers that help to understand an exchange later."""
    return readable([pair for pair in headers if _is_kept(pair[0])])


@functools.lru_cache(1024)
def _is_kept(name: bytes) -> bool:
    lowered = name.lower()
    return lowered in _KEPT_REPLY_HEADERS or any(word in lowered for word in _KEPT_REPLY_WORDS)
