"""What the tests of webhooks share: a daemon that takes them in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.webhooks.world import HookWorld


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HookWorld]:
    """A daemon that takes webhooks in and delivers."""
    made = HookWorld(tmp_path)
    async with made.running():
        yield made


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[HookWorld]:
    """A daemon that takes webhooks in and sends nothing."""
    made = HookWorld(tmp_path)
    async with made.running(delivers=False):
        yield made
