"""A short look at a daemon: one GET that gives up soon, for who can do without the answer."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ANSWER_LIMIT_BYTES = 4 * 1024 * 1024


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def glance_socket(socket_path: Path, path: str, timeout_s: float) -> dict[str, Any] | None:
    """Return what the daemon on a Unix socket answers to a GET; None where it does not.

    Args:
        socket_path: Where it listens.
        path: What is asked for.
        timeout_s: Seconds to wait for the connection, and for each piece of the answer.
    """
    return _answer(_UnixConnection(socket_path, timeout_s), path, {})


def glance_url(url: str, path: str, timeout_s: float, key: str | None) -> dict[str, Any] | None:
    """Return what the daemon on a TCP address answers to a GET; None where it does not."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        kind: type[http.client.HTTPConnection] = http.client.HTTPSConnection
    else:
        kind = http.client.HTTPConnection
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return _answer(kind(parts.netloc, timeout=timeout_s), f"{parts.path}{path}", headers)


def _answer(
    connection: http.client.HTTPConnection, path: str, headers: dict[str, str]
) -> dict[str, Any] | None:
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        value = json.loads(response.read(ANSWER_LIMIT_BYTES))
    except (OSError, ValueError, RecursionError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return value if response.status == http.client.OK and isinstance(value, dict) else None
