"""Where the daemon listens, and the HTTP client that speaks to it there."""

import dataclasses
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

DEFAULT_SOCKET = Path("/run/integrationd/integrationd.sock")
SOCKET_VARIABLE = "INTEGRATIOND_SOCKET"
CONNECT_TIMEOUT_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a daemon listens.

    Attributes:
        socket: Its Unix socket, or None for TCP.
        url: Scheme, host and port, and where a proxy adds one, a path.
        key: The API key that TCP asks for; never shown.
    """

    socket: Path | None = None
    url: str = "http://localhost"
    key: str | None = dataclasses.field(default=None, repr=False)

    def __str__(self) -> str:
        return self.url if self.socket is None else f"the socket {self.socket}"

    @classmethod
    def find(
        cls,
        socket: str | os.PathLike[str] | None,
        url: str | None,
        key: str | None,
        environ: Mapping[str, str],
    ) -> "Address":
        """Return what is named, else the socket of ``INTEGRATIOND_SOCKET``, else the usual one.

        Raises:
            ValueError: Two places are named, or a key for a socket, or an address of no use.
        """
        if url is None:
            if key is not None:
                raise ValueError("a key goes with a url; the socket knows who is calling")
            return cls(socket=Path(socket or environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET))
        if socket is not None:
            raise ValueError("say where the daemon is with socket or url, not with both")
        if httpx2.URL(url).scheme not in ("http", "https") or not httpx2.URL(url).host:
            raise ValueError(f"the url {url!r} is not http:// or https:// with a host and a port")
        shown = None if key is None else key.strip()
        if shown is not None and not (shown and shown.isascii() and shown.isprintable()):
            raise ValueError("this is no API key")
        return cls(url=url, key=shown)

    def settings(self, timeout_s: float) -> dict[str, Any]:
        """Return what both kinds of HTTP client take, but for the transport."""
        headers = {"Accept": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        return {
            "base_url": self.url,
            "headers": headers,
            "timeout": httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            "trust_env": False,
        }

    def transport_settings(self) -> dict[str, Any] | None:
        """Return what a transport to the Unix socket takes; None where TCP needs no special one."""
        if self.socket is None:
            return None
        # Nothing on a socket is encrypted, so no certificates need to be loaded.
        return {"uds": str(self.socket), "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
