"""What of a configuration a running daemon takes over besides its connections."""

from integrationd.api.admission import Limits
from integrationd.api.auth import Access
from integrationd.api.roles import Role
from integrationd.api.server import ApiServer
from integrationd.delivery.service import Delivery
from integrationd.journal import Kept, KeptHere, Retention
from integrationd.masking import Masker
from integrationd.registry import Tenants
from integrationd.settings import Settings
from integrationd.settings.tenants import TenantRetention
from integrationd.supervisor.hooks import Hooks
from integrationd.supervisor.snapshot import Snapshot
from integrationd.telemetry import LogOutput


class Live:
    """The parts that go on under another configuration.

    Attributes:
        server: The server, once it has been made.
    """

    def __init__(
        self,
        delivery: Delivery,
        retention: Retention,
        access: Access,
        masker: Masker,
        output: LogOutput,
        hooks: Hooks,
        tenants: Tenants,
    ) -> None:
        self._delivery = delivery
        self._retention = retention
        self._access = access
        self._masker = masker
        self._output = output
        self._hooks = hooks
        self._tenants = tenants
        self.server: ApiServer | None = None

    def use(self, snapshot: Snapshot) -> None:
        """Have all of them go on under a configuration; the registry has its connections."""
        settings = snapshot.settings
        # First, so that no new secret is ever shown.
        self._masker.learn(snapshot.secrets())
        self._tenants.use(settings.tenants)
        self._delivery.use(snapshot.delivered, snapshot.maskers(), snapshot.by_hand)
        self._retention.use(kept_by(settings))
        self._access.allow(roles_by(settings))
        if self.server is not None:
            self.server.use(limits_by(settings))
        self._hooks.use(settings)
        self._output.use(settings.log.format, settings.log.level)


def kept_by(settings: Settings) -> Kept:
    """Return how long each class is kept."""
    kept = settings.retention
    return Kept(
        calls_ms=round(kept.calls * 1000),
        attempts_ms=round(kept.attempts * 1000),
        events_ms=round(kept.events * 1000),
        inbox_ms=round(kept.inbox * 1000),
        by_tenant={tenant: _kept_here(one.retention) for tenant, one in settings.tenants.items()},
    )


def _kept_here(kept: TenantRetention) -> KeptHere:
    def milliseconds(seconds: float | None) -> int | None:
        return None if seconds is None else round(seconds * 1000)

    return KeptHere(
        calls_ms=milliseconds(kept.calls),
        attempts_ms=milliseconds(kept.attempts),
        inbox_ms=milliseconds(kept.inbox),
    )


def roles_by(settings: Settings) -> dict[int, Role]:
    """Return who may use the socket in which role, by uid."""
    api = settings.api
    given = {Role.ADMIN: api.allowed_uids, Role.STAFF: api.staff_uids, Role.READ: api.read_uids}
    return {uid: role for role, uids in given.items() for uid in uids}


def limits_by(settings: Settings) -> Limits:
    """Return what clients of the API may ask."""
    api = settings.api
    return Limits(
        first_byte_s=api.header_timeout,
        header_s=api.header_timeout,
        body_s=api.body_timeout,
        max_connections=api.max_connections,
        max_body_bytes=api.max_body,
    )
