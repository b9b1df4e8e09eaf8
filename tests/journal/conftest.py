"""What the journal's tests share: a journal on a real file, under a clock that stands still."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fake_clock import FakeClock
from tests.journal.cases import opened

from integrationd.events import Bus
from integrationd.journal import Journal


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path, clock: FakeClock, bus: Bus) -> AsyncIterator[Journal]:
    async with opened(path, clock, bus) as journal:
        yield journal
