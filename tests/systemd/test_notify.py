"""What systemd is told: the datagrams, over a real socket by its path and by an abstract name."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.daemon import DaemonProcess

from integrationd.supervisor.systemd import STATUS_LENGTH, Notifier, take_start

CONSOLE = '[connections.console]\nprovider = "console"\n'
HEARD_WITHIN_S = 20.0


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return what ``NOTIFY_SOCKET`` may hold."""
    return str(tmp_path / "notify") if request.param == "path" else f"@idtest-{os.getpid()}"


@pytest.fixture
def service_manager(address: str) -> Iterator[socket.socket]:
    """Return the socket that a service manager listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0", 1))
        listening.settimeout(HEARD_WITHIN_S)
        yield listening


def heard(listening: socket.socket) -> list[str]:
    return listening.recv(65_536).decode().split("\n")


def test_ready_is_told(address: str, service_manager: socket.socket) -> None:
    Notifier(address).ready()

    assert heard(service_manager) == ["READY=1"]


def test_reload_is_told_with_the_time_at_which_it_began(
    address: str, service_manager: socket.socket
) -> None:
    notifier = Notifier(address)
    notifier.ready()
    notifier.reloading(1234.5678919)
    notifier.reloaded()

    assert heard(service_manager) == ["READY=1"]
    assert heard(service_manager) == ["RELOADING=1", "MONOTONIC_USEC=1234567891"]
    assert heard(service_manager) == ["READY=1"]


def test_reload_before_the_daemon_is_ready_does_not_make_it_ready(
    address: str, service_manager: socket.socket
) -> None:
    notifier = Notifier(address)
    notifier.reloading(1.0)
    notifier.reloaded()
    notifier.alive()

    assert heard(service_manager) == ["WATCHDOG=1"]


def test_stopping_asks_for_the_time_that_it_takes(
    address: str, service_manager: socket.socket
) -> None:
    Notifier(address).stopping(65.5)

    assert heard(service_manager) == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=65500000"]


def test_reload_that_ends_while_stopping_does_not_make_it_ready(
    address: str, service_manager: socket.socket
) -> None:
    notifier = Notifier(address)
    notifier.ready()
    notifier.reloading(1.0)
    notifier.stopping(1.0)
    notifier.reloaded()
    notifier.alive()

    assert [heard(service_manager)[0] for _ in range(4)] == [
        *("READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1"),
    ]


@given(text=st.text())
def test_status_is_one_line_whatever_it_says(text: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0idtest-status-{os.getpid()}")
        Notifier(f"@idtest-status-{os.getpid()}").status(f"ok {text}\nREADY=1")
        (line,) = heard(listening)

    assert line.startswith("STATUS=ok ")
    assert len(line) <= len("STATUS=") + STATUS_LENGTH


def test_nobody_is_told_without_an_address(tmp_path: Path) -> None:
    Notifier(None).ready()
    Notifier(str(tmp_path / "gone")).ready()


def test_start_is_taken_out_of_the_environment() -> None:
    environ = {
        "NOTIFY_SOCKET": "@manager",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": "42",
        "LISTEN_FDS": "1",
        "LISTEN_PID": "41",
        "LISTEN_FDNAMES": "api.listen",
        "HOME": "/",
    }

    start = take_start(environ, 42)

    assert environ == {"HOME": "/"}
    assert (start.address, start.watchdog_s) == ("@manager", 30.0)
    assert not start.passed


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "41"},
        {"WATCHDOG_USEC": "soon"},
        {"LISTEN_FDS": "many", "LISTEN_PID": "42"},
        {"LISTEN_FDS": "1"},
    ],
)
def test_what_is_meant_for_others_is_not_taken(environ: dict[str, str]) -> None:
    start = take_start(dict(environ), 42)

    assert (start.address, start.watchdog_s, dict(start.passed)) == (None, None, {})


def test_daemon_tells_its_whole_life(
    address: str, service_manager: socket.socket, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
    directory = tmp_path_factory.mktemp("life")

    with DaemonProcess(directory, CONSOLE, environ=environ) as daemon:
        daemon.start()
        first = until(service_manager, "READY=1")
        daemon.wait_ready(0.5)
        lives = [until(service_manager, "WATCHDOG=1") for _ in range(3)]
        hang_up(daemon)
        reload = until(service_manager, "RELOADING=1")
        until(service_manager, "READY=1")
        code = daemon.stop()
        last = until(service_manager, "STOPPING=1")

    assert first == ["READY=1"]
    assert len(lives) == 3
    assert reload[1].startswith("MONOTONIC_USEC=")
    assert last[1].startswith("EXTEND_TIMEOUT_USEC=")
    assert code == 0


def hang_up(daemon: DaemonProcess) -> None:
    assert daemon._process is not None
    daemon._process.send_signal(signal.SIGHUP)


def until(listening: socket.socket, line: str) -> list[str]:
    """Return the first message that says this, passing over status and watchdog."""
    while True:
        message = heard(listening)
        if line in message:
            return message
        assert message[0].startswith(("STATUS=", "WATCHDOG=1")), message
