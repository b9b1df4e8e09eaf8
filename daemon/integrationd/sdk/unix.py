"""HTTP over a Unix socket of this machine: the same transport, dialled by a path."""

import asyncio

import httpx2

from integrationd.sdk.transport import MAX_BODY_BYTES, Transport
from integrationd.sdk.wire import Connection


class UnixTransport(Transport):
    """Sends every request to one Unix socket, whatever host its URL names.

    Args:
        path: The socket.
        max_body_bytes: The largest reply body that is read.
    """

    def __init__(self, path: str, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        super().__init__(allow_private=True, max_body_bytes=max_body_bytes)
        self._path = path

    async def _connect(self, origin: tuple[str, str, int], connect_s: float | None) -> Connection:
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await asyncio.get_running_loop().create_unix_connection(
                    lambda: Connection(self._max_body_bytes), self._path
                )
                return connection
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(f"no connection to {self._path} in time") from error
        except OSError as error:
            raise httpx2.ConnectError(f"no connection to {self._path}: {error}") from error
