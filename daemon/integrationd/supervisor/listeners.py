"""Where the API listens: on sockets that systemd has bound, else on sockets of its own."""

import grp
import ipaddress
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from integrationd.api.listeners import bind_tcp, bind_unix
from integrationd.errors import ConfigError
from integrationd.settings import ApiSettings

TCP_NAME = "api.listen"
UNIX_NAME = "api.socket"
"""What the sockets are called in their units: the keys that they stand for."""

_RESTART = "then run: systemctl daemon-reload && systemctl restart"
_TCP_HINT = f"Change ListenStream= in integrationd-tcp.socket, {_RESTART} integrationd-tcp.socket"
_UNIX_HINT = f"Change integrationd.socket, {_RESTART} integrationd.socket"


def bind(
    settings: ApiSettings, passed: Mapping[str, socket.socket] = MappingProxyType({})
) -> list[socket.socket]:
    """Return listening sockets for TCP and the Unix socket, as far as they are switched on.

    Args:
        settings: What ``[api]`` says.
        passed: The sockets that systemd has bound, by name; each is used in place of binding.

    Raises:
        ConfigError: An address is taken or may not be used, or a socket that was passed is not
            what ``[api]`` says.
    """
    for name in passed.keys() - {TCP_NAME, UNIX_NAME}:
        raise ConfigError(
            f"systemd passes a socket by the name {name!r}, which means nothing here",
            hint=f"FileDescriptorName= must be {TCP_NAME} or {UNIX_NAME}.",
        )
    tcp, unix = passed.get(TCP_NAME), passed.get(UNIX_NAME)
    if tcp is not None:
        _check_tcp(tcp, settings)
    if unix is not None:
        _check_unix(unix, settings)
    listeners = [each for each in (tcp, unix) if each is not None]
    if tcp is None and settings.address is not None:
        listeners.append(bind_tcp(settings.listen))
    if unix is None and settings.socket is not None:
        listeners.append(
            bind_unix(settings.socket, settings.socket_permissions, settings.socket_group)
        )
    return listeners


def _check_tcp(passed: socket.socket, settings: ApiSettings) -> None:
    """See that a socket is the one that ``[api] listen`` names.

    Raises:
        ConfigError: It is not.
    """
    if settings.address is None:
        off = "systemctl disable --now integrationd-tcp.socket"
        raise _differs(TCP_NAME, _shown(passed), "is switched off", f"Run: {off}")
    is_tcp = passed.family in (socket.AF_INET, socket.AF_INET6)
    host, port = settings.address
    if not is_tcp or _endpoint(*passed.getsockname()[:2]) != _endpoint(host, port):
        raise _differs(TCP_NAME, _shown(passed), f"is {settings.listen}", _TCP_HINT)


def _endpoint(host: str, port: int) -> tuple[object, int]:
    return ipaddress.ip_address(host), port


def _check_unix(passed: socket.socket, settings: ApiSettings) -> None:
    """See that a socket is the one that ``[api] socket`` names, and open to the same people.

    Raises:
        ConfigError: It is not.
    """
    path = settings.socket
    if path is None:
        off = "systemctl disable --now integrationd.socket"
        raise _differs(UNIX_NAME, _shown(passed), "is switched off", f"Run: {off}")
    is_unix = passed.family == socket.AF_UNIX
    if not is_unix or Path(_shown(passed)).resolve() != path.resolve():
        raise _differs(UNIX_NAME, _shown(passed), f"is {path}", _UNIX_HINT)
    _check_access(path, settings)


def _check_access(path: Path, settings: ApiSettings) -> None:
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(
            f"the socket {path} that systemd has bound cannot be seen: {error.strerror}",
            hint="Run: systemctl restart integrationd.socket",
        ) from None
    mode = stat.S_IMODE(found.st_mode)
    if mode != settings.socket_permissions:
        told = f"{UNIX_NAME}_mode"
        raise _differs(told, f"{mode:04o}", f"is {settings.socket_permissions:04o}", _UNIX_HINT)
    group = settings.socket_group
    if group is not None and found.st_gid != _gid(group):
        raise _differs(f"{UNIX_NAME}_group", str(found.st_gid), f"is {group!r}", _UNIX_HINT)


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def _shown(passed: socket.socket) -> str:
    if passed.family == socket.AF_UNIX:
        return str(passed.getsockname()) or "a socket without a name"
    host, port = passed.getsockname()[:2]
    return f"[{host}]:{port}" if passed.family == socket.AF_INET6 else f"{host}:{port}"


def _differs(name: str, found: str, wanted: str, hint: str) -> ConfigError:
    table, _, key = name.partition(".")
    return ConfigError(
        f"systemd passes {found} as {name}, but [{table}] {key} {wanted}",
        hint=f"{hint}; or change the configuration.",
    )
