"""Both clients against a daemon of its own, over both of its doors, used in one way."""

import contextlib
import functools
import inspect
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from tests.e2e.running import REHEARSAL
from tests.faults.daemon import DaemonProcess

from integrationd.client import AsyncClient, Client

# Nothing is held up because of what other tests have played.
TABLES = f"""\
[delivery.breaker]
failures = 1000
{REHEARSAL}
[connections.stage.query]
first = "1s"
[connections.console]
provider = "console"
"""
KINDS = ("blocking-unix", "blocking-tcp", "awaiting-unix", "awaiting-tcp")


class Awaited:
    """An async client that is used as if it blocked."""

    def __init__(self, portal: BlockingPortal, client: AsyncClient) -> None:
        self._portal = portal
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def used(*words: Any, **options: Any) -> Any:
            if inspect.iscoroutinefunction(method):
                return self._portal.call(functools.partial(method, *words, **options))
            return self._iterated(method(*words, **options))

        return used

    def _iterated(self, items: Any) -> Iterator[Any]:
        try:
            with contextlib.suppress(StopAsyncIteration):
                while True:
                    yield self._portal.call(items.__anext__)
        finally:
            self._portal.call(items.aclose)


class Door:
    """A way to a daemon: one kind of client, over one kind of listener.

    Args:
        kind: One of ``KINDS``.
        portal: Where an async client runs.
    """

    def __init__(self, kind: str, portal: BlockingPortal) -> None:
        client, self.over = kind.split("-")
        self._is_awaiting = client == "awaiting"
        self._portal = portal

    @contextlib.contextmanager
    def open(self, daemon: DaemonProcess, **options: Any) -> Iterator[Any]:
        """Yield a client of the daemon, which shows its key where it needs one."""
        if self.over == "unix":
            place: dict[str, Any] = {"socket": daemon.socket}
        else:
            key = daemon.journal.with_name("api.key").read_text().strip()
            place = {"url": daemon.url, "key": key}
        with self.open_at(**{**place, **options}) as client:
            yield client

    @contextlib.contextmanager
    def open_at(self, **options: Any) -> Iterator[Any]:
        """Yield a client of whatever is named."""
        if self._is_awaiting:
            client = AsyncClient(**options)
            try:
                yield Awaited(self._portal, client)
            finally:
                self._portal.call(client.close)
        else:
            with Client(**options) as blocking:
                yield blocking


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="session")
def daemon() -> Iterator[DaemonProcess]:
    """A daemon that all tests share that do not stop it."""
    with started(tempfile.mkdtemp(prefix="idcl")) as daemon:
        yield daemon


@pytest.fixture
def own_daemon() -> Iterator[DaemonProcess]:
    """A daemon that the test may stop."""
    with started(tempfile.mkdtemp(prefix="idcl")) as daemon:
        yield daemon


@contextlib.contextmanager
def started(directory: str) -> Iterator[DaemonProcess]:
    """Yield a daemon that runs in a directory of its own, which goes with it."""
    try:
        with DaemonProcess(Path(directory), TABLES) as daemon:
            daemon.start()
            daemon.wait_ready()
            yield daemon
    finally:
        shutil.rmtree(directory)


@pytest.fixture(params=KINDS)
def door(request: pytest.FixtureRequest, portal: BlockingPortal) -> Door:
    return Door(request.param, portal)


@pytest.fixture
def client(door: Door, daemon: DaemonProcess) -> Iterator[Any]:
    with door.open(daemon, patience=5.0) as client:
        yield client
