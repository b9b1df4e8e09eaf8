"""Bodies by which tenants and connections are made: decoded, checked, and kept to what may be said.

Over the API a config may refer to its tenant's own secrets only: ``env:``, ``file:`` and
``credential:`` would read those of the daemon and of other tenants.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

import msgspec
import pydantic
from msgspec import UNSET, UnsetType

from integrationd.api.roles import Caller
from integrationd.api.tenancy import refuse_one_tenant
from integrationd.errors import UnprocessableError
from integrationd.journal import own_prefix
from integrationd.registry.secret_fields import path_places, value_at
from integrationd.settings import ConnectionSettings, TenantSettings
from integrationd.settings.model import CONNECTION_PATTERN
from integrationd.settings.tenants import TENANT_PATTERN

_REFUSED = re.compile(r"(env|file|credential):")
_OF_CONNECTIONS = "vault:connections."
_DEPTH_LIMIT = 32
_Model = TypeVar("_Model", bound=pydantic.BaseModel)


class ConnectionChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``PUT /v1/connections/{name}``: the whole connection, but for its id.

    Attributes:
        provider: The provider's code, as ``GET /v1/providers`` has it.
        tenant: Whose it is; null for all. Where it is left out: the caller's own tenant, and for
            callers of all tenants, all.
        config: What the provider's own schema asks for. A secret is given as it is and shown
            never again; one that is left out stays. ``vault:NAME`` is a secret of the tenant.
        order: Its place for an operation, from 1, among the connections that can do it.
        primary: Whether it goes before others of its place.
    """

    provider: str
    tenant: str | UnsetType | None = UNSET
    environment: Literal["sandbox", "production"] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    primary: bool | UnsetType = UNSET
    order: dict[str, int] | UnsetType = UNSET
    config: dict[str, Any] | UnsetType = UNSET
    rate_limit: str | float | UnsetType | None = UNSET
    burst: int | UnsetType = UNSET
    concurrency: int | UnsetType = UNSET
    timeout: str | float | UnsetType | None = UNSET
    attempts: int | UnsetType | None = UNSET
    give_up_after: str | float | UnsetType | None = UNSET
    on_uncertain: Literal["hold", "repeat"] | UnsetType | None = UNSET
    max_repeats: int | UnsetType | None = UNSET
    breaker: dict[str, Any] | UnsetType = UNSET
    query: dict[str, Any] | UnsetType = UNSET
    webhook: dict[str, Any] | UnsetType = UNSET

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"


class ConnectionRequest(ConnectionChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/connections``: a connection with its id, unique for all tenants."""

    id: str


class TenantChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``PUT /v1/tenants/{id}``: the whole tenant, but for its id.

    Attributes:
        status: ``suspended``: new calls are refused, and waiting ones stay where they are.
        defaults: What calls take that do not say it themselves, such as ``sms_sender``.
        rate_limit: Calls accepted per second, such as ``20/s``.
        daily_quota: Calls accepted per day (UTC).
        retention: How long its calls, attempts and inbox are kept, where that differs.
    """

    name: str | UnsetType = UNSET
    status: Literal["active", "suspended"] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    defaults: dict[str, str] | UnsetType = UNSET
    rate_limit: str | float | UnsetType | None = UNSET
    burst: int | UnsetType = UNSET
    daily_quota: int | UnsetType | None = UNSET
    retention: dict[str, Any] | UnsetType = UNSET


class TenantRequest(TenantChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/tenants``."""

    id: str


def written(body: ConnectionChange | TenantChange) -> dict[str, Any]:
    """Return what a body says, without the id."""
    said: dict[str, Any] = msgspec.to_builtins(body)
    said.pop("id", None)
    return said


def check_connection(name: str, said: Mapping[str, Any], caller: Caller) -> None:
    """Do nothing if what was written may be kept as a connection, short of its provider's rules.

    Raises:
        UnprocessableError: It may not; the error points at the member at fault.
        NotAllowedError: Only callers of all tenants may write that.
    """
    if not CONNECTION_PATTERN.fullmatch(name):
        raise UnprocessableError(
            "this is no id of a connection: use a-z, 0-9, '_' and '-', begin with a letter or"
            " digit, at most 63 characters",
            pointer="/id",
        )
    _validated(ConnectionSettings, said)
    for pointer, key, value in _members(said.get("config", {}), "/config"):
        if isinstance(value, str):
            _check_text(name, value, pointer)
        if key == "allow_private" and value is not False and caller.tenant is not None:
            refuse_one_tenant(caller, "the network that allow_private opens")


def check_paths(schema: Mapping[str, Any], config: Mapping[str, Any], caller: Caller) -> None:
    """Refuse the files of the daemon's machine to a caller of one tenant.

    Raises:
        NotAllowedError: A config names one.
    """
    if any(value_at(config, place) is not None for place in path_places(schema, config)):
        refuse_one_tenant(caller, "the daemon's machine, of which this names a file,")


def check_tenant(tenant: str, said: Mapping[str, Any]) -> None:
    """Do nothing if what was written may be kept as a tenant.

    Raises:
        UnprocessableError: It may not; the error points at the member at fault.
    """
    if not TENANT_PATTERN.fullmatch(tenant):
        raise UnprocessableError(
            "this is no id of a tenant: use letters, digits, '.', '_' and '-', begin with a letter"
            " or digit, at most 63 characters",
            pointer="/id",
        )
    _validated(TenantSettings, said)


def _validated(kind: type[_Model], said: Mapping[str, Any]) -> _Model:
    try:
        return kind.model_validate(said)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        steps = (str(step).replace("~", "~0").replace("/", "~1") for step in first["loc"])
        pointer = "".join(f"/{step}" for step in steps if step != "[key]")
        message = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        raise UnprocessableError(message, pointer=pointer) from None


def _check_text(connection: str, text: str, pointer: str) -> None:
    found = _REFUSED.match(text)
    if found is not None:
        raise UnprocessableError(
            f"{found[0]} cannot be used over the API: it would read what is the daemon's own",
            code="reference_refused",
            pointer=pointer,
            hint="Give the secret itself, which goes to the vault, or vault:NAME; write literal:"
            " in front of a text that only looks like a reference.",
        )
    own = f"vault:{own_prefix(connection)}"
    if text.startswith(_OF_CONNECTIONS) and not text.startswith(own):
        raise UnprocessableError(
            "this is the secret of another connection",
            code="reference_refused",
            pointer=pointer,
            hint="Give the secret itself.",
        )


def _members(value: Any, pointer: str, key: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield everything in a config: its pointer, the name that it has there, and itself."""
    if pointer.count("/") > _DEPTH_LIMIT:
        raise UnprocessableError(
            f"this is nested more than {_DEPTH_LIMIT} levels deep", pointer="/config"
        )
    yield pointer, key, value
    if isinstance(value, Mapping):
        for name, member in value.items():
            step = str(name).replace("~", "~0").replace("/", "~1")
            yield from _members(member, f"{pointer}/{step}", str(name))
    elif isinstance(value, list):
        for at, member in enumerate(value):
            yield from _members(member, f"{pointer}/{at}")
