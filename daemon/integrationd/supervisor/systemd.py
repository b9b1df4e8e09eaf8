"""What passes between the daemon and systemd: notifications out, listening sockets in.

Both are plain: datagrams to the socket that ``NOTIFY_SOCKET`` names, and descriptors from 3 on that
``LISTEN_FDS`` counts and ``LISTEN_FDNAMES`` names. Started by anything else, nothing is told and no
socket is there.
"""

import dataclasses
import os
import re
import socket
import stat
from collections.abc import Mapping, MutableMapping

import structlog

from integrationd.errors import ConfigError

FIRST_DESCRIPTOR = 3
SEND_TIMEOUT_S = 1.0
STATUS_LENGTH = 500

_VARIABLES = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
)
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")
_UNNAMED = "unknown"


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """How systemd has started this process, if it has.

    Attributes:
        address: The socket that notifications go to, or None.
        watchdog_s: Seconds of silence after which systemd kills the daemon, or None for never.
        passed: The listening sockets that it has bound, by name.
    """

    address: str | None = None
    watchdog_s: float | None = None
    passed: Mapping[str, socket.socket] = dataclasses.field(default_factory=dict)


def take_start(environ: MutableMapping[str, str], pid: int) -> Start:
    """Read how systemd has started a process, and take that out of its environment.

    What the process starts in its turn must not take it for its own.

    Args:
        environ: The environment of the process.
        pid: Its id.

    Raises:
        ConfigError: What was passed are not listening sockets with names of their own.
    """
    said = {name: environ.pop(name) for name in _VARIABLES if name in environ}
    return Start(
        address=said.get("NOTIFY_SOCKET") or None,
        watchdog_s=_watchdog_s(said, pid),
        passed=_passed(said, pid),
    )


class Notifier:
    """Tells systemd how the daemon is.

    Args:
        address: The path of a datagram socket, or ``@`` and an abstract name; None tells nobody.
    """

    def __init__(self, address: str | None) -> None:
        self._address = f"\0{address[1:]}" if address and address[0] == "@" else address
        self._is_ready = False
        self._log = structlog.get_logger("integrationd.systemd")

    def ready(self) -> None:
        """Tell that requests are answered."""
        self._is_ready = True
        self._send("READY=1")

    def reloading(self, monotonic_s: float) -> None:
        """Tell that a reload has begun, which :meth:`reloaded` ends.

        Args:
            monotonic_s: The monotonic clock now.
        """
        if self._is_ready:
            self._send("RELOADING=1", f"MONOTONIC_USEC={int(monotonic_s * 1_000_000)}")

    def reloaded(self) -> None:
        """Tell that a reload has ended, well or not."""
        if self._is_ready:
            self._send("READY=1")

    def stopping(self, within_s: float) -> None:
        """Tell that the daemon is about to end, and ask for the time that it takes.

        Args:
            within_s: Seconds after which it has surely ended.
        """
        self._is_ready = False
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within_s * 1_000_000)}")

    def status(self, text: str) -> None:
        """Say in one line how things stand."""
        self._send(f"STATUS={_in_one_line(text)}")

    def alive(self) -> None:
        """Put off the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(SEND_TIMEOUT_S)
            try:
                sender.sendto("\n".join(lines).encode(errors="replace"), self._address)
            except OSError as error:
                self._log.warning("systemd_not_told", what=lines[0], reason=str(error))


def _in_one_line(text: str) -> str:
    """Return a text of one line, so that nothing in it passes for another notification."""
    line = _UNPRINTABLE.sub(" ", text).strip()
    return line if len(line) <= STATUS_LENGTH else f"{line[: STATUS_LENGTH - 1]}…"


def _watchdog_s(said: Mapping[str, str], pid: int) -> float | None:
    microseconds, whose = said.get("WATCHDOG_USEC", ""), said.get("WATCHDOG_PID")
    is_ours = whose is None or whose == str(pid)
    return int(microseconds) / 1_000_000 if is_ours and microseconds.isdecimal() else None


def _passed(said: Mapping[str, str], pid: int) -> dict[str, socket.socket]:
    count = said.get("LISTEN_FDS", "")
    if said.get("LISTEN_PID") != str(pid) or not count.isdecimal():
        return {}
    names = said.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, socket.socket] = {}
    for at in range(int(count)):
        name = names[at] if at < len(names) and names[at] else _UNNAMED
        if name in found:
            raise ConfigError(
                f"systemd passes two sockets by the name {name!r}",
                hint="Give every socket unit one address and a FileDescriptorName= of its own.",
            )
        found[name] = _listener(FIRST_DESCRIPTOR + at, name)
    return found


def _listener(descriptor: int, name: str) -> socket.socket:
    """Return the socket behind a descriptor, which nothing that we start inherits."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        is_socket = False
    if not is_socket:
        raise ConfigError(
            f"what systemd passes as {name!r} is no socket", hint="Pass socket units only."
        )
    listener = socket.socket(fileno=descriptor)
    listener.set_inheritable(False)
    if listener.type != socket.SOCK_STREAM or not _listens(listener):
        listener.close()
        raise ConfigError(
            f"the socket that systemd passes as {name!r} does not listen for connections",
            hint="Use ListenStream= and Accept=no in its unit.",
        )
    return listener


def _listens(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
