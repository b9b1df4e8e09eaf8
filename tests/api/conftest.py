"""What the API tests share: a daemon in this process, with and without delivery."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.api.world import ApiWorld

from integrationd.clock import SystemClock


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    """A daemon that delivers."""
    made = ApiWorld(tmp_path, SystemClock())
    async with made.running():
        yield made


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    """A daemon that accepts and delivers nothing, so that calls stay pending."""
    made = ApiWorld(tmp_path, SystemClock())
    async with made.opened():
        yield made
