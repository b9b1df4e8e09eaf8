"""The rows of OAuth tokens: read, opened, checked and copied."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from integrationd.errors import DamagedError, VaultError
from integrationd.journal import rows, secret_rows, sqlite
from integrationd.journal.secret_rows import Sealed
from integrationd.vault import Identity, Keyring, seal, unseal

SELECT = (
    "SELECT tenant, connection, generation, key_generation, sealed, token_type, scope,"
    " obtained_at_ms, expires_at_ms, refreshing_since_ms, refreshing_by, last_error, needs_consent,"
    " sum FROM oauth_token"
)
_STORE = (
    "INSERT OR REPLACE INTO oauth_token (tenant, connection, generation, key_generation, sealed,"
    " token_type, scope, obtained_at_ms, expires_at_ms, refreshing_since_ms, refreshing_by,"
    " last_error, needs_consent, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class TokenSecret(msgspec.Struct, frozen=True, kw_only=True):
    """What is sealed of a token; never shown.

    Attributes:
        access_token: The token.
        refresh_token: What gets the next one, or None.
        made_for: A digest of what it is bound to: client, server and scope.
    """

    access_token: str
    refresh_token: str | None
    made_for: str

    def __repr__(self) -> str:
        return "TokenSecret()"


class StoredToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token's row; the token itself is sealed.

    Attributes:
        tenant: Whose it is.
        connection: The connection's id.
        generation: Its number among all that was ever sealed for the tenant.
        key_generation: The data key that it is sealed under.
        sealed: The token.
        token_type: How it is shown.
        scope: What it is good for, where that is known.
        obtained_at_ms: From before it was asked for, UTC milliseconds.
        expires_at_ms: Its end, or None.
        refreshing_since_ms: Since when a refresh is under way whose end is not known, or None.
        refreshing_by: Which run of the daemon began it, or None.
        last_error: Why the last refresh failed, or None.
        needs_consent: 1 where only a person can bring the next token.
    """

    tenant: str
    connection: str
    generation: int
    key_generation: int
    sealed: bytes
    token_type: str
    scope: str | None
    obtained_at_ms: int
    expires_at_ms: int | None
    refreshing_since_ms: int | None = None
    refreshing_by: str | None = None
    last_error: str | None = None
    needs_consent: int = 0

    @property
    def identity(self) -> Identity:
        """The row that it stands in."""
        return Identity("OAuth token", self.tenant, self.connection, self.generation)


def told(token: StoredToken) -> str:
    """Return what a row is called in messages."""
    return f"the OAuth token of connection {token.connection!r} of tenant {token.tenant!r}"


def of_row(row: Sequence[Any]) -> StoredToken:
    """Return the token of a row.

    Raises:
        DamagedError: The checksum does not fit.
    """
    rows.check(f"the OAuth token of connection {row[1]!r} of tenant {row[0]!r}", row[-1], *row[:-1])
    return StoredToken(**dict(zip(StoredToken.__struct_fields__, row[:-1], strict=True)))


def find(db: sqlite.Connection, tenant: str, connection: str) -> StoredToken | None:
    """Return a connection's token, or None.

    Raises:
        DamagedError: The checksum does not fit.
    """
    row = db.execute(f"{SELECT} WHERE tenant = ? AND connection = ?", (tenant, connection))
    found = row.fetchone()
    return None if found is None else of_row(found)


def store(db: sqlite.Connection, token: StoredToken) -> None:
    """Write a row, in the place of the connection's own."""
    values = msgspec.structs.astuple(token)
    db.execute(_STORE, (*values, rows.seal(*values)))


def sealed(key: bytes, token: StoredToken, secret: TokenSecret) -> StoredToken:
    """Return a row that holds a secret, sealed under a data key."""
    content = seal(key, token.identity, msgspec.json.encode(secret))
    return msgspec.structs.replace(token, sealed=content)


def opened(vault: Sealed, keyring: Keyring, token: StoredToken) -> TokenSecret:
    """Return what a row holds.

    Args:
        vault: The data keys.
        keyring: Opens them.
        token: The row.

    Raises:
        VaultError: It cannot be opened; the message names the row.
    """
    key = next((one for one in vault.keys if _seals(one, token)), None)
    if key is None:
        raise VaultError(f"{told(token)} cannot be opened: its data key is not in the journal")
    try:
        plain = unseal(keyring.open(key.data_key), token.identity, token.sealed)
        return msgspec.json.decode(plain, type=TokenSecret)
    except VaultError as error:
        raise type(error)(f"{told(token)} cannot be used: {error}", hint=error.hint) from None


def seal_anew(
    db: sqlite.Connection,
    keyring: Keyring,
    before: Sealed,
    made: Mapping[str, tuple[int, bytes]],
) -> int:
    """Seal every token anew under new data keys, in a commit that is under way.

    Args:
        db: The connection of that commit.
        keyring: Opens the data keys of before.
        before: The vault as it was.
        made: The new data keys, by tenant, with their generations.

    Returns:
        How many there were.

    Raises:
        DamagedError: A row fails its checksum.
        VaultError: A row cannot be opened.
    """
    found = [of_row(row) for row in sqlite.fetch_all(db, SELECT)]
    for token in found:
        generation, key = made[token.tenant]
        secret = opened(before, keyring, token)
        moved = msgspec.structs.replace(token, key_generation=generation)
        store(db, sealed(key, moved, secret))
    return len(found)


def check(db: sqlite.Connection, note: Callable[[str], None]) -> None:
    """Tell every row that fails its checksum."""
    for row in _all(db):
        try:
            of_row(row)
        except DamagedError as error:
            note(str(error))


def copy(old: sqlite.Connection, new: sqlite.Connection) -> None:
    """Copy the sound rows into another journal; their data keys must be there already."""
    kept = {(key.tenant, key.generation) for key in secret_rows.read(new).keys}
    for row in _all(old):
        with contextlib.suppress(DamagedError):
            token = of_row(row)
            if (token.tenant, token.key_generation) in kept:
                store(new, token)


def _seals(key: secret_rows.StoredKey, token: StoredToken) -> bool:
    return (key.tenant, key.generation) == (token.tenant, token.key_generation)


def _all(db: sqlite.Connection) -> Iterator[sqlite.Row]:
    if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'oauth_token'").fetchone():
        yield from db.execute(f"{SELECT} ORDER BY tenant, connection")
