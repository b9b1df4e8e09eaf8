"""What the hostile tests share: one real daemon, and what must be true of it after each blow."""

import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hostile.sink import Sink
from tests.hostile.target import Target


@pytest.fixture(scope="session", autouse=True)
def _descriptors() -> None:
    """Let this process and the daemon hold as many connections as the floods make."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@pytest.fixture(scope="session")
def sink() -> Iterator[Sink]:
    """The other end of the connection ``shop``."""
    with Sink() as sink:
        yield sink


@pytest.fixture(scope="session")
def target(sink: Sink) -> Iterator[Target]:
    """The daemon that everything is thrown at; at the end it must stop as if nothing had been."""
    directory = Path(tempfile.mkdtemp(prefix="idhost"))
    try:
        with Target(directory, sink.port) as target:
            yield target
            target.stop()
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def unharmed(target: Target) -> Iterator[Target]:
    """The daemon; what the test does to it must leave no mark."""
    before = target.mark()
    yield target
    target.check_unharmed(before)


@pytest.fixture(params=["tcp", "unix"])
def over(request: pytest.FixtureRequest) -> str:
    """Each of the daemon's sockets."""
    return str(request.param)
