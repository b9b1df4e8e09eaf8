"""Where the tokens of connections are kept: in the journal, sealed under the vault's keys."""

import dataclasses

import structlog

from integrationd.errors import ConflictError, DamagedError, JournalError, VaultError
from integrationd.journal import NewToken, OAuthTokens, StoredToken, TokenPlace, TokenSecret
from integrationd.registry.tokens import TokenHome
from integrationd.sdk.token_keeping import Found, Held
from integrationd.supervisor.secrets import Vault

_OTHER_CLIENT = "its client, server or scope is another than the one it was authorised for"


class VaultStore:
    """Keeps the tokens of one connection.

    Where the vault cannot be used, tokens are kept in memory only, and the log says so.

    Args:
        rows: The journal's rows.
        vault: Seals and opens them.
        home: Which connection.
        boot: Tells this run of the daemon from those before.
    """

    def __init__(self, rows: OAuthTokens, vault: Vault, home: TokenHome, boot: str) -> None:
        self._rows = rows
        self._vault = vault
        self._home = home
        self._boot = boot
        self._place = TokenPlace(home.tenant, home.connection)
        self._in_memory = False
        self._log = structlog.get_logger("integrationd.tokens")

    async def load(self) -> Found:
        """Return what is kept.

        Raises:
            JournalError: The journal cannot be read.
        """
        try:
            row = await self._rows.get(self._place)
        except DamagedError as error:
            return await self._unusable(str(error))
        if row is None:
            return Found()
        try:
            async with self._vault.keyring(make=False) as keyring:
                secret = await self._rows.open(keyring, row)
        except VaultError as error:
            self._log.warning("token_not_opened", connection=self._home.connection, why=str(error))
            return Found(generation=row.generation, needs=self._if_by_consent(str(error)))
        if secret.made_for != self._home.made_for:
            return Found(generation=row.generation, needs=self._if_by_consent(_OTHER_CLIENT))
        return self._found(row, secret)

    async def _unusable(self, why: str) -> Found:
        self._log.warning("token_damaged", connection=self._home.connection, why=why)
        generation = await self._rows.generation(self._place)
        return Found(generation=generation, needs=self._if_by_consent(why))

    def _found(self, row: StoredToken, secret: TokenSecret) -> Found:
        return Found(
            held=Held(
                access_token=secret.access_token,
                refresh_token=secret.refresh_token,
                token_type=row.token_type,
                scope=row.scope,
                obtained_at_ms=row.obtained_at_ms,
                expires_at_ms=row.expires_at_ms,
                generation=row.generation,
            ),
            generation=row.generation,
            in_doubt=row.refreshing_by is not None,
            needs=(row.last_error or "").rstrip(".") if row.needs_consent else "",
        )

    def _if_by_consent(self, why: str) -> str:
        return why.rstrip(".") if self._home.by_consent else ""

    async def begin(self, generation: int) -> None:
        """Note durably that a refresh is about to leave.

        Raises:
            JournalError: It could not be noted, so that the refresh must not leave.
        """
        if not self._in_memory:
            await self._rows.begin(self._place, generation, self._boot)

    async def keep(self, token: Held, after: int, by: str = "") -> Held:
        """Keep a token in the place of the one of the generation ``after``.

        Raises:
            JournalError: The journal was closed, and the token before this one may be void.
        """
        new = NewToken(
            secret=TokenSecret(
                access_token=token.access_token,
                refresh_token=token.refresh_token,
                made_for=self._home.made_for,
            ),
            token_type=token.token_type,
            scope=token.scope,
            obtained_at_ms=token.obtained_at_ms,
            expires_at_ms=token.expires_at_ms,
            by=by,
        )
        # Access tokens alone can be got again at any time; a refresh token cannot.
        surely = token.refresh_token is not None
        try:
            async with self._vault.keyring(make=True) as keyring:
                generation = await self._rows.keep(keyring, self._place, new, after, surely=surely)
        except (VaultError, ConflictError) as error:
            return self._kept_in_memory(token, after, error)
        except JournalError as error:
            if surely:
                raise
            return self._kept_in_memory(token, after, error)
        self._in_memory = False
        return dataclasses.replace(token, generation=generation)

    def _kept_in_memory(self, token: Held, after: int, error: Exception) -> Held:
        self._log.warning(
            "token_kept_in_memory_only",
            connection=self._home.connection,
            why=f"{error} {getattr(error, 'hint', '')}".strip(),
        )
        self._in_memory = True
        return dataclasses.replace(token, generation=after)

    async def fail(self, generation: int, why: str, *, in_doubt: bool, is_over: bool) -> None:
        """Note how a refresh has failed.

        Raises:
            JournalError: The journal was closed.
        """
        if is_over:
            self._log.warning(
                "connection_needs_authorisation", connection=self._home.connection, why=why
            )
        if not self._in_memory:
            await self._rows.fail(self._place, generation, why, in_doubt=in_doubt, is_over=is_over)
