"""The vault at work: the master keys at hand, the journal's rows, and what is told when they move.

Whoever changes secrets or keys does so under one lock, so that what a rotation replaces is never
wrapped by the key that goes. Readers need no lock: until the rotation is over the keyring opens
what either key has wrapped.
"""

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Literal

import anyio
import anyio.to_thread

from integrationd.api.ports import (
    SecretChange,
    VaultRotation,
    VaultStatus,
)
from integrationd.clock import Clock
from integrationd.errors import ConflictError, IntegrationdError, JournalError, MasterKeyError
from integrationd.events import Bus
from integrationd.journal import (
    Journal,
    Rotated,
    Sealed,
    Secrets,
    StoredSecret,
    load_or_make_key,
    stored_vault,
)
from integrationd.settings import (
    SHARED_SECRETS_OF,
    SecretReader,
    Settings,
    UnusableError,
    no_vault,
    vault_references,
)
from integrationd.vault import Keyring, MasterSource

LOST_KEY = (
    "Keep a copy of it in a safe place, apart from the journal and its backups: whoever loses it "
    "loses every secret in the vault, and whoever has both can read them."
)

UNREAD = "(not read)"


def master_source(settings: Settings, environ: Mapping[str, str]) -> MasterSource:
    """Return where the master keys are."""
    return MasterSource(settings.master_key, settings.vault.previous_master_key, environ)


def reader_of(found: Sealed, load: Callable[[], Keyring]) -> SecretReader:
    """Return what reads the vault as it stands at one commit.

    Args:
        found: Its rows.
        load: Returns the keyring; called at the first secret.
    """

    def read(tenant: str, name: str) -> str:
        if not found.has(tenant, name):
            raise _missing(tenant, name)
        try:
            return found.open(load(), tenant, name)
        except IntegrationdError as error:
            raise UnusableError(f"{error}. {error.hint}") from error

    return read


def stored_reader(settings: Settings, environ: Mapping[str, str]) -> SecretReader:
    """Return what reads the vault without a daemon, from the journal's file.

    Nothing is read before the first secret is asked for, and then each file once.
    """
    readers: list[SecretReader] = []

    def read(tenant: str, name: str) -> str:
        if not readers:
            try:
                found = stored_vault(settings.journal.path)
            except IntegrationdError as error:
                raise UnusableError(f"the vault cannot be read: {error}. {error.hint}") from error
            readers.append(reader_of(found, master_source(settings, environ).load))
        return readers[0](tenant, name)

    return read


def reader_here(settings: Settings, environ: Mapping[str, str]) -> tuple[SecretReader, str]:
    """Return what reads the vault for a command that only looks, and what it could not look at.

    The master key may stand where the daemon reads it and this command does not. Then secrets are
    looked for by their names only, each is read as :data:`UNREAD`, and the reason is returned.
    """
    if not vault_references(settings):
        return no_vault, ""
    try:
        found = stored_vault(settings.journal.path)
    except JournalError as error:
        return _unread, f"the vault cannot be read beside the daemon: {error}"
    try:
        keyring = master_source(settings, environ).load()
    except MasterKeyError as error:
        if error.is_elsewhere:
            return functools.partial(_named, found), str(error)
        return reader_of(found, functools.partial(_fail, error)), ""
    return reader_of(found, lambda: keyring), ""


def _unread(tenant: str, name: str) -> str:
    return UNREAD


def _named(found: Sealed, tenant: str, name: str) -> str:
    if not found.has(tenant, name):
        raise _missing(tenant, name)
    return UNREAD


def _missing(tenant: str, name: str) -> UnusableError:
    whose, option = "the vault", ""
    if tenant != SHARED_SECRETS_OF:
        whose, option = f"the vault of tenant {tenant}", f" --tenant {tenant}"
    return UnusableError(
        f"{whose} holds no secret {name!r}; run: integrationd vault set {name}{option}"
    )


class Vault:
    """The vault of a daemon, or of a command while no daemon runs.

    Args:
        secrets: The journal's rows.
        source: Where the master keys are.
        learn: Told of every value that is set, so that it is masked from then on.
        told: Called with the notice of a master key that was made.
    """

    def __init__(
        self,
        secrets: Secrets,
        source: MasterSource,
        learn: Callable[[Sequence[str]], None],
        told: Callable[[str], None],
    ) -> None:
        self._secrets = secrets
        self._source = source
        self._learn = learn
        self._told = told
        self._lock = anyio.Lock()
        self._keyring: Keyring | None = None

    async def reader(self, settings: Settings) -> SecretReader:
        """Return what reads the secrets that a configuration refers to, as they are now."""
        if not vault_references(settings):
            return no_vault
        # Together, since rows of before a rotation do not open with the keys of after it.
        async with self._lock:
            try:
                found = await self._secrets.sealed()
            except IntegrationdError as error:
                return _failing(f"the vault cannot be read: {error}. {error.hint}")
            try:
                keyring = await self._held()
            except IntegrationdError as error:
                return reader_of(found, functools.partial(_fail, error))
        return reader_of(found, lambda: keyring)

    @contextlib.asynccontextmanager
    async def keyring(self, *, make: bool) -> AsyncIterator[Keyring]:
        """Hold the keyring; no rotation begins meanwhile.

        Args:
            make: Whether to make the master key where nothing was ever sealed.

        Raises:
            MasterKeyError: It cannot be used or made.
        """
        async with self._lock:
            if make:
                await self._first_need()
            yield await self._held()

    async def list(self, tenant: str) -> Sequence[StoredSecret]:
        """Return a tenant's secrets, none of them opened."""
        found = await self._secrets.sealed()
        return [one for one in found.secrets if one.tenant == tenant]

    async def init(self) -> str:
        """Make the master key where there is none; return the notice, empty if there was one.

        Raises:
            MasterKeyError: It cannot be made, or the one that there is cannot be used.
        """
        async with self._lock:
            return await self._first_need()

    async def set(self, tenant: str, name: str, value: str, by: str) -> SecretChange:
        """Keep a secret; the first one makes the master key.

        Raises:
            IntegrationdError: It cannot be sealed or kept.
        """
        self._learn([value])
        async with self._lock:
            notice = await self._first_need()
            secret = await self._secrets.set(await self._held(), tenant, name, value, by)
        return SecretChange(
            name=name, version=secret.version, set_at_ms=secret.set_at_ms, notice=notice
        )

    @contextlib.asynccontextmanager
    async def sealing(self) -> AsyncIterator[Keyring]:
        """Hold what seals, so that no rotation comes between; the first need makes the master key.

        Raises:
            IntegrationdError: The keys cannot be read or made.
        """
        async with self._lock:
            await self._first_need()
            yield await self._held()

    async def learn_kept(self) -> None:
        """Have every secret that can be opened masked, also those that nothing refers to."""
        with contextlib.suppress(IntegrationdError):
            found = await self._secrets.sealed()
            if not found.secrets:
                return
            async with self._lock:
                # Again, since rows of before a rotation do not open with the keys of after it.
                found, keyring = await self._secrets.sealed(), await self._held()
            self._learn(await anyio.to_thread.run_sync(_opened, found, keyring))

    def learn(self, values: Iterable[str]) -> None:
        """Have values masked that are secrets soon."""
        self._learn(list(values))

    async def delete(self, tenant: str, name: str, by: str) -> None:
        """Delete a secret.

        Raises:
            NotFoundError: There is none of that name.
        """
        async with self._lock:
            await self._secrets.delete(tenant, name, by)

    async def rotate(self, by: str, *, data_keys: bool) -> VaultRotation:
        """Put a new master key in the place of the old one, and wrap every data key by it.

        Until the one commit that does it both open everything; whatever happens, one of them does.

        Raises:
            ConflictError: There is no new master key to take, or no data key yet.
            IntegrationdError: The keys cannot be read, or the commit failed.
        """
        # A commit goes on when its caller is gone, and then its key must not be taken away.
        with anyio.CancelScope(shield=True):
            async with self._lock:
                rotated, kept_as = await self._rotated(by, data_keys)
        return VaultRotation(
            master=rotated.master,
            data_keys=rotated.data_keys,
            sealed_anew=rotated.sealed_anew,
            kept_as=kept_as,
        )

    async def _rotated(self, by: str, data_keys: bool) -> tuple[Rotated, str]:
        self._keyring = None
        found = await self._secrets.sealed()
        if not found.keys:
            raise ConflictError(
                "there is nothing to rotate: the vault holds no data key yet",
                hint="'integrationd vault set NAME' keeps the first secret.",
            )
        keyring, kept_as = await self._held(), ""
        if found.masters <= {keyring.current.id}:
            kept_as, keyring = await self._with_next(keyring)
        try:
            rotated = await self._secrets.rewrap(keyring, by, anew=data_keys)
            await self._settled()
        finally:
            # Not even a failed commit is known not to have been kept: the journal says it.
            self._keyring = None
        return rotated, kept_as

    async def status(self) -> VaultStatus:
        """Say how the vault is; opens every data key, but no secret."""
        async with self._lock:
            return await self._status()

    async def _status(self) -> VaultStatus:
        found = await self._secrets.sealed()
        problems = list(found.damaged.values())
        state: Literal["usable", "not_made", "unusable"] = "usable"
        master = ""
        try:
            keyring = await anyio.to_thread.run_sync(self._source.load)
            master = keyring.current.id
            for key in found.keys:
                keyring.open(key.data_key)
        except MasterKeyError as error:
            is_unneeded = error.is_missing and not found.keys
            state = "not_made" if is_unneeded else "unusable"
            problems += [] if is_unneeded else [f"{error}. {error.hint}"]
        except IntegrationdError as error:
            state = "unusable"
            problems.append(f"{error}. {error.hint}")
        return VaultStatus(
            master_key=self._source.reference,
            state=state,
            master=master,
            data_keys=len(found.keys),
            behind=sum(key.master != master for key in found.keys) if master else 0,
            secrets=len(found.secrets),
            problems=tuple(problems),
        )

    async def _held(self) -> Keyring:
        """Return the keyring, read at the first need; ends what a crash has left half-way."""
        if self._keyring is None:
            await self._settled()
            self._keyring = await anyio.to_thread.run_sync(self._source.load)
        return self._keyring

    async def _first_need(self) -> str:
        try:
            await self._held()
        except MasterKeyError as error:
            found = await self._secrets.sealed()
            is_first = error.is_missing and not found.keys and not found.damaged
            file = self._source.file
            if file is None or file.path.exists() or not is_first:
                raise
            self._keyring = await anyio.to_thread.run_sync(self._source.make)
        else:
            return ""
        notice = f"A new master key was made in {file.path}. {LOST_KEY}"
        self._told(notice)
        return notice

    async def _with_next(self, keyring: Keyring) -> tuple[str, Keyring]:
        """Make the master key that is to follow; return where the old one will be kept as well."""
        file = self._source.file
        if file is None:
            raise ConflictError(
                f"integrationd cannot replace the master key of {self._source.reference} by itself",
                hint="Set [vault] master_key to a new key and previous_master_key to the one of "
                "now, restart the daemon, and rotate again.",
            )
        following = await anyio.to_thread.run_sync(file.make_next)
        return str(file.kept(keyring.current)), keyring.with_current(following)

    async def _settled(self) -> None:
        """End a replacement of the key file; with a full or failing disk both keys go on."""
        file = self._source.file
        if file is None or not await anyio.to_thread.run_sync(file.is_replaced):
            return
        with contextlib.suppress(JournalError):
            used = await self._secrets.masters()
            await anyio.to_thread.run_sync(file.settle, used)


def _opened(found: Sealed, keyring: Keyring) -> list[str]:
    values = []
    for one in found.secrets:
        with contextlib.suppress(IntegrationdError):
            values.append(found.open(keyring, one.tenant, one.name))
    return values


def _fail(error: IntegrationdError) -> Keyring:
    raise error


def _failing(reason: str) -> SecretReader:
    def read(tenant: str, name: str) -> str:
        raise UnusableError(reason)

    return read


def refuse_in_use(settings: Settings, tenant: str, name: str) -> None:
    """Do nothing if no connection refers to a secret.

    Raises:
        ConflictError: One does.
    """
    users = vault_references(settings).get((tenant, name))
    if users:
        raise ConflictError(
            f"the secret {name!r} is used by: {', '.join(users)}",
            code="secret_in_use",
            hint="Take 'vault:' out of these connections first.",
        )


@contextlib.asynccontextmanager
async def standalone(
    settings: Settings, environ: Mapping[str, str], clock: Clock
) -> AsyncIterator[Vault]:
    """Open the vault while no daemon runs; the journal is ours until the end.

    Raises:
        JournalLockedError: A daemon owns it.
    """
    key = load_or_make_key(settings.instance_key_file)
    journal = Journal(settings.journal.path, key, Bus(), clock)
    try:
        await journal.open()
        source = master_source(settings, environ)
        yield Vault(journal.secrets, source, lambda _values: None, lambda _notice: None)
    finally:
        await journal.close()
