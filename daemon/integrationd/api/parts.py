"""What the routes work with, put together by the supervisor."""

import dataclasses

from integrationd.api.directory_side import DirectorySide
from integrationd.api.event_streams import EventStreams
from integrationd.api.held_keys import HeldKeys
from integrationd.api.ports import (
    AuthorisationSide,
    Configuration,
    Lines,
    Placement,
    VaultSide,
    WebhookSide,
)
from integrationd.api.submit import Submitter
from integrationd.api.subscription_side import SubscriptionSide
from integrationd.clock import Clock
from integrationd.journal import Journal
from integrationd.masking import Masker
from integrationd.personal import PersonalData
from integrationd.registry import Registry, Tenants
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
        directory: Tenants and connections, and what is done to them.
        authorisations: A person's consent for connections.
        submitter: Accepts calls.
        streams: Streams of the event log.
        subscriptions: Who is told of which events.
        tenants: Whose calls are taken.
        held_keys: The API keys in force.
        masker: Masks what is shown.
        personal: Masks what tells who a person is, where that is asked for.
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
    directory: DirectorySide
    authorisations: AuthorisationSide
    submitter: Submitter
    streams: EventStreams
    subscriptions: SubscriptionSide
    tenants: Tenants
    held_keys: HeldKeys
    masker: Masker
    metrics: Metrics
    clock: Clock
    started_at_ms: int
    personal: PersonalData = dataclasses.field(default_factory=PersonalData)
