"""The contract suite of OAuth: what every plugin that declares an authorization server has to show.

The tests are plain functions, run by any pytest. This module does not import pytest.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, parse_qsl, urlsplit

import anyio
import httpx2

from integrationd.sdk.oauth import OAuth, TokenRequests, authorization_url
from integrationd.sdk.provider import Provider
from integrationd.sdk.testing.checks import require
from integrationd.sdk.testing.context import FakeClock
from integrationd.sdk.testing.fakes import FakeConnection, class_in, fake_client
from integrationd.sdk.testing.leaks import secrets_of
from integrationd.sdk.token_keeping import Token

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
REDIRECT = "https://hooks.example/oauth/callback"
MADE_UP = "made-up-access"
_LIVE_S = 1800


class OAuthContract:
    """What every plugin that declares an authorization server has to show.

    Attributes:
        plugin: The plugin file, or the provider class.
        config: The config of the connection, secrets as plain text.
    """

    plugin: ClassVar[Path | type[Provider]]
    config: ClassVar[Mapping[str, Any]] = {}

    def test_token_is_asked_for_as_declared(self) -> None:
        """The server is asked at its address for the declared scope, and its answer is a token."""
        profile = self.profile()
        token, request = self._asked()

        form = dict(parse_qsl(request.content.decode()))
        wanted = "refresh_token" if self._by_consent() else "client_credentials"
        require(form.get("grant_type") == wanted, f"expected {wanted}, asked with {sorted(form)}")
        require(form.get("scope", "") == profile.scope, f"the scope asked for is {form}")
        require(token.access_token == MADE_UP, "the answer's token is another one")
        require(token.expires_in_s == _LIVE_S, "the answer's life is another one")

    def test_secrets_are_in_no_address(self) -> None:
        """Neither the address that a person opens nor that of a request holds a secret."""
        shown = [str(self._asked()[1].url)]
        if self._by_consent():
            shown.append(self._address())
        for secret in secrets_of(self._provider().config):
            require(not any(secret in one for one in shown), "an address holds a secret")

    def test_consent_is_asked_for_at_a_whole_address(self) -> None:
        """A person is sent to a whole address, with PKCE."""
        if not self._by_consent():
            return
        parts = urlsplit(self._address())
        query = parse_qs(parts.query)
        require(bool(parts.netloc), "authorization_endpoint is no whole address")
        require(query.get("code_challenge_method") == ["S256"], f"no PKCE in {sorted(query)}")

    def profile(self) -> OAuth:
        """Return what the plugin declares.

        Raises:
            AssertionError: Nothing.
        """
        profile = self._provider().oauth()
        if profile is None:
            raise AssertionError("oauth() returns None for this config")
        return profile

    def _provider(self) -> Provider:
        cls = class_in(self.plugin) if isinstance(self.plugin, Path) else self.plugin
        return cls(cls.Config.model_validate(dict(self.config)), FakeConnection())

    def _by_consent(self) -> bool:
        return self.profile().grant == "authorization_code"

    def _address(self) -> str:
        return authorization_url(
            self.profile(), redirect_uri=REDIRECT, state="made-up", verifier=VERIFIER
        )

    def _asked(self) -> tuple[Token, httpx2.Request]:
        return anyio.run(self._ask)

    async def _ask(self) -> tuple[Token, httpx2.Request]:
        made: list[httpx2.Request] = []

        def answer(request: httpx2.Request) -> httpx2.Response:
            made.append(request)
            said = {"access_token": MADE_UP, "expires_in": _LIVE_S}
            return httpx2.Response(200, json=said)

        async with fake_client(self._provider().config, answer) as client:
            requests = TokenRequests(self.profile(), client, FakeClock())
            token = await requests.fetch("made-up-refresh" if self._by_consent() else None)
        return token, made[0]
