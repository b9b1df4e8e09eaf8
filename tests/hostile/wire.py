"""Raw bytes to a running daemon over either socket, and what comes back."""

import contextlib
import dataclasses
import json
import re
import socket
import time
from typing import Literal, TypeAlias

from tests.faults.daemon import DaemonProcess

Over: TypeAlias = Literal["tcp", "unix"]

KEY = b"@KEY@"
HOST = b"@HOST@"
ANSWER_S = 8.0

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?")


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        status: Its status.
        headers: Its headers, by lower-case name.
        body: Its body.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The machine word of a problem; empty for what is none."""
        if self.headers.get("content-type") != "application/problem+json":
            return ""
        told = json.loads(self.body)
        assert told.keys() >= {"type", "title", "status", "code", "detail"}
        assert told["status"] == self.status
        return str(told["code"])


class Wire:
    """One raw connection, which is closed with the context.

    Args:
        daemon: Who is called.
        over: By which socket.
        timeout_s: Seconds after which the daemon counts as hanging.
    """

    def __init__(self, daemon: DaemonProcess, over: Over, timeout_s: float = ANSWER_S) -> None:
        self._daemon = daemon
        self._read = b""
        self._until = time.monotonic() + timeout_s
        self.sock = _connected(daemon, over, self._until)
        self.sock.settimeout(timeout_s)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> bool:
        """Send, with the key and the host in their places; say whether all of it was taken."""
        try:
            self.sock.sendall(filled(data, self._daemon))
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def answer(self) -> Answer | None:
        """Return the next answer; None when the daemon has closed instead.

        Raises:
            TimeoutError: It does neither.
        """
        while b"\r\n\r\n" not in self._read:
            if not self._more():
                return None
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        found = _STATUS.fullmatch(first)
        assert found, f"not an answer: {first[:200]!r}"
        fields = [line.decode("latin-1").partition(": ") for line in lines]
        headers = {name.lower(): value for name, _, value in fields}
        assert len(headers) == len(fields) or not headers, "a header is given twice"
        size = int(headers.get("content-length", 0)) if int(found[1]) >= 200 else 0
        while len(self._read) < size:
            assert self._more(), "the answer was cut"
        body, self._read = self._read[:size], self._read[size:]
        return Answer(int(found[1]), headers, body)

    def answers(self) -> list[Answer]:
        """Return all answers until the daemon closes."""
        found = []
        with contextlib.suppress(ConnectionResetError):
            while (answer := self.answer()) is not None:
                found.append(answer)
        return found

    def last_answer(self) -> Answer | None:
        """Return the next answer that is more than "100 Continue"."""
        answer = self.answer()
        while answer is not None and answer.status < 200:
            answer = self.answer()
        return answer

    def finish(self) -> None:
        """Close our half, so that the daemon has no more to wait for."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def _more(self) -> bool:
        self.sock.settimeout(max(0.01, self._until - time.monotonic()))
        data = self.sock.recv(65536)
        self._read += data
        return bool(data)


def _connected(daemon: DaemonProcess, over: Over, until: float) -> socket.socket:
    family = socket.AF_INET if over == "tcp" else socket.AF_UNIX
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        while True:
            # A full queue of a Unix socket is told at once to whoever has a timeout.
            with contextlib.suppress(BlockingIOError):
                sock.settimeout(max(0.01, until - time.monotonic()))
                sock.connect(("127.0.0.1", daemon.port) if over == "tcp" else str(daemon.socket))
                return sock
            if time.monotonic() > until:
                raise TimeoutError("the daemon accepts no connections")
            time.sleep(0.005)
    except OSError:
        sock.close()
        raise


def filled(data: bytes, daemon: DaemonProcess) -> bytes:
    """Put the key and the host in their places."""
    if KEY in data:
        data = data.replace(KEY, daemon.journal.with_name("api.key").read_bytes().strip())
    return data.replace(HOST, b"127.0.0.1:%d" % daemon.port) if HOST in data else data


def request(
    method: bytes = b"POST",
    target: bytes = b"/v1/calls",
    body: bytes | None = None,
    *lines: bytes,
    bare: bool = False,
) -> bytes:
    """Write a request.

    Args:
        method: Its method.
        target: Its target.
        body: Its body, whose length is declared; None declares nothing.
        lines: More header lines.
        bare: Leave host and key out.
    """
    usual = () if bare else (b"host: " + HOST, b"authorization: Bearer " + KEY)
    length = () if body is None else (b"content-length: %d" % len(body),)
    head = [b"%b %b HTTP/1.1" % (method, target), *usual, *lines, *length]
    return b"\r\n".join([*head, b"", b""]) + (body or b"")
