"""``[webhooks]`` and ``[connections.NAME.webhook]``: where and from whom webhooks are taken."""

import ipaddress
import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field, field_validator

from integrationd.settings.table import BODY_LIMIT_BYTES, LISTEN_PATTERN, Table
from integrationd.settings.units import Count, Rate, Size

_PUBLIC_URL_PATTERN = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,255}(?:/[A-Za-z0-9._~/-]*)?")


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError('must be an address or a network such as "196.201.214.0/24"') from None
    return text


Network: TypeAlias = Annotated[str, AfterValidator(_network)]


class WebhookSettings(Table):
    """``[webhooks]``: where providers reach the daemon."""

    listen: str = ""
    public_url: str | None = None
    max_body: Size = Field(256 * 1024, ge=1024, le=BODY_LIMIT_BYTES)
    max_connections: Count = Field(256, ge=1, le=100_000)
    trusted_proxies: tuple[Network, ...] = ()
    rate_limit: Rate = 50.0
    burst: Count = Field(200, ge=1, le=10_000)

    @property
    def address(self) -> tuple[str, int] | None:
        """The host and port to listen on, or None where it is switched off."""
        found = LISTEN_PATTERN.fullmatch(self.listen)
        return (found["v6"] or found["v4"], int(found["port"])) if found else None

    @field_validator("listen")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        found = LISTEN_PATTERN.fullmatch(value)
        if value and (found is None or int(found["port"]) > 65_535):
            raise ValueError('must be "ADDRESS:PORT", for example "127.0.0.1:8701", or "" for off')
        try:
            if found is not None:
                ipaddress.ip_address(found["v6"] or found["v4"])
        except ValueError:
            raise ValueError("must name an IP address, for example 127.0.0.1 or [::1]") from None
        return value

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, value: str | None) -> str | None:
        if value is not None and not _PUBLIC_URL_PATTERN.fullmatch(value):
            raise ValueError(
                'must be the address that the world reaches, such as "https://hooks.school.example"'
            )
        return value.rstrip("/") if value else value


class ConnectionWebhooks(Table):
    """``[connections.NAME.webhook]``: what holds for the webhooks of one connection."""

    allow_from: tuple[Network, ...] = ()
    require_address: bool = False
