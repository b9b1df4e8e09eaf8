"""What a client may ask of the server, who it is, and how many may be inside at a time."""

import asyncio
import dataclasses
import socket
import struct
from collections.abc import Callable

import structlog
from uvicorn.server import ServerState

_UCRED = struct.Struct("3i")
_LINGERING_STRANGERS = 64
_SAY_EVERY_S = 10.0

log = structlog.get_logger("integrationd.api")


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How much, and for how long, a client may ask of the server.

    Attributes:
        first_byte_s: Seconds from connecting to the first byte.
        header_s: Seconds from a request's first byte to the end of its headers.
        body_s: Seconds from there to the end of its body.
        keep_alive_s: Seconds that a connection may idle between requests.
        write_s: Seconds in which a client must take an answer that does not fit its buffers.
        linger_s: Seconds in which a refused client may still send, unheard.
        max_connections: Connections open at a time.
        max_header_bytes: Bytes of request line and headers together.
        max_headers: Header lines.
        max_target_bytes: Bytes of the request target.
        max_body_bytes: Bytes of the body.
        max_pipelined: Requests that may wait behind the one under way on a connection.
    """

    first_byte_s: float = 10.0
    header_s: float = 10.0
    body_s: float = 30.0
    keep_alive_s: float = 20.0
    write_s: float = 30.0
    linger_s: float = 1.0
    max_connections: int = 512
    max_header_bytes: int = 32 * 1024
    max_headers: int = 100
    max_target_bytes: int = 8 * 1024
    max_body_bytes: int = 1024 * 1024
    max_pipelined: int = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """Who connected to the Unix socket, as the kernel knew it at that moment."""

    uid: int
    gid: int
    pid: int


def peer_at(transport: asyncio.Transport) -> Peer | None:
    """Read who is at the other end of a Unix socket; None on TCP."""
    connection = transport.get_extra_info("socket")
    if connection.family != socket.AF_UNIX:
        return None
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    return Peer(uid=uid, gid=gid, pid=pid)


class SparseLog:
    """Tells of something at most once in a while, with how often it happened.

    Args:
        tell: Called with the number of times since the last call.
    """

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def note(self) -> None:
        """Count one; the first after a quiet time is told at once."""
        self._count += 1
        if self._timer is None:
            self._say()

    def _say(self) -> None:
        self._timer = None
        if self._count:
            self._tell(self._count)
            self._count = 0
            self._timer = asyncio.get_running_loop().call_later(_SAY_EVERY_S, self._say)


class Gate(ServerState):
    """What the connections of one server share: their limits, and how many there are.

    Args:
        limits: What a client may ask.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits = limits
        self.is_empty = asyncio.Event()
        self.is_empty.set()
        self._turned_away = SparseLog(self._tell_turned_away)
        self.strangers: set[asyncio.BaseProtocol] = set()

    def admits_one(self) -> bool:
        """Say whether the connection that was just added is still within the limit."""
        if len(self.connections) <= self.limits.max_connections:
            self.is_empty.clear()
            return True
        self._turned_away.note()
        return False

    def lets_linger(self, stranger: asyncio.BaseProtocol) -> bool:
        """Say whether a connection over the limit may stay until its refusal is read."""
        if len(self.strangers) >= _LINGERING_STRANGERS:
            return False
        self.strangers.add(stranger)
        return True

    def leave(self, connection: asyncio.BaseProtocol) -> None:
        """Forget a closed connection."""
        self.strangers.discard(connection)
        if not self.connections:
            self.is_empty.set()

    def _tell_turned_away(self, count: int) -> None:
        log.warning(
            "connections_turned_away",
            count=count,
            max_connections=self.limits.max_connections,
            hint="Raise [api] max_connections, or let clients keep fewer connections.",
        )
