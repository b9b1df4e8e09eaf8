"""For plugin authors' tests: the contract suite, and what stands in for the daemon."""

from integrationd.sdk.testing.context import (
    CALL_ID,
    CapturedLog,
    FakeClock,
    make_context,
)
from integrationd.sdk.testing.fakes import FakeConnection, Handler, fake_client
from integrationd.sdk.testing.oauth import OAuthContract
from integrationd.sdk.testing.suite import LocalPluginContract, PluginContract, Sent
from integrationd.sdk.testing.webhooks import WebhookContract

__all__ = [
    "CALL_ID",
    "CapturedLog",
    "FakeClock",
    "FakeConnection",
    "Handler",
    "LocalPluginContract",
    "OAuthContract",
    "PluginContract",
    "Sent",
    "WebhookContract",
    "fake_client",
    "make_context",
]
