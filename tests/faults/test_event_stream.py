"""A reader of events that is killed 100 times under load, with kill -9 of the daemon in between.

``INTEGRATIOND_STREAM_KILLS`` says how often the reader is killed; the suite has it done less often.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from tests.faults.daemon import DaemonProcess
from tests.faults.readers import Loader, Reader

KILLS = int(os.environ.get("INTEGRATIOND_STREAM_KILLS", "10"))
DAEMON_KILL_EVERY = 4
CONSOLE = '[connections.console]\nprovider = "console"\n'


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    directory = Path(tempfile.mkdtemp(prefix="idev"))
    with DaemonProcess(directory, CONSOLE) as daemon:
        daemon.start()
        daemon.wait_ready()
        yield daemon
    shutil.rmtree(directory)


@pytest.mark.timeout(60 + 12 * KILLS)
async def test_reader_sees_every_number_once_while_both_sides_are_killed(
    daemon: DaemonProcess,
) -> None:
    chance, reader = random.Random(11), Reader(daemon, "0")
    daemon_kills = 0

    async with Loader(daemon).running() as loader:
        for turn in range(1, KILLS + 1):
            await reader.take(chance.randint(1, 60))
            if turn % DAEMON_KILL_EVERY == 0:
                async with anyio.create_task_group() as group:
                    group.start_soon(reader.take, 80)
                    await anyio.sleep(chance.random() * 0.2)
                    await anyio.to_thread.run_sync(daemon.kill)
                    daemon_kills += 1
                    await anyio.to_thread.run_sync(daemon.start)
                    await anyio.to_thread.run_sync(daemon.wait_ready)
    await reader.take_to(await loader.end())

    assert reader.seen == list(range(1, reader.seen[-1] + 1))
    # What an app was told is published is in the log, under the number that it was told.
    assert set(loader.published) <= set(reader.seen)
    assert len(loader.published) == len(set(loader.published)) >= KILLS
    assert (daemon_kills, reader.connections >= KILLS) == (KILLS // DAEMON_KILL_EVERY, True)
