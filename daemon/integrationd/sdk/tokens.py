"""Access tokens: fetched once for any number of calls, ahead of their end, anew when refused."""

import dataclasses
from collections.abc import Awaitable, Callable

import anyio

from integrationd.clock import Clock

EARLY_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What an authorization server handed out.

    Attributes:
        access_token: The secret.
        expires_in_s: Seconds for which it is good; None where that is not said.
    """

    access_token: str = dataclasses.field(repr=False)
    expires_in_s: float | None = None


class TokenSource:
    """Keeps one connection's token in memory.

    Args:
        clock: Where time is read.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = anyio.Lock()
        self._token: Token | None = None
        self._until_s = 0.0

    async def get(self, fetch: Callable[[], Awaitable[Token]], refused: str | None = None) -> str:
        """Return a token, fetching one where there is none that is good for a while.

        Whoever comes while one is being fetched waits for it; if that fails, the next one tries.

        Args:
            fetch: Asks the authorization server for one.
            refused: A token that the provider did not take; another is returned.

        Raises:
            Exception: Whatever ``fetch`` raised.
        """
        async with self._lock:
            if self._token is None or self._is_over() or self._token.access_token == refused:
                # Forgotten first, so that a failed fetch does not leave a refused one behind.
                self._token = None
                token = await fetch()
                life_s = token.expires_in_s
                early_s = min(EARLY_S, life_s / 2) if life_s is not None else 0.0
                self._token = token
                self._until_s = (
                    self._clock.monotonic() + life_s - early_s
                    if life_s is not None
                    else float("inf")
                )
            return self._token.access_token

    def _is_over(self) -> bool:
        return self._clock.monotonic() >= self._until_s
