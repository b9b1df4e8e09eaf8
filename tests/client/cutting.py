"""A line to the daemon that loses replies, after the daemon has done what was asked."""

import contextlib
import re
import socket
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.faults.daemon import free_port

# What becomes of the next replies: none of it arrives, or half of it.
Loss = Literal["all", "half"]
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_SPAN_S = 20.0


class Cutter:
    """Passes each request on and its reply back, but for those that it is told to lose.

    Args:
        target: The daemon's Unix socket.

    Attributes:
        url: Where it listens.
        losses: What becomes of the next replies to POSTs; all further ones arrive.
        passed: The requests that have reached the daemon.
    """

    def __init__(self, target: Path) -> None:
        self._target = str(target)
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.losses: deque[Loss] = deque()
        self.passed: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                with accepted, contextlib.suppress(OSError):
                    accepted.settimeout(_SPAN_S)
                    self._exchange(accepted)

    def _exchange(self, client: socket.socket) -> None:
        """Serve one request; its connection is closed afterwards."""
        request = _message(client)
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.settimeout(_SPAN_S)
            daemon.connect(self._target)
            daemon.sendall(request)
            reply = _message(daemon)
        self.passed.append(request)
        loss = self.losses.popleft() if self.losses and request.startswith(b"POST") else None
        if loss is None:
            client.sendall(reply.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
        elif loss == "half":
            client.sendall(reply[: len(reply) - 20])


def _message(peer: socket.socket) -> bytes:
    """Read one message of HTTP/1.1, whose length its header tells."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += _more(peer)
    head, _, body = read.partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    while len(body) < int(found[1] if found else 0):
        body += _more(peer)
    return head + b"\r\n\r\n" + body


def _more(peer: socket.socket) -> bytes:
    read = peer.recv(65536)
    if not read:
        raise ConnectionResetError
    return read
