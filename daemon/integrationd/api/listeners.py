"""The listening sockets.

A Unix socket is at no moment more open than its mode, replaces only a dead socket, and is taken
away at the end only while it is still ours.
"""

import contextlib
import errno
import grp
import ipaddress
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import structlog

from integrationd.errors import ConfigError

BACKLOG = 256
_PATH_LIMIT_BYTES = 107
_DIRECTORY_MODE = 0o750
_PROBE_TIMEOUT_S = 1.0
_PRIVATE_UMASK = 0o177
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})")

log = structlog.get_logger("integrationd.api")


class UnixListener(socket.socket):
    """A listening Unix socket that takes its file away when it is closed.

    Args:
        path: Where it is bound.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self.path = path
        self._identity: tuple[int, int] | None = None

    def listen_privately(self) -> None:
        """Listen so that nobody but the daemon's own user can connect yet.

        The umask is the whole process's: call this before other threads make files.
        """
        before = os.umask(_PRIVATE_UMASK)
        try:
            self.bind(str(self.path))
        finally:
            os.umask(before)
        self._identity = _identity_of(self.path)
        self.listen(BACKLOG)

    def close(self) -> None:
        """Take the file away if it is still this socket's, then close the socket."""
        if self._identity is not None:
            # While this socket listens, no other daemon replaces its file: no race here.
            if _identity_of(self.path) == self._identity:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            self._identity = None
        super().close()


def bind_tcp(address: str) -> socket.socket:
    """Listen on a TCP address.

    Args:
        address: ``127.0.0.1:8700`` or ``[::1]:8700``; port 0 takes any free one.

    Raises:
        ConfigError: The address is not one, is in use, or may not be used.
    """
    host, port = _host_and_port(address)
    family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
    # Named, or else asyncio does not know it for TCP and leaves Nagle's delay on.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((str(host), port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(address, error) from None
    return listener


def bind_unix(path: Path, mode: int, group: str | None = None) -> socket.socket:
    """Listen on a Unix socket.

    Closing the socket takes its file away, unless another has taken its place.

    Args:
        path: Where; a missing directory is made with mode 0750, for the same group.
        mode: Who may connect, for example ``0o660``.
        group: The name of the group that the socket is given to; None for the daemon's own.

    Raises:
        ConfigError: The path is too long, taken, not a socket or not writable, its directory is
            open to everybody, or the group does not exist.
    """
    if len(os.fsencode(path)) > _PATH_LIMIT_BYTES:
        raise ConfigError(
            f"cannot listen on {path}: the path is longer than {_PATH_LIMIT_BYTES} bytes",
            hint="Choose a shorter directory for the socket.",
        )
    gid = -1 if group is None else _gid_of(group)
    with _as_config_error(path):
        _prepare_directory(path.parent, gid)
        _clear_the_way(path)
    listener = UnixListener(path)
    try:
        with _as_config_error(path):
            listener.listen_privately()
            os.chown(path, -1, gid, follow_symlinks=False)
            path.chmod(mode)
    except ConfigError:
        listener.close()
        raise
    return listener


def _host_and_port(address: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    found = _ADDRESS.fullmatch(address)
    with contextlib.suppress(ValueError):
        if found is not None and int(found["port"]) <= 65_535:
            v6 = found["v6"]
            host = ipaddress.IPv6Address(v6) if v6 else ipaddress.IPv4Address(found["v4"])
            return host, int(found["port"])
    raise ConfigError(
        f"cannot listen on {address!r}: that is not an IP address and a port",
        hint='Write it as "127.0.0.1:8700" or "[::1]:8700".',
    )


def _gid_of(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(
            f"there is no group {group!r} on this machine for the socket",
            hint=f"Make it with 'groupadd {group}', or name another one.",
        ) from None


def _prepare_directory(directory: Path, gid: int) -> None:
    if not directory.exists():
        directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        directory.chmod(_DIRECTORY_MODE)
        os.chown(directory, -1, gid)
    mode = directory.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise ConfigError(
            f"{directory} may be written by everybody, so that anybody could replace the socket",
            hint=f"Run 'chmod o-w {directory}', or choose another directory.",
        )


def _clear_the_way(path: Path) -> None:
    """Remove a socket that nobody listens on; anything else is left alone and refused."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a socket"
        raise ConfigError(
            f"cannot listen on {path}: what is there is {kind}",
            hint="Move it away, or choose another path.",
        )
    if _is_live(path):
        raise ConfigError(
            f"cannot listen on {path}: another daemon listens there",
            hint="Stop the other daemon, or choose another path.",
        )
    path.unlink()


def _is_live(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except PermissionError:
            raise
        except OSError:
            # Its queue is full, or it is of another type: in any case somebody's.
            return True
    return True


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _as_config_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_listen(str(path), error) from None


def _cannot_listen(where: str, error: OSError) -> ConfigError:
    hints = {
        errno.EADDRINUSE: "Stop what listens there ('ss -lnp' shows it), or choose another one.",
        errno.EADDRNOTAVAIL: "Choose an address that this machine has.",
        errno.EACCES: "Give the daemon's user the right to it, or choose another one.",
        errno.EPERM: "Make the daemon's user a member of the group, or name another one.",
    }
    hint = hints.get(error.errno or 0, "Choose another one.")
    reason = (error.strerror or str(error)).lower()
    return ConfigError(f"cannot listen on {where}: {reason}", hint=hint)
