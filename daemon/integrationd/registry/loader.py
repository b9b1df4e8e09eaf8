"""Turn one file into one validated plugin version, or say what is wrong with it and where."""

import dataclasses
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from integrationd.clock import Clock
from integrationd.sdk.contract import Contract
from integrationd.sdk.contracts import contract_of
from integrationd.sdk.plugin_file import (
    PluginFault,
    PluginFile,
    PluginFileError,
    blaming,
    forget,
    run_plugin_file,
)
from integrationd.sdk.provider import (
    CODE_PATTERN,
    Operation,
    Provider,
    ProviderConfig,
    Query,
    config_schema,
)

_Declared = TypeVar("_Declared", Operation, Query)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServedOperation:
    """An operation of a plugin together with its contract.

    Attributes:
        contract: The catalogue's, or the plugin's own.
        declared: What the plugin declared with ``@operation``.
    """

    contract: Contract
    declared: Operation

    def decode(self, payload: bytes) -> Any:
        """Turn a payload as it was accepted into the contract's typed request.

        Raises:
            msgspec.DecodeError: It is not JSON, or does not keep the contract.
        """
        return msgspec.json.decode(payload, type=self.contract.request)

    def is_repeat_safe(self, provider: Provider, request: Any) -> bool:
        """Say whether a send of unknown outcome may be sent again with the same key."""
        rule = self.declared.repeat_safe
        return rule if isinstance(rule, bool) else rule(provider, request)

    def only_reads(self, provider: Provider, request: Any) -> bool:
        """Say whether the request has no effect at all."""
        rule = self.declared.reads_only
        return rule if isinstance(rule, bool) else rule(provider, request)

    def key_lifetime_s(self, provider: Provider, request: Any) -> float | None:
        """Return the seconds for which the provider honours a key; None where it never runs out."""
        rule = self.declared.key_lifetime_s
        return rule(provider, request) if callable(rule) else rule


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PluginVersion:
    """One plugin as its file stood when it was read.

    Attributes:
        code: The provider's code.
        path: The file.
        digest: SHA-256 of the file, in hex.
        provider: The provider class.
        operations: What it can do, by name.
        queries: What it can be asked about, by the name of the operation.
        loaded_at_ms: When it was read, UTC milliseconds.
        config_schema: JSON Schema of its config.
    """

    code: str
    path: Path
    digest: str
    provider: type[Provider]
    operations: Mapping[str, ServedOperation]
    queries: Mapping[str, Query]
    loaded_at_ms: int
    config_schema: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPlugins:
    """What came of a set of plugin files.

    Attributes:
        versions: The usable ones, by code.
        faults: The others.
    """

    versions: Mapping[str, PluginVersion]
    faults: tuple[PluginFault, ...]


def load_plugins(paths: Iterable[Path], clock: Clock) -> LoadedPlugins:
    """Load all files; a broken one is reported and does not stop the others.

    Of two files with the same code the first is kept.
    """
    versions: list[PluginVersion] = []
    faults: list[PluginFault] = []
    for path in paths:
        try:
            versions.append(load_plugin(path, clock))
        except PluginFileError as error:
            faults.append(error.fault)
    loaded = collated(versions, faults, {})
    for version in versions:
        if loaded.versions[version.code] is not version:
            forget(version.provider)
    return loaded


def collated(
    versions: Iterable[PluginVersion],
    faults: Iterable[PluginFault],
    serving: Mapping[str, PluginVersion],
) -> LoadedPlugins:
    """Choose one version for each code.

    Of two files with one code the file that serves already is kept, else the first.
    """
    chosen: dict[str, PluginVersion] = {}
    doubled: list[PluginVersion] = []
    for version in versions:
        first = chosen.setdefault(version.code, version)
        if first is version:
            continue
        incumbent = serving.get(version.code)
        if incumbent is not None and incumbent.path == version.path:
            chosen[version.code] = version
            doubled.append(first)
        else:
            doubled.append(version)
    taken = (_taken(version, chosen[version.code]) for version in doubled)
    return LoadedPlugins(versions=types.MappingProxyType(chosen), faults=(*faults, *taken))


def load_plugin(path: Path, clock: Clock, digest: str | None = None) -> PluginVersion:
    """Load one plugin file.

    Args:
        path: The file.
        clock: For when it was read.
        digest: SHA-256 of what it must hold, in hex; anything else is not run.

    Raises:
        PluginFileError: It cannot be used; the error names the file, the reason and, where there
            is one, the line.
    """
    file = run_plugin_file(path, digest)
    try:
        with blaming(path):
            return _version(file, clock.now_ms())
    except BaseException:
        forget(file.provider)
        raise


def _taken(version: PluginVersion, first: PluginVersion) -> PluginFault:
    reason = f"has the code {version.code!r}, which {first.path} has already; that one is kept"
    return PluginFault(path=version.path, line=None, reason=reason)


def _version(file: PluginFile, now_ms: int) -> PluginVersion:
    rules = _Rules(file.path, file.provider)
    rules.check_class()
    return PluginVersion(
        code=file.provider.code,
        path=file.path,
        digest=file.digest,
        provider=file.provider,
        operations=rules.operations(),
        queries=rules.queries(),
        loaded_at_ms=now_ms,
        config_schema=config_schema(file.provider.Config),
    )


class _Rules:
    """What a provider class must keep; the errors name the line that does not."""

    def __init__(self, path: Path, provider: type[Provider]) -> None:
        self._path = path
        self._provider = provider

    def check_class(self) -> None:
        name = self._provider.__name__
        code: object = getattr(self._provider, "code", None)
        if not isinstance(code, str) or not CODE_PATTERN.fullmatch(code):
            raise self._error(
                f"{name}.code must be text of a-z, 0-9 and '_' that begins with a letter, "
                "at most 40 characters"
            )
        config: object = self._provider.Config
        if not isinstance(config, type) or not issubclass(config, ProviderConfig):
            raise self._error(f"{name}.Config must derive from ProviderConfig")
        for method in (self._provider.test_connection, self._provider.aclose):
            if not inspect.iscoroutinefunction(method):
                raise self._error(f"{method.__name__} must be an 'async def'", method)

    def operations(self) -> Mapping[str, ServedOperation]:
        declared = self._declared(Operation)
        if not declared:
            raise self._error(f"{self._provider.__name__} declares no @operation")
        return types.MappingProxyType({name: self._served(declared[name]) for name in declared})

    def queries(self) -> Mapping[str, Query]:
        declared = self._declared(Query)
        for name, query in declared.items():
            self._check_signature(query.method, "self, asked, ctx")
            if name not in self._provider.operations():
                raise self._error(f"@query({name!r}) has no @operation({name!r})", query.method)
        return types.MappingProxyType(declared)

    def _served(self, declared: Operation) -> ServedOperation:
        self._check_signature(declared.method, "self, request, ctx")
        try:
            contract = contract_of(declared.name, declared.contract)
        except ValueError as error:
            raise self._error(str(error), declared.method) from error
        return ServedOperation(contract=contract, declared=declared)

    def _declared(self, kind: type[_Declared]) -> dict[str, _Declared]:
        found: dict[str, _Declared] = {}
        for mark in self._marks(kind):
            first = found.setdefault(mark.name, mark)
            if first is not mark:
                raise self._error(
                    f"{first.method.__name__} and {mark.method.__name__} both declare {mark.name}",
                    mark.method,
                )
        return found

    def _marks(self, kind: type[_Declared]) -> list[_Declared]:
        members = (getattr(self._provider, name, None) for name in dir(self._provider))
        functions = [member for member in members if inspect.isfunction(member)]
        return [
            mark
            for function in functions
            for mark in vars(function).values()
            if isinstance(mark, kind)
        ]

    def _check_signature(self, method: Callable[..., Any], wanted: str) -> None:
        try:
            inspect.signature(method).bind(None, None, None)
        except TypeError as error:
            raise self._error(f"{method.__name__} must take ({wanted})", method) from error

    def _error(self, reason: str, at: object = None) -> PluginFileError:
        line = at.__code__.co_firstlineno if inspect.isfunction(at) else None
        return PluginFileError(self._path, reason, line)
