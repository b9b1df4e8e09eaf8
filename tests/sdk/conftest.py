"""Asynchronous tests of the SDK run on both event loops."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from integrationd.sdk.transport import Transport


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport(allow_private=True) as made:
        yield made
