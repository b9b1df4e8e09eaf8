"""A configuration as it was read at one moment: settings, and every secret they point at.

What was made over the API stands beside what the file says, as one; only whether it may be left out
tells them apart.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from integrationd.api.ports import ConfigProblem
from integrationd.call import DEFAULT_TENANT
from integrationd.delivery.routing import ByHand
from integrationd.errors import JournalError
from integrationd.journal import stored_directory
from integrationd.masking import Masker
from integrationd.registry import ConnectionSpec, builtin_plugins, plugin_files
from integrationd.settings import (
    Problem,
    RejectedConfigError,
    ResolvedConfig,
    SecretReader,
    Settings,
    joined,
    key_path,
    load,
    load_addresses,
    no_vault,
    referenced_files,
    resolve_all,
    strangers,
)
from integrationd.supervisor.fed import (
    Fed,
    maskers_of,
    of_app,
    specs_of,
    with_app,
    with_fed,
)
from integrationd.supervisor.secrets import stored_reader
from integrationd.supervisor.stored import Problems, Stored


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One configuration.

    Attributes:
        settings: What holds: the file, the environment, and what was made over the API.
        resolved: Each connection's config with its references resolved.
        own: What the file and the environment alone say.
        stored: What was made over the API, and what was done to connections.
        left_out: The connections made over the API that cannot be made, and why.
        fed: The subscriptions, by the connection that is each one's own.
    """

    settings: Settings
    resolved: Mapping[str, ResolvedConfig]
    own: Settings
    stored: Stored = dataclasses.field(default_factory=Stored)
    left_out: Problems = dataclasses.field(default_factory=dict)
    fed: Mapping[str, Fed] = dataclasses.field(default_factory=dict)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What goes on although it could not be read again, and what was left out."""
        stale = (problem for one in self.resolved.values() for problem in one.stale)
        missing = (problem for found in self.left_out.values() for problem in found)
        return (*stale, *self.stored.warnings, *missing)

    @property
    def by_hand(self) -> ByHand:
        """What was done to connections besides configuring them."""
        return self.stored.by_hand(self.left_out)

    def without(self, left_out: Problems) -> "Snapshot":
        """Return it with more connections left out."""
        return dataclasses.replace(self, left_out={**self.left_out, **left_out})

    def feeding(self, fed: Mapping[str, Fed]) -> "Snapshot":
        """Return it with other subscriptions, none of them left out so far."""
        left_out = {name: told for name, told in self.left_out.items() if name not in self.fed}
        return dataclasses.replace(self, fed=fed, left_out=left_out)

    def secrets(self) -> frozenset[str]:
        """Return every secret of every connection, for masking."""
        referred = (value for one in self.resolved.values() for value in one.secrets)
        signing = (value for one in self.fed.values() for value in one.secrets)
        return frozenset((*referred, *signing))

    def maskers(self) -> dict[str, Masker]:
        """Return a masker for each connection, with its own secrets."""
        referred = {name: Masker(one.secrets) for name, one in self.resolved.items()}
        return {**referred, **maskers_of(self.fed)}

    @property
    def delivered(self) -> Settings:
        """What holds for delivery: the connections of subscriptions are among the others."""
        return with_fed(self.settings, self.fed)

    def specs(self) -> list[ConnectionSpec]:
        """Return what the connections are made from, those of the file first, in its order."""
        fed = [one for one in specs_of(self.fed) if one.name not in self.left_out]
        return [*self._own_specs(), *fed]

    def _own_specs(self) -> list[ConnectionSpec]:
        return [
            ConnectionSpec(
                name=name,
                provider=one.provider,
                environment=one.environment,
                config=self.resolved[name].values,
                timeout_s=one.limits(self.settings.delivery).timeout_s,
                enabled=one.enabled,
                tenant=one.tenant,
            )
            for name, one in self.settings.connections.items()
            if name in self.resolved and name not in self.left_out
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
        """Read the file, the journal and everything that they point at, for the first time.

        Raises:
            RejectedConfigError: It cannot be used; everything that is wrong is listed.
        """
        stored = self.stored()
        settings = self.load(stored)
        reader = stored_reader(settings, self.environ)
        return self.resolve(settings, stored, vault=reader)

    def load(self, stored: Stored) -> Settings:
        """Read the file and the environment, but no secret.

        Args:
            stored: What was made over the API; routes of the file may name that.

        Raises:
            RejectedConfigError: They cannot be used; everything that is wrong is listed.
        """
        return with_app(load(self.file, self.environ, stored.names))

    def joined(self, own: Settings, stored: Stored) -> Settings:
        """Return what the file says together with what was made over the API.

        Raises:
            RejectedConfigError: An id is in both.
        """
        return joined(own, stored.made, str(self.file))

    def resolve(
        self,
        own: Settings,
        stored: Stored,
        before: Mapping[str, ResolvedConfig] = MappingProxyType({}),
        vault: SecretReader = no_vault,
    ) -> Snapshot:
        """Read what the settings point at.

        Args:
            own: What was loaded.
            stored: What was made over the API.
            before: The secrets that were read the last time; they go on where they cannot be
                read again.
            vault: Reads the secrets of the vault.

        Raises:
            RejectedConfigError: A secret of the file cannot be read for the first time, a
                connection of the file names an unknown tenant, or an id is in both.
        """
        settings = self.joined(own, stored)
        unknown = self.strangers(settings, own, stored)
        resolved = self._resolved(own, before, vault)
        left_out = {**stored.unusable, **unknown}
        for name, one in stored.made.connections.items():
            if name in left_out:
                continue
            alone = own.model_copy(update={"connections": {name: one}})
            try:
                resolved |= resolve_all(alone, self.file, self.environ, before, vault)
            except RejectedConfigError as error:
                left_out[name] = error.problems
        return Snapshot(
            settings=settings, resolved=resolved, own=own, stored=stored, left_out=left_out
        )

    def strangers(self, settings: Settings, own: Settings, stored: Stored) -> Problems:
        """Return what is wrong with stored connections of tenants that there are not.

        Raises:
            RejectedConfigError: The file has such connections.
        """
        found = strangers(settings.connections, {*settings.tenants, *stored.tenants})
        of_file = [problem for name, problem in found.items() if name in own.connections]
        # What the journal holds may be their tenant; once it is back, everything is read again.
        if of_file and not stored.unread:
            raise RejectedConfigError(str(self.file), of_file)
        return {name: (told,) for name, told in found.items() if name not in own.connections}

    def _resolved(
        self, own: Settings, before: Mapping[str, ResolvedConfig], vault: SecretReader
    ) -> dict[str, ResolvedConfig]:
        try:
            return resolve_all(own, self.file, self.environ, before, vault)
        except RejectedConfigError as error:
            raise RejectedConfigError(error.source, [*map(of_app, error.problems)]) from error

    def stored(self) -> Stored:
        """Read what was made over the API, from the journal's file.

        A journal that cannot be read now is read again when it is open; a file that does not say
        where it is says what is wrong with it when it is loaded.
        """
        try:
            path = load_addresses(self.file, self.environ).journal.path
            return Stored.of(stored_directory(path))
        except RejectedConfigError:
            return Stored()
        except JournalError as error:
            return Stored(unread=str(error))

    def secret_files(self, settings: Settings) -> frozenset[Path]:
        """Return the files that secrets are read from."""
        return referenced_files(settings, self.file, self.environ)


def orphaned(before: Snapshot, after: Snapshot) -> list[Problem]:
    """Return what is wrong with tenants that a file does without, while connections name them."""
    gone = before.settings.tenants.keys() - after.settings.tenants.keys() - {DEFAULT_TENANT}
    made = after.stored.made.connections
    found = {name: [one for one in made if made[one].tenant == name] for name in sorted(gone)}
    return [
        Problem(
            key_path("tenants", name),
            f"connections made over the API are its own: {', '.join(theirs)}; remove these first,"
            " or keep it",
        )
        for name, theirs in found.items()
        if theirs
    ]


def told(problems: Sequence[Problem]) -> tuple[ConfigProblem, ...]:
    """Return problems as the API tells them."""
    return tuple(ConfigProblem(one.where, one.reason) for one in problems)
