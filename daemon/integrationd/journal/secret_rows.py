"""The vault's rows: read from any connection, opened, checked and copied."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from integrationd.errors import DamagedError, VaultError
from integrationd.journal import rows, sqlite
from integrationd.vault import DataKey, Identity, Keyring, unseal

# One statement, so that both tables are read at the same commit.
ALL = (
    "SELECT 0, tenant, generation, master, wrapped, versions, made_at_ms, sum FROM data_key"
    " UNION ALL"
    " SELECT 1, tenant, name, version, generation, sealed, set_at_ms, sum FROM secret"
    " ORDER BY 1, 2, 3"
)
INSERT_KEY = (
    "INSERT OR REPLACE INTO data_key (tenant, generation, master, wrapped, versions, made_at_ms,"
    " sum) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
INSERT_SEALED = (
    "INSERT OR REPLACE INTO secret (tenant, name, version, generation, sealed, set_at_ms, sum)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """A data key's row.

    Attributes:
        tenant: Whose it is.
        generation: Its number, from one.
        master: The id of the master key that wraps it.
        wrapped: The wrapped key.
        versions: The last version that a secret of the tenant was given.
        made_at_ms: When it was made, UTC milliseconds.
    """

    tenant: str
    generation: int
    master: str
    wrapped: bytes
    versions: int
    made_at_ms: int

    @property
    def data_key(self) -> DataKey:
        """What a keyring opens."""
        return DataKey(self.tenant, self.generation, self.master, self.wrapped)


class StoredSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret's row; what it holds is sealed.

    Attributes:
        tenant: Whose it is.
        name: What references call it.
        version: Its number among all that was ever set for the tenant.
        generation: The data key that it is sealed under.
        sealed: What it holds.
        set_at_ms: When it was set, UTC milliseconds.
    """

    tenant: str
    name: str
    version: int
    generation: int
    sealed: bytes
    set_at_ms: int

    @property
    def identity(self) -> Identity:
        """The row that it stands in."""
        return Identity("secret", self.tenant, self.name, self.version)


class Sealed:
    """The vault as it stands at one commit.

    Args:
        found: The rows of :data:`ALL`.

    Attributes:
        damaged: What cannot be used, by tenant and name (empty for a data key), and why.
    """

    def __init__(self, found: Iterable[sqlite.Row] = ()) -> None:
        self.damaged: dict[tuple[str, str], str] = {}
        self._keys: dict[tuple[str, int], StoredKey] = {}
        self._secrets: dict[tuple[str, str], StoredSecret] = {}
        for is_secret, *row in found:
            try:
                self._add(secret_of(row) if is_secret else key_of(row))
            except DamagedError as error:
                self.damaged[str(row[0]), str(row[1]) if is_secret else ""] = str(error)

    def _add(self, record: StoredKey | StoredSecret) -> None:
        if isinstance(record, StoredKey):
            self._keys[record.tenant, record.generation] = record
        else:
            self._secrets[record.tenant, record.name] = record

    @property
    def keys(self) -> tuple[StoredKey, ...]:
        """The sound data keys."""
        return tuple(self._keys.values())

    @property
    def secrets(self) -> tuple[StoredSecret, ...]:
        """The sound secrets."""
        return tuple(self._secrets.values())

    @property
    def masters(self) -> frozenset[str]:
        """The ids of the master keys that wrap the data keys."""
        return frozenset(key.master for key in self.keys)

    def has(self, tenant: str, name: str) -> bool:
        """Say whether there is a secret of that name, sound or not."""
        return (tenant, name) in self._secrets or (tenant, name) in self.damaged

    def open(self, keyring: Keyring, tenant: str, name: str) -> str:
        """Return what a secret holds.

        Raises:
            DamagedError: Its row, or that of its data key, fails its checksum.
            VaultError: It cannot be opened; the message names the row.
        """
        secret = self._secrets.get((tenant, name))
        if secret is None:
            raise DamagedError(self.damaged.get((tenant, name), f"there is no secret {name!r}"))
        key = self._keys.get((tenant, secret.generation))
        if key is None:
            lost = self.damaged.get((tenant, ""), "its data key is not in the journal")
            raise VaultError(f"{secret.identity} cannot be opened: {lost}")
        return opened(keyring.open(key.data_key), secret)


def opened(key: bytes, secret: StoredSecret) -> str:
    """Return what a secret holds.

    Args:
        key: The tenant's data key itself.
        secret: The row.

    Raises:
        VaultError: It cannot be opened; the message names the row.
    """
    plain = unseal(key, secret.identity, secret.sealed)
    return plain.decode("utf-8", "surrogatepass")


def key_of(row: Sequence[Any]) -> StoredKey:
    """Return the data key of a row.

    Raises:
        DamagedError: The checksum does not fit.
    """
    rows.check(f"the data key of tenant {row[0]!r} (generation {row[1]})", row[-1], *row[:-1])
    return StoredKey(**dict(zip(StoredKey.__struct_fields__, row[:-1], strict=True)))


def secret_of(row: Sequence[Any]) -> StoredSecret:
    """Return the secret of a row.

    Raises:
        DamagedError: The checksum does not fit.
    """
    rows.check(f"the secret {row[1]!r} of tenant {row[0]!r}", row[-1], *row[:-1])
    return StoredSecret(**dict(zip(StoredSecret.__struct_fields__, row[:-1], strict=True)))


def store(db: sqlite.Connection, record: StoredKey | StoredSecret) -> None:
    """Write a row, in the place of the one of its name or generation."""
    values = msgspec.structs.astuple(record)
    statement = INSERT_KEY if isinstance(record, StoredKey) else INSERT_SEALED
    db.execute(statement, (*values, rows.seal(*values)))


def read(db: sqlite.Connection) -> Sealed:
    """Read the vault as it stands; a journal of an earlier version has an empty one.

    Raises:
        sqlite3.Error: As the library says.
    """
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'secret'").fetchone():
        return Sealed()
    return Sealed(sqlite.fetch_all(db, ALL))


def check(db: sqlite.Connection, note: Callable[[str], None]) -> None:
    """Tell every row that fails its checksum, and every secret without its data key."""
    found = read(db)
    for told in found.damaged.values():
        note(told)
    kept = {(key.tenant, key.generation) for key in found.keys}
    for secret in found.secrets:
        if (secret.tenant, secret.generation) not in kept and not found.damaged:
            note(f"{secret.identity} has no data key")


def copy(old: sqlite.Connection, new: sqlite.Connection) -> None:
    """Copy every sound row into another journal."""
    found = read(old)
    for key in found.keys:
        store(new, key)
    kept = {(key.tenant, key.generation) for key in found.keys}
    for secret in found.secrets:
        if (secret.tenant, secret.generation) in kept:
            store(new, secret)
