"""The webhook side of the daemon: its listener, its receiver, and what joins notices to calls."""

import dataclasses
import secrets
from collections.abc import Callable

from anyio.abc import TaskGroup

from integrationd.api.admission import Limits
from integrationd.api.listeners import bind_tcp
from integrationd.api.server import ApiServer
from integrationd.call import Call
from integrationd.clock import Clock
from integrationd.errors import NotFoundError
from integrationd.events import Bus
from integrationd.journal import Journal, StoredWebhook
from integrationd.masking import Masker
from integrationd.registry import Registry
from integrationd.settings import ConnectionWebhooks, Settings
from integrationd.settlement import Policy
from integrationd.webhooks.addresses import Addresses
from integrationd.webhooks.app import WebhookApp
from integrationd.webhooks.consent import Finish
from integrationd.webhooks.correlator import Correlator
from integrationd.webhooks.receiver import Receiver
from integrationd.webhooks.sources import Networks, Pace

_NO_RULES = ConnectionWebhooks()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HookParts:
    """What webhooks are taken in with.

    Attributes:
        addresses: Reads the addresses that were handed out.
        journal: Where webhooks and calls are.
        registry: The live connections.
        policy_of: Returns the rules for a call and its payload.
        masker: Masks the headers that are kept.
        bus: Where facts are told.
        clock: Where time is read.
    """

    addresses: Addresses
    journal: Journal
    registry: Registry
    policy_of: Callable[[Call, bytes], Policy]
    masker: Masker
    bus: Bus
    clock: Clock


class Hooks:
    """Takes webhooks in for the daemon's life.

    Args:
        settings: The configuration to begin with.
        parts: What it works with.
    """

    def __init__(self, settings: Settings, parts: HookParts) -> None:
        self._settings = settings
        self._journal, self._clock = parts.journal, parts.clock
        self._addresses = parts.addresses
        self._correlator = Correlator(
            parts.journal,
            parts.registry,
            parts.policy_of,
            parts.bus,
            parts.clock,
            secrets.SystemRandom(),
        )
        receiver = Receiver(
            parts.journal.inbox,
            parts.registry,
            self._rules,
            parts.masker,
            parts.bus,
            parts.clock,
            self._correlator.add,
        )
        self._app = WebhookApp(
            receiver, parts.registry, parts.addresses, self._connection_of_call, parts.clock
        )
        self._server: ApiServer | None = None
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Go on under another configuration; the listener stays where it is."""
        self._settings = settings
        webhooks = settings.webhooks
        pace = Pace(self._clock, webhooks.rate_limit, webhooks.burst)
        self._app.use(Networks(webhooks.trusted_proxies), pace, webhooks.max_body)
        if self._server is not None:
            self._server.use(_limits(settings))

    def take_back(self, finish: Finish) -> None:
        """Take people back from providers who were asked for their consent."""
        self._app.finish = finish

    def replay(self, webhook: StoredWebhook) -> None:
        """Have a webhook of the inbox worked on again."""
        self._correlator.add(webhook)

    def address(self, connection: str) -> str | None:
        """Return the unguessable address of a connection; None where none can be given."""
        url = self._settings.webhooks.public_url
        return None if url is None else f"{url}/hooks/{self._addresses.of_connection(connection)}"

    async def start(self, group: TaskGroup) -> None:
        """Listen, where that is switched on, and work through the inbox."""
        group.start_soon(self._correlator.run, name="correlator")
        if self._settings.webhooks.address is None:
            return
        listener = bind_tcp(self._settings.webhooks.listen)
        self._server = ApiServer(self._app, [listener], _limits(self._settings))
        group.start_soon(self._server.serve, name="webhooks")
        await self._server.started()

    def stop_accepting(self) -> None:
        """Close the listener; what is under way is still answered."""
        if self._server is not None:
            self._server.stop_accepting()

    async def close(self, grace_s: float) -> None:
        """End the listener, cutting off what is under way after ``grace_s`` seconds."""
        if self._server is not None:
            await self._server.close(grace_s)

    def _rules(self, connection: str) -> ConnectionWebhooks:
        found = self._settings.connections.get(connection)
        return found.webhook if found is not None else _NO_RULES

    async def _connection_of_call(self, call_id: str) -> str | None:
        try:
            call = await self._journal.calls.get(call_id)
        except NotFoundError:
            return None
        return call.connection


def _limits(settings: Settings) -> Limits:
    webhooks, api = settings.webhooks, settings.api
    return Limits(
        first_byte_s=api.header_timeout,
        header_s=api.header_timeout,
        body_s=api.body_timeout,
        max_connections=webhooks.max_connections,
        max_body_bytes=webhooks.max_body,
    )
