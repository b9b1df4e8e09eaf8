"""A configuration as it was read at one moment: settings, and every secret they point at."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from integrationd.api.ports import ConfigProblem
from integrationd.masking import Masker
from integrationd.registry import ConnectionSpec, builtin_plugins, plugin_files
from integrationd.settings import (
    Problem,
    ResolvedConfig,
    SecretReader,
    Settings,
    load,
    no_vault,
    referenced_files,
    resolve_all,
)
from integrationd.supervisor.secrets import stored_reader


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One configuration.

    Attributes:
        settings: What the file and the environment say.
        resolved: Each connection's config with its references resolved.
    """

    settings: Settings
    resolved: Mapping[str, ResolvedConfig]

    @property
    def stale(self) -> tuple[Problem, ...]:
        """What could not be read again, so that the value from before goes on."""
        return tuple(problem for one in self.resolved.values() for problem in one.stale)

    def secrets(self) -> frozenset[str]:
        """Return every secret of every connection, for masking."""
        return frozenset(value for one in self.resolved.values() for value in one.secrets)

    def maskers(self) -> dict[str, Masker]:
        """Return a masker for each connection, with its own secrets."""
        return {name: Masker(one.secrets) for name, one in self.resolved.items()}

    def specs(self) -> list[ConnectionSpec]:
        """Return what the connections are made from, in the order of the file."""
        return [
            ConnectionSpec(
                name=name,
                provider=one.provider,
                environment=one.environment,
                config=self.resolved[name].values,
                timeout_s=one.limits(self.settings.delivery).timeout_s,
                enabled=one.enabled,
            )
            for name, one in self.settings.connections.items()
        ]

    def plugin_files(self) -> tuple[Path, ...]:
        """Return all plugin files that there are now: the built-in ones, then the operator's."""
        return plugin_files([builtin_plugins(), *self.settings.plugins.paths])


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Where a configuration is read from.

    Attributes:
        file: The file.
        environ: The environment that overrides it.
    """

    file: Path
    environ: Mapping[str, str] = dataclasses.field(repr=False)

    def read(self) -> Snapshot:
        """Read the file and everything that it points at, for the first time.

        Raises:
            RejectedConfigError: It cannot be used; everything that is wrong is listed.
        """
        settings = self.load()
        return self.resolve(settings, vault=stored_reader(settings, self.environ))

    def load(self) -> Settings:
        """Read the file and the environment, but no secret.

        Raises:
            RejectedConfigError: They cannot be used; everything that is wrong is listed.
        """
        return load(self.file, self.environ)

    def resolve(
        self,
        settings: Settings,
        before: Mapping[str, ResolvedConfig] = MappingProxyType({}),
        vault: SecretReader = no_vault,
    ) -> Snapshot:
        """Read what the settings point at.

        Args:
            settings: What was loaded.
            before: The secrets that were read the last time; they go on where they cannot be
                read again.
            vault: Reads the secrets of the vault.

        Raises:
            RejectedConfigError: A secret cannot be read for the first time.
        """
        resolved = resolve_all(settings, self.file, self.environ, before, vault)
        return Snapshot(settings=settings, resolved=resolved)

    def secret_files(self, settings: Settings) -> frozenset[Path]:
        """Return the files that secrets are read from."""
        return referenced_files(settings, self.file, self.environ)


def told(problems: Sequence[Problem]) -> tuple[ConfigProblem, ...]:
    """Return problems as the API tells them."""
    return tuple(ConfigProblem(one.where, one.reason) for one in problems)
