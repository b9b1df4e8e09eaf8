"""What the routes work with, put together by the supervisor."""

import dataclasses

from integrationd.api.held_keys import HeldKeys
from integrationd.api.ports import Configuration, Lines, Placement, VaultSide, WebhookSide
from integrationd.api.submit import Submitter
from integrationd.clock import Clock
from integrationd.journal import Journal
from integrationd.masking import Masker
from integrationd.registry import Registry
from integrationd.telemetry import Metrics


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of the daemon that answer requests.

    Attributes:
        journal: Calls, attempts and the ledger.
        registry: Providers and connections.
        placement: Which connection serves what.
        lines: The connections at work.
        configuration: What is in force, and how it is replaced.
        hooks: What takes webhooks in.
        vault: Secrets, sealed.
        submitter: Accepts calls.
        held_keys: The API keys in force.
        masker: Masks what is shown.
        metrics: What ``/metrics`` tells.
        clock: Where time is read.
        started_at_ms: When the daemon began.
    """

    journal: Journal
    registry: Registry
    placement: Placement
    lines: Lines
    configuration: Configuration
    hooks: WebhookSide
    vault: VaultSide
    submitter: Submitter
    held_keys: HeldKeys
    masker: Masker
    metrics: Metrics
    clock: Clock
    started_at_ms: int
