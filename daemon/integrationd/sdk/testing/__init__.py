"""For plugin authors' tests: the contract suite, and what stands in for the daemon."""

from integrationd.sdk.testing.context import (
    CALL_ID,
    CapturedLog,
    FakeClock,
    make_context,
)
from integrationd.sdk.testing.fakes import FakeConnection, Handler, fake_client
from integrationd.sdk.testing.suite import LocalPluginContract, PluginContract, Sent

__all__ = [
    "CALL_ID",
    "CapturedLog",
    "FakeClock",
    "FakeConnection",
    "Handler",
    "LocalPluginContract",
    "PluginContract",
    "Sent",
    "fake_client",
    "make_context",
]
