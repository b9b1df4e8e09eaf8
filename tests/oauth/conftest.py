"""Shared by the tests of OAuth: an authorization server on loopback."""

from collections.abc import AsyncIterator

import pytest
from tests.oauth.authorization_server import AuthorizationServer, authorization_server


@pytest.fixture
async def server() -> AsyncIterator[AuthorizationServer]:
    async with authorization_server() as running:
        yield running
