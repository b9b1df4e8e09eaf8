"""``[tenants.ID]``: whose calls the daemon makes, and what each of them may."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field

from integrationd.settings.table import Table
from integrationd.settings.units import Count, Period, Rate

TENANT_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
METADATA_LIMIT = 50
SHARED_SECRETS_OF = "*"
"""Whose the secrets of what all tenants share are: nobody's, since no tenant has that id."""


def _tenant_id(name: str) -> str:
    if not TENANT_PATTERN.fullmatch(name):
        raise ValueError(
            "is no tenant id: use letters, digits, '.', '_' and '-', begin with a letter or digit, "
            "at most 63 characters"
        )
    return name


TenantId: TypeAlias = Annotated[str, AfterValidator(_tenant_id)]


class TenantRetention(Table):
    """``[tenants.ID.retention]``: what differs from ``[retention]``, in seconds."""

    calls: Period | None = None
    attempts: Period | None = None
    inbox: Period | None = None


class TenantSettings(Table):
    """``[tenants.ID]``: one school, organisation or shop.

    Attributes:
        name: What people call it.
        status: ``suspended``: new calls are refused, and waiting ones stay where they are.
        metadata: The operator's own notes.
        defaults: What calls take that do not say it themselves, such as ``sms_sender``; what a
            plugin asks for under a name of its own it finds here too.
        rate_limit: Calls accepted per second, at most; no limit when None.
        burst: Calls that may come at once.
        daily_quota: Calls accepted per day (UTC), at most; no limit when None.
        retention: How long its things are kept, where that differs.
    """

    name: str = Field("", max_length=200)
    status: Literal["active", "suspended"] = "active"
    metadata: Mapping[str, Any] = Field(default_factory=dict, max_length=METADATA_LIMIT)
    defaults: Mapping[str, str] = Field(default_factory=dict, max_length=METADATA_LIMIT)
    rate_limit: Rate | None = None
    burst: Count = Field(1, ge=1, le=10_000)
    daily_quota: Count | None = Field(None, ge=1, le=1_000_000_000)
    retention: TenantRetention = TenantRetention()
