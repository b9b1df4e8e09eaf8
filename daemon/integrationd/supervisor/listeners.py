"""Where the API listens."""

import socket

from integrationd.api.listeners import bind_tcp, bind_unix
from integrationd.settings import ApiSettings


def bind(settings: ApiSettings) -> list[socket.socket]:
    """Return listening sockets for TCP and the Unix socket, as far as they are switched on.

    Raises:
        OSError: An address is taken or may not be used.
    """
    listeners = []
    if settings.address is not None:
        listeners.append(bind_tcp(settings.listen))
    if settings.socket is not None:
        listeners.append(
            bind_unix(settings.socket, settings.socket_permissions, settings.socket_group)
        )
    return listeners
