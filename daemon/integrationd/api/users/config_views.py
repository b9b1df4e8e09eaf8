"""The users' configs: connections in the words of the users' documents, both ways."""

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from integrationd.api.directory_views import ConnectionTestView
from integrationd.errors import RequestError, UnprocessableError

TestStatus: TypeAlias = Literal["success", "failed"]
_Config: TypeAlias = dict[str, Any]
_NO_ID = re.compile(r"[^a-z0-9_-]+")
# A member of a connection by the users' name of it.
_NAMES: Mapping[str, str] = {"is_enabled": "enabled", "is_primary": "primary"}
_MARK = {"set", "set_at"}


class ConfigChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``PUT configs/{name}``: what is to change; what is left out stays.

    Attributes:
        provider: The provider's code, also as ``provider_id``.
        settings: What the provider's schema asks for, but for secrets; all of it.
        credentials: Secrets, given as they are and shown never again; those left out stay.
        config: Both in one, in the place of the two.
    """

    provider: str | UnsetType = UNSET
    provider_id: str | UnsetType = UNSET
    tenant: str | UnsetType | None = UNSET
    environment: Literal["sandbox", "production"] | UnsetType = UNSET
    is_enabled: bool | UnsetType = UNSET
    is_primary: bool | UnsetType = UNSET
    settings: _Config | UnsetType = UNSET
    credentials: _Config | UnsetType = UNSET
    config: _Config | UnsetType = UNSET

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"


class ConfigRequest(ConfigChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST configs``; without an id it is named after its tenant and provider."""

    id: str | UnsetType = UNSET


class ConnectionShown(msgspec.Struct, frozen=True, kw_only=True):
    """What is taken over from a connection as ``/v1`` shows it."""

    id: str
    tenant: str | None
    source: str
    state: str
    problem: str
    provider: str
    environment: str
    enabled: bool
    primary: bool
    last_test: ConnectionTestView | None
    created_at: str | None
    changed_at: str | None
    settings: _Config | None = None


class ConfigItem(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as the users' documents have it; never with a secret.

    Attributes:
        source: ``file`` for one that only its file can change, or ``api``.
        state: ``serving``, ``off``, ``paused``, ``leaving`` or ``unusable``.
        problem: Why it is not usable; empty where it is.
        settings: What its maker wrote, but for secrets; null in lists, for one of the file, and
            for who may not change it.
        credentials: For each secret that it is set, and when; null likewise.
        last_test_status: What its last test came to; null if there was none.
    """

    id: str
    tenant: str | None
    provider: str
    environment: str
    is_enabled: bool
    is_primary: bool
    source: str
    state: str
    problem: str
    settings: _Config | None
    credentials: _Config | None
    last_test_status: TestStatus | None
    last_test_message: str | None
    last_tested_at: str | None
    created_at: str | None
    updated_at: str | None


class ConfigTest(msgspec.Struct, frozen=True, kw_only=True):
    """What a test of a config has found.

    Attributes:
        message: What was found.
        hint: What to do about it; empty where there is nothing to do.
    """

    id: str
    last_test_status: TestStatus
    last_tested_at: str
    message: str
    hint: str
    duration_ms: int


def config_item(one: ConnectionShown) -> ConfigItem:
    """Show a connection in the users' words."""
    written = None if one.settings is None else one.settings.get("config") or {}
    test = one.last_test
    return ConfigItem(
        id=one.id,
        tenant=one.tenant,
        provider=one.provider,
        environment=one.environment,
        is_enabled=one.enabled,
        is_primary=one.primary,
        source=one.source,
        state=one.state,
        problem=one.problem,
        settings=None if written is None else _members(written, secret=False),
        credentials=None if written is None else _members(written, secret=True),
        last_test_status=None if test is None else _status(test),
        last_test_message=None if test is None else test.message,
        last_tested_at=None if test is None else test.tested_at,
        created_at=one.created_at,
        updated_at=one.changed_at,
    )


def config_test(name: str, test: ConnectionTestView) -> ConfigTest:
    """Show a test in the users' words."""
    return ConfigTest(
        id=name,
        last_test_status=_status(test),
        last_tested_at=test.tested_at,
        message=test.message,
        hint=test.hint,
        duration_ms=test.duration_ms,
    )


def connection_to_make(said: ConfigRequest, tenant: str | None) -> dict[str, Any]:
    """Return the body of ``POST /v1/connections`` for a config.

    Args:
        said: The config.
        tenant: The caller's tenant; None for all.

    Raises:
        UnprocessableError: It says something twice, or names no provider.
    """
    made = _changes(said)
    provider = made.get("provider")
    if provider is None:
        raise UnprocessableError(
            "provider is missing", pointer="/provider", hint="See GET providers for their codes."
        )
    whose = tenant if said.tenant is UNSET else said.tenant
    own = "-".join(name for name in (whose, provider) if name)
    name = _NO_ID.sub("-", own.lower())[:63] if said.id is UNSET else said.id
    return {"id": name, **made, "config": _config(said, {})}


def connection_to_keep(said: ConfigChange, now: ConnectionShown) -> dict[str, Any]:
    """Return the body of ``PUT /v1/connections/{name}`` that changes only what is said.

    Args:
        said: The change.
        now: The connection as it is.

    Raises:
        UnprocessableError: It says something twice.
    """
    written = now.settings or {"provider": now.provider}
    made = {**written, **_changes(said), "config": _config(said, written.get("config") or {})}
    # Whose it is stands in no settings; what is not said about it stays.
    if said.tenant is UNSET:
        made.pop("tenant", None)
    return made


def point_back(said: ConfigChange, error: RequestError) -> None:
    """Have an error about a connection point at the member as the users call it."""
    steps = error.pointer.split("/")
    member = steps[1] if len(steps) > 1 else ""
    theirs = {ours: name for name, ours in _NAMES.items()}.get(member, member)
    if member == "provider" and said.provider_id is not UNSET:
        theirs = "provider_id"
    elif member == "config" and said.config is UNSET:
        credentials = said.credentials or {}
        theirs = "credentials" if len(steps) > 2 and steps[2] in credentials else "settings"
    error.pointer = "/".join(["", theirs, *steps[2:]]) if member else error.pointer


def _changes(said: ConfigChange) -> dict[str, Any]:
    """Return what is said besides the config, by the names of ``/v1``."""
    if said.provider is not UNSET and said.provider_id is not UNSET:
        raise _twice("provider", "/provider_id")
    given: dict[str, Any] = {
        "provider": said.provider_id if said.provider is UNSET else said.provider,
        "tenant": said.tenant,
        "environment": said.environment,
        **{ours: getattr(said, name) for name, ours in _NAMES.items()},
    }
    return {name: value for name, value in given.items() if value is not UNSET}


def _config(said: ConfigChange, written: _Config) -> _Config:
    """Return a connection's config from what is said of it and what is there."""
    if said.config is not UNSET:
        if said.settings is not UNSET or said.credentials is not UNSET:
            raise _twice("config", "/config")
        return said.config
    settings = _members(written, secret=False) if said.settings is UNSET else said.settings
    credentials = {} if said.credentials is UNSET else said.credentials
    for name in settings.keys() & credentials.keys():
        raise _twice(name, f"/credentials/{name}")
    return {**_members(written, secret=True), **settings, **credentials}


def _twice(name: str, pointer: str) -> UnprocessableError:
    return UnprocessableError(
        f"{name} is given twice",
        code="given_twice",
        pointer=pointer,
        hint="Leave one of them out.",
    )


def _status(test: ConnectionTestView) -> TestStatus:
    return "success" if test.ok else "failed"


def _members(config: _Config, *, secret: bool) -> _Config:
    return {name: value for name, value in config.items() if _is_secret(value) == secret}


def _is_secret(value: Any) -> bool:
    """Say whether a value is, or holds, what is shown in the place of a secret."""
    if isinstance(value, dict):
        return value.keys() == _MARK or any(map(_is_secret, value.values()))
    return isinstance(value, list) and any(map(_is_secret, value))
