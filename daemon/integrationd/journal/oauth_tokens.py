"""OAuth tokens of connections, sealed; what begins, ends or cuts off a refresh is in their rows.

A token that replaces another is kept only if that other one is still the one that is kept.
"""

import dataclasses

import msgspec

from integrationd.call import EventRecord
from integrationd.clock import Clock
from integrationd.errors import ConflictError
from integrationd.journal import oauth_rows, secret_rows
from integrationd.journal.access import Access
from integrationd.journal.oauth_rows import StoredToken, TokenSecret
from integrationd.journal.secrets import counted_key
from integrationd.journal.writer import Transaction
from integrationd.settings.tenants import SHARED_SECRETS_OF
from integrationd.vault import Keyring

_ONE = f"{oauth_rows.SELECT} WHERE tenant = ? AND connection = ?"
_GENERATION = "SELECT generation FROM oauth_token WHERE tenant = ? AND connection = ?"
NEEDS_AUTHORISATION = "connection.needs_authorisation"
AUTHORISED = "connection.authorised"
REVOKED = "connection.authorisation_revoked"


@dataclasses.dataclass(frozen=True, slots=True)
class TokenPlace:
    """Where a connection's token is kept.

    Attributes:
        tenant: Whose data key seals it.
        connection: The connection's id.
    """

    tenant: str
    connection: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token that is to be kept.

    Attributes:
        secret: The token itself.
        token_type: How it is shown.
        scope: What it is good for, where that is known.
        obtained_at_ms: From before it was asked for, UTC milliseconds.
        expires_at_ms: Its end, or None.
        by: Who has authorised it; empty where it was only renewed.
    """

    secret: TokenSecret
    token_type: str
    scope: str | None
    obtained_at_ms: int
    expires_at_ms: int | None
    by: str = ""


class OAuthTokens:
    """The table of tokens.

    Args:
        access: The journal.
        clock: Where time is read.
    """

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    async def get(self, place: TokenPlace) -> StoredToken | None:
        """Return what is kept of a connection's token, not opened; None where nothing is.

        Raises:
            DamagedError: Its row fails its checksum.
            JournalError: The journal cannot be read.
        """
        found = await self._access.rows(_ONE, (place.tenant, place.connection))
        return oauth_rows.of_row(found[0]) if found else None

    async def generation(self, place: TokenPlace) -> int:
        """Return the generation of what is kept, sound or not; 0 where nothing is.

        Raises:
            JournalError: The journal cannot be read.
        """
        found = await self._access.rows(_GENERATION, (place.tenant, place.connection))
        return found[0][0] if found and isinstance(found[0][0], int) else 0

    async def open(self, keyring: Keyring, token: StoredToken) -> TokenSecret:
        """Return what a row holds.

        Raises:
            VaultError: It cannot be opened; the message names the row.
            JournalError: The journal cannot be read.
        """
        vault = secret_rows.Sealed(await self._access.rows(secret_rows.ALL))
        return oauth_rows.opened(vault, keyring, token)

    async def keep(
        self, keyring: Keyring, place: TokenPlace, new: NewToken, after: int, *, surely: bool
    ) -> int:
        """Keep a token in the place of the one of the generation ``after``; ends a refresh.

        Args:
            keyring: Seals it.
            place: Where.
            new: The token.
            after: The generation that is kept now; 0 where nothing is.
            surely: Whether to wait for a full or failing disk, since the one before is void.

        Returns:
            Its generation.

        Raises:
            ConflictError: Another one is kept by now.
            VaultError: The tenant's data key cannot be opened.
            JournalError: The journal is full or failing.
        """
        now_ms = self._clock.now_ms()

        def job(transaction: Transaction) -> int:
            _check_kept(transaction, place, after)
            return _keep(transaction, keyring, place, new, now_ms)

        return await (self._access.write_surely if surely else self._access.write)(job)

    async def begin(self, place: TokenPlace, generation: int, boot: str) -> None:
        """Note that a refresh is about to leave, for as long as its end is not known.

        Args:
            place: Of which connection.
            generation: The token whose refresh token is used.
            boot: Which run of the daemon begins it.

        Raises:
            ConflictError: Another token is kept by now.
            JournalError: The journal is full or failing; nothing may leave.
        """
        now_ms = self._clock.now_ms()

        def job(transaction: Transaction) -> None:
            _check_kept(transaction, place, generation)
            token = oauth_rows.find(transaction.db, place.tenant, place.connection)
            if token is not None:
                marked = msgspec.structs.replace(
                    token, refreshing_since_ms=now_ms, refreshing_by=boot
                )
                oauth_rows.store(transaction.db, marked)

        await self._access.write(job)

    async def fail(
        self, place: TokenPlace, generation: int, why: str, *, in_doubt: bool, is_over: bool
    ) -> None:
        """Note how a refresh has failed; where a person is needed, tell so in the same commit.

        Args:
            place: Of which connection.
            generation: The token whose refresh failed; another one stays as it is.
            why: What went wrong, without a secret.
            in_doubt: Nobody knows whether the server did it, so that its mark stays.
            is_over: Only a person can bring the next token.

        Raises:
            JournalError: The journal was closed.
        """
        now_ms = self._clock.now_ms()

        def job(transaction: Transaction) -> None:
            token = oauth_rows.find(transaction.db, place.tenant, place.connection)
            if token is None or token.generation != generation:
                return
            failed = msgspec.structs.replace(token, last_error=why, needs_consent=int(is_over))
            if not in_doubt:
                failed = msgspec.structs.replace(
                    failed, refreshing_since_ms=None, refreshing_by=None
                )
            oauth_rows.store(transaction.db, failed)
            if is_over and not token.needs_consent:
                _tell(transaction, NEEDS_AUTHORISATION, place, now_ms, reason=why)

        await self._access.write_surely(job)

    async def delete(self, place: TokenPlace, by: str) -> bool:
        """Delete what is kept; return whether there was anything.

        Raises:
            JournalError: The disk failed.
        """
        now_ms = self._clock.now_ms()

        def job(transaction: Transaction) -> bool:
            gone = transaction.db.execute(
                "DELETE FROM oauth_token WHERE tenant = ? AND connection = ?",
                (place.tenant, place.connection),
            )
            if gone.rowcount == 1:
                _tell(transaction, REVOKED, place, now_ms, by=by)
            return gone.rowcount == 1

        return await self._access.write(job)


def _keep(
    transaction: Transaction, keyring: Keyring, place: TokenPlace, new: NewToken, now_ms: int
) -> int:
    key = counted_key(transaction.db, keyring, place.tenant, now_ms)
    token = StoredToken(
        tenant=place.tenant,
        connection=place.connection,
        generation=key.versions,
        key_generation=key.generation,
        sealed=b"",
        token_type=new.token_type,
        scope=new.scope,
        obtained_at_ms=new.obtained_at_ms,
        expires_at_ms=new.expires_at_ms,
    )
    data_key = keyring.open(key.data_key)
    oauth_rows.store(transaction.db, oauth_rows.sealed(data_key, token, new.secret))
    if new.by:
        _tell(transaction, AUTHORISED, place, now_ms, by=new.by, scope=new.scope)
    return token.generation


def _check_kept(transaction: Transaction, place: TokenPlace, generation: int) -> None:
    """Do nothing where the token of that generation is kept; a damaged one counts as well.

    Raises:
        ConflictError: It is another one.
    """
    row = transaction.db.execute(_GENERATION, (place.tenant, place.connection)).fetchone()
    if (row[0] if row else 0) != generation:
        raise ConflictError(f"the token of connection {place.connection!r} is another one by now")


def _tell(
    transaction: Transaction, kind: str, place: TokenPlace, now_ms: int, **data: object
) -> None:
    whose = None if place.tenant == SHARED_SECRETS_OF else place.tenant
    event = EventRecord(type=kind, data=data, tenant=whose, connection=place.connection)
    transaction.chain.append(transaction.db, event, now_ms)
