"""Tokens as they are handed out and kept, and what is known of how they are renewed."""

import dataclasses
from typing import Literal, Protocol, TypeAlias

from integrationd.sdk.outcome import OutcomeError, Rejected, Retryable, Throttled

LIMIT_S = 15.0
BEARER = "Bearer"

Rotation: TypeAlias = Literal["none", "overlap", "strict"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What an authorization server handed out.

    Attributes:
        access_token: The secret.
        expires_in_s: Seconds for which it is good; None where that is not said.
        refresh_token: What gets the next one; None keeps the one from before.
        token_type: How it is shown, as the server calls it.
        scope: What it is good for, where the server says so.
    """

    access_token: str = dataclasses.field(repr=False)
    expires_in_s: float | None = None
    refresh_token: str | None = dataclasses.field(default=None, repr=False)
    token_type: str = BEARER
    scope: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A token as it is kept.

    Attributes:
        access_token: The secret.
        refresh_token: What gets the next one, or None.
        token_type: How it is shown.
        scope: What it is good for, where that is known.
        obtained_at_ms: From before it was asked for, UTC milliseconds.
        expires_at_ms: Its end, or None.
        generation: Its number; each renewal makes a higher one.
    """

    access_token: str = dataclasses.field(repr=False)
    refresh_token: str | None = dataclasses.field(default=None, repr=False)
    token_type: str = BEARER
    scope: str | None = None
    obtained_at_ms: int
    expires_at_ms: int | None
    generation: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a store has for a connection.

    Attributes:
        held: Its token, or None.
        generation: The number of what is kept, also where it cannot be used; 0 for nothing.
        in_doubt: A refresh was cut off, and nobody knows whether the server had done it.
        needs: Why a person has to authorise the connection anew; empty where nobody has to.
    """

    held: Held | None = None
    generation: int = 0
    in_doubt: bool = False
    needs: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the tokens of a connection are renewed.

    Attributes:
        connection: Its id.
        by_consent: Whether the first token needs a person's consent.
        rotation: What becomes of a refresh token that was used: it stays good (``none``), stays
            good for a moment (``overlap``), or is void at once (``strict``).
        limit_s: Seconds that one renewal may take.
    """

    connection: str = ""
    by_consent: bool = False
    rotation: Rotation = "none"
    limit_s: float = LIMIT_S


class TokenRequestError(OutcomeError):
    """A token request came to nothing.

    Args:
        outcome: What that means for the call, which has not been sent.
        in_doubt: Whether the server may have done what was asked.
        is_over: Whether it refused the grant itself, so that a person has to give it anew.
    """

    def __init__(
        self,
        outcome: Rejected | Retryable | Throttled,
        *,
        in_doubt: bool = False,
        is_over: bool = False,
    ) -> None:
        super().__init__(outcome)
        self.failure = outcome
        self.in_doubt = in_doubt
        self.is_over = is_over


class TokenStore(Protocol):
    """Where the tokens of one connection are kept."""

    async def load(self) -> Found:
        """Return what is kept."""
        ...

    async def begin(self, generation: int) -> None:
        """Note durably that a refresh is about to leave.

        Raises:
            Exception: It could not be noted, so that the refresh must not leave.
        """
        ...

    async def keep(self, token: Held, after: int, by: str = "") -> Held:
        """Keep a token in the place of the one of the generation ``after``; ends a refresh.

        Args:
            token: The token.
            after: The generation that is kept now.
            by: Who has authorised it; empty where it was only renewed.

        Returns:
            The token with its own generation.
        """
        ...

    async def fail(self, generation: int, why: str, *, in_doubt: bool, is_over: bool) -> None:
        """Note how a refresh has failed; ends it, unless nobody knows how it ended."""
        ...


class MemoryStore:
    """Keeps nothing beyond the process."""

    async def load(self) -> Found:
        """Return nothing."""
        return Found()

    async def begin(self, generation: int) -> None:
        """Take no note."""

    async def keep(self, token: Held, after: int, by: str = "") -> Held:
        """Return the token with the next generation."""
        return dataclasses.replace(token, generation=after + 1)

    async def fail(self, generation: int, why: str, *, in_doubt: bool, is_over: bool) -> None:
        """Take no note."""
