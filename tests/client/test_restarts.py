"""The daemon goes away and comes back while the client is at work: nothing is lost or doubled."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.client.conftest import Door
from tests.faults.daemon import DaemonProcess

from integrationd.client import Reference

# The HTTP library leaves a socket that nobody listens on to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket"),
]
CALLS = 150
RESTARTS = 3
EACH_CLIENT = pytest.mark.parametrize("door", ["blocking-unix", "awaiting-tcp"], indirect=True)


@contextmanager
def restarting(daemon: DaemonProcess, is_rough: bool) -> Iterator[threading.Event]:
    """Restart a daemon again and again meanwhile; the event is set when that is over."""
    over = threading.Event()

    def restart() -> None:
        try:
            for _ in range(RESTARTS):
                time.sleep(0.2)
                if is_rough:
                    daemon.kill()
                else:
                    assert daemon.stop() == 0
                daemon.start()
                daemon.wait_ready()
        finally:
            over.set()

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        yield over
    finally:
        thread.join()


@pytest.mark.parametrize(
    ("door", "is_rough"),
    [
        ("blocking-unix", True),
        ("awaiting-tcp", True),
        pytest.param("blocking-tcp", False, marks=pytest.mark.slow),
        pytest.param("awaiting-unix", False, marks=pytest.mark.slow),
    ],
    indirect=["door"],
)
def test_every_submit_ends_with_one_call(
    door: Door, own_daemon: DaemonProcess, is_rough: bool
) -> None:
    made: dict[int, str] = {}
    with door.open(own_daemon) as client:
        with restarting(own_daemon, is_rough) as over:
            while len(made) < CALLS or not over.is_set():
                number = len(made)
                call = client.send("rehearsal.hold", reference=Reference("loop", str(number)))
                made[number] = call.id

        kept = {int(one.reference.id): one.id for one in client.calls() if one.reference}
        assert kept == made
        assert client.ledger().total.accepted == len(made)
        assert client.ledger().balances


@EACH_CLIENT
def test_waiting_goes_on_over_a_restart(door: Door, own_daemon: DaemonProcess) -> None:
    with door.open(own_daemon) as client:
        began = time.monotonic()
        with restarting(own_daemon, is_rough=False):
            call = client.send("rehearsal.hold", {"script": ["retryable:5"]}, wait=3)
        took_s = time.monotonic() - began

        assert call.is_open
        assert 2.5 < took_s < 20


@EACH_CLIENT
def test_call_that_is_kept_is_returned_though_the_daemon_goes_away(
    door: Door, own_daemon: DaemonProcess
) -> None:
    with door.open(own_daemon, patience=0.5) as client:
        stopping = threading.Timer(0.5, own_daemon.stop)
        stopping.start()
        call = client.send("rehearsal.hold", {"script": ["retryable:30"]}, wait=20)
        stopping.join()

    assert call.state == "pending"
