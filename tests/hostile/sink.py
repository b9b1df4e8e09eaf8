"""A provider that takes everything and remembers the bytes."""

import socketserver
import threading
from typing import Any, cast

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heads: list[bytes] = []


class _Handler(socketserver.StreamRequestHandler):
    timeout = 5

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline(65536)
            if not line:
                return
            head += line
        cast("_Server", self.server).heads.append(head)
        self.wfile.write(_ANSWER)


class Sink:
    """The server, which listens within the context.

    Attributes:
        heads: Request line and headers of all requests, as they came.
        port: Where it listens, on loopback.
    """

    def __init__(self) -> None:
        self._server = _Server()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.heads = self._server.heads
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> "Sink":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
