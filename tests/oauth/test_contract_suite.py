"""The contract suite, inherited for a provider behind OAuth."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import httpx2
import pytest
from tests.oauth.world import PLUGIN

from integrationd.sdk import OAuth
from integrationd.sdk.testing import Handler, OAuthContract, PluginContract
from integrationd.sdk.testing.fakes import class_in

Guarded: Any = class_in(PLUGIN)
CONFIG = {"base_url": "https://api.guarded.example"}


def accepted(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json={"id": "m-1"})


def refused(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(403, headers={"WWW-Authenticate": 'error="insufficient_scope"'})


class TestGuarded(PluginContract, OAuthContract):
    plugin = PLUGIN
    config: ClassVar[Mapping[str, Any]] = CONFIG
    operation = "sms.send"
    payload: ClassVar[Mapping[str, Any]] = {"to": "+254711000111", "message": "Hi"}
    accepted: ClassVar[Handler] = staticmethod(accepted)
    refused: ClassVar[Handler] = staticmethod(refused)


class TestGuardedByConsent(OAuthContract):
    plugin = PLUGIN
    config: ClassVar[Mapping[str, Any]] = {**CONFIG, "grant": "authorization_code"}


class Careless(Guarded):  # type: ignore[misc]  # loaded at run time
    """A provider that puts its secret where everybody sees it."""

    def oauth(self) -> OAuth:
        found: OAuth = super().oauth()
        secret = self.config.client_secret.get_secret_value()
        return dataclasses.replace(
            found,
            authorization_endpoint="/authorize",
            token_endpoint=f"/token/{secret[:2]}x{secret}",
        )


class CarelessCase(OAuthContract):
    plugin = Careless
    config: ClassVar[Mapping[str, Any]] = {
        **CONFIG,
        "grant": "authorization_code",
        "client_secret": "plain-made-up",
    }


@pytest.mark.parametrize(
    "rule", ["test_secrets_are_in_no_address", "test_consent_is_asked_for_at_a_whole_address"]
)
def test_suite_finds_a_careless_provider(rule: str) -> None:
    with pytest.raises((AssertionError, ValueError), match=r"secret|whole address"):
        getattr(CarelessCase(), rule)()
