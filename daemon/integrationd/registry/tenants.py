"""The tenants in force, from the configuration and from the API alike."""

from collections.abc import Mapping
from types import MappingProxyType

from integrationd.call import DEFAULT_TENANT
from integrationd.settings import TenantSettings

_PLAIN = TenantSettings()


class Tenants:
    """Knows every tenant in force; :data:`~integrationd.call.DEFAULT_TENANT` is always one.

    Args:
        settings: The tenants to begin with, by id.

    Attributes:
        limited: Those with a rate or a quota.
    """

    def __init__(self, settings: Mapping[str, TenantSettings] = MappingProxyType({})) -> None:
        self.use(settings)

    def use(self, settings: Mapping[str, TenantSettings]) -> None:
        """Go on with other tenants."""
        self._all = {DEFAULT_TENANT: _PLAIN, **settings}
        self.limited = {
            tenant: one
            for tenant, one in self._all.items()
            if one.rate_limit is not None or one.daily_quota is not None
        }

    def find(self, tenant: str) -> TenantSettings | None:
        """Return a tenant's settings; None where there is none of that id."""
        return self._all.get(tenant)

    def all(self) -> Mapping[str, TenantSettings]:
        """Return every tenant, by id."""
        return MappingProxyType(self._all)

    def defaults(self, tenant: str) -> Mapping[str, str]:
        """Return what a tenant's calls take that do not say it themselves."""
        return self._all.get(tenant, _PLAIN).defaults
