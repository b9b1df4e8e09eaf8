"""Access tokens: one renewal for any number of calls, ahead of their end, anew when refused.

A renewal is a task of its own: whoever needs a token waits for it, and a caller that is cut off
does not cut it off. What is renewed is durable before it is used. Where a refresh token may be
replaced by each refresh, a mark is durable before the request leaves, so that a refresh whose end
nobody knows is never taken for one that did not begin.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeAlias

import anyio

from integrationd.clock import Clock
from integrationd.masking import Masker
from integrationd.sdk.exchange import Recorder, current_recorder, recording
from integrationd.sdk.outcome import OutcomeError, Retryable
from integrationd.sdk.token_keeping import (
    Held,
    MemoryStore,
    Terms,
    Token,
    TokenRequestError,
    TokenStore,
)

EARLY_S = 60.0
EARLY_SHARE = 0.1
SLOW_S = 60.0
"""How long calls wait before they ask again whether a person has authorised the connection."""

NEEDS_AUTHORISATION = "needs_authorisation"
_KNOWN_VALUES = 8


Fetch: TypeAlias = Callable[[], Awaitable[Token]]
Learn: TypeAlias = Callable[[Sequence[str], Sequence[str]], None]


class TokenSource:
    """Hands out one connection's token, and renews it.

    Args:
        clock: Where time is read.
        store: Where it is kept; in memory only when None.
        terms: How it is renewed.
        learn: Told which values are no token of it any more, and which are now.
    """

    def __init__(
        self,
        clock: Clock,
        store: TokenStore | None = None,
        terms: Terms | None = None,
        learn: Learn | None = None,
    ) -> None:
        self.terms = terms or Terms()
        self._clock = clock
        self._store: TokenStore = store or MemoryStore()
        self._lock = anyio.Lock()
        self._is_loaded = False
        self._generation = 0
        self._in_doubt = False
        self._needs = ""
        self._held: Held | None = None
        self._ends_s = float("inf")
        self._refused: str | None = None
        self._used_s: float | None = None
        self._asked_again: tuple[float, OutcomeError] | None = None
        self._running: asyncio.Task[Held] | None = None
        self._learn = learn
        self._values: deque[str] = deque()
        self._maskers: tuple[Masker, tuple[str, ...], Masker] | None = None

    async def get(self, fetch: Fetch, refused: str | None = None) -> str:
        """Return a token, renewing it where there is none that is good for a while.

        Whoever comes while it is renewed waits for that, and shares its failure. One that is good
        for a moment more goes on being used where it cannot be renewed.

        Args:
            fetch: Asks the authorization server for one.
            refused: A token that the provider did not take; another is returned.

        Raises:
            OutcomeError: There is none; what it says goes for the call.
            Exception: Whatever ``fetch`` raised.
        """
        await self.load()
        self._used_s = self._clock.monotonic()
        held = self._held
        if held is not None and held.access_token == refused:
            self._refused = refused
        if held is not None and self._is_good(held, self.early_s) and not self._in_doubt:
            return held.access_token
        try:
            return (await self._renew_once(fetch)).access_token
        except TokenRequestError as error:
            if held is None or error.is_over or not self._is_good(held, 0.0):
                raise
            return held.access_token

    async def renew(self, fetch: Fetch) -> Held:
        """Renew the token, or wait for the renewal that is under way.

        Raises:
            OutcomeError: There is none; what it says goes for the call.
            Exception: Whatever ``fetch`` raised.
        """
        await self.load()
        return await self._renew_once(fetch)

    async def _renew_once(self, fetch: Fetch) -> Held:
        # No other task has its turn between the look at what is held and the begin of a renewal.
        running = self._running
        if running is not None and not running.done():
            return await _ended(running)
        self._refuse_for_now()
        return await self._run(lambda: self._renewed(fetch))

    async def adopt(self, fetch: Fetch, by: str) -> Held:
        """Take over a token that a person's consent brings, in the place of any other.

        Args:
            fetch: Gets it.
            by: Who has asked for the consent.

        Raises:
            TokenRequestError: There is none.
            Exception: Whatever ``fetch`` raised.
        """
        await self.load()
        await self.idle()
        return await self._run(lambda: self._fetched(fetch, None, by))

    async def load(self) -> None:
        """Read what is kept, once."""
        if self._is_loaded:
            return
        async with self._lock:
            if self._is_loaded:
                return
            found = await self._store.load()
            self._generation, self._in_doubt = found.generation, found.in_doubt
            self._needs = found.needs
            if found.held is not None:
                self._use(found.held, self._clock.now_ms(), self._clock.monotonic())
            self._is_loaded = True

    @contextlib.contextmanager
    def withheld(self, why: str) -> Iterator[None]:
        """Let nothing be renewed for a while."""
        before, self._needs = self._needs, why
        try:
            yield
        finally:
            self._needs = before

    def forget(self) -> None:
        """Hold nothing any more; what is kept is read at the next need."""
        self._is_loaded, self._held, self._generation = False, None, 0
        self._in_doubt, self._needs, self._asked_again = False, "", None

    async def idle(self) -> None:
        """Wait until no renewal is under way."""
        if self._running is not None:
            await asyncio.wait({self._running})

    @property
    def refresh_token(self) -> str | None:
        """What gets the next token; None where there is none."""
        return self._held.refresh_token if self._held is not None else None

    @property
    def held(self) -> Held | None:
        """The token of now, good or not."""
        return self._held

    @property
    def in_doubt(self) -> bool:
        """Whether a refresh was cut off and has not been repeated yet."""
        return self._in_doubt

    @property
    def needs(self) -> str:
        """Why a person has to authorise the connection; empty where nobody has to."""
        if self._needs:
            return self._needs
        if not self.terms.by_consent or not self._is_loaded or self.refresh_token is not None:
            return ""
        if self._held is None:
            return "nobody has authorised it yet"
        over = not self._is_good(self._held, 0.0)
        return "its token is over, and the server gave none to renew it with" if over else ""

    @property
    def used_s(self) -> float | None:
        """When a call last asked for a token, on the monotonic clock."""
        return self._used_s

    @property
    def lifetime_s(self) -> float | None:
        """How long the token of now is good in all, seconds; None where it has no end."""
        held = self._held
        if held is None or held.expires_at_ms is None:
            return None
        return max(0.0, (held.expires_at_ms - held.obtained_at_ms) / 1000)

    @property
    def left_s(self) -> float:
        """Seconds until the token of now is over."""
        return self._ends_s - self._clock.monotonic()

    @property
    def early_s(self) -> float:
        """How long before its end a token counts as over, seconds."""
        life_s = self.lifetime_s
        return 0.0 if life_s is None else min(EARLY_S, EARLY_SHARE * life_s)

    def masker(self, common: Masker) -> Masker:
        """Return a masker that knows the latest tokens as well."""
        values, known = tuple(self._values), self._maskers
        if not values:
            return common
        if known is None or known[0] is not common or known[1] != values:
            known = self._maskers = (common, values, common.with_values(values))
        return known[2]

    def _is_good(self, held: Held, early_s: float) -> bool:
        return held.access_token != self._refused and self.left_s > early_s

    def _refuse_for_now(self) -> None:
        """Ask nothing while there is nothing to ask with, or the server wants to be left alone.

        Raises:
            OutcomeError: So it is.
        """
        if self.needs:
            raise self._unauthorised(self.needs)
        if self._asked_again is not None:
            until_s, error = self._asked_again
            if self._clock.monotonic() < until_s:
                raise error.with_traceback(None)

    def _unauthorised(self, why: str) -> TokenRequestError:
        name = self.terms.connection
        waiting = Retryable(
            reason=NEEDS_AUTHORISATION,
            detail=(
                f"The connection {name} has to be authorised by a person: {why}."
                f" Run 'integrationd authorize {name}'."
            ),
            sent=False,
            wait_s=SLOW_S,
        )
        return TokenRequestError(waiting, is_over=True)

    async def _run(self, work: Callable[[], Awaitable[Held]]) -> Held:
        """Do the work in a task of its own, which nobody who waits for it can cut off."""
        seen = Recorder(_nothing)

        async def recorded() -> Held:
            with recording(_nothing) as recorder:
                seen.exchanges = recorder.exchanges
                return await work()

        self._running = asyncio.ensure_future(recorded())
        self._running.add_done_callback(_noticed)
        try:
            return await _ended(self._running)
        finally:
            mine = current_recorder()
            if mine is not None:
                mine.exchanges.extend(seen.exchanges)

    async def _renewed(self, fetch: Fetch) -> Held:
        before = self._held
        is_refresh = before is not None and before.refresh_token is not None
        if is_refresh and self.terms.rotation != "none":
            await self._store.begin(self._generation)
        try:
            return await self._asked(fetch, before, again=is_refresh)
        except TokenRequestError as error:
            await self._failed(error, is_refresh=is_refresh)
            if error.is_over and is_refresh:
                raise self._unauthorised(self._needs) from error
            raise

    async def _asked(self, fetch: Fetch, before: Held | None, *, again: bool) -> Held:
        """Ask, and where an unanswered question may have voided the refresh token, at once again.

        Often the first one did not arrive; if it did, only haste may still find the server lenient.
        """
        try:
            return await self._fetched(fetch, before)
        except TokenRequestError as error:
            if not (again and error.in_doubt and self.terms.rotation == "strict"):
                raise
        return await self._fetched(fetch, before)

    async def _fetched(self, fetch: Fetch, before: Held | None, by: str = "") -> Held:
        asked_ms, asked_s = self._clock.now_ms(), self._clock.monotonic()
        try:
            with anyio.fail_after(self.terms.limit_s):
                token = await fetch()
        except TimeoutError:
            late = Retryable(
                reason="token_timeout",
                detail=f"No access token came within {self.terms.limit_s:g} s.",
                sent=False,
            )
            raise TokenRequestError(late, in_doubt=True) from None
        held = await self._store.keep(_joined(token, before, asked_ms), self._generation, by)
        self._generation = held.generation
        self._needs, self._in_doubt, self._asked_again = "", False, None
        self._use(held, asked_ms, asked_s)
        return held

    def _use(self, held: Held, at_ms: int, at_s: float) -> None:
        self._held = held
        end_ms = held.expires_at_ms
        self._ends_s = float("inf") if end_ms is None else at_s + (end_ms - at_ms) / 1000
        self._note_values(held)

    def _note_values(self, held: Held) -> None:
        """Know the latest tokens by value, and forget those of long ago."""
        found = [one for one in (held.access_token, held.refresh_token) if one is not None]
        fresh = [one for one in found if one not in self._values]
        self._values.extend(fresh)
        gone = [self._values.popleft() for _ in range(len(self._values) - _KNOWN_VALUES)]
        if self._learn is not None and fresh:
            self._learn(gone, fresh)

    async def _failed(self, error: TokenRequestError, *, is_refresh: bool) -> None:
        wait_s = getattr(error.failure, "wait_s", None)
        if wait_s:
            self._asked_again = (self._clock.monotonic() + wait_s, error)
        if not is_refresh:
            return
        why = error.failure.detail or "the authorization server gave no token"
        self._in_doubt = error.in_doubt and self.terms.rotation != "none"
        self._needs = why.rstrip(".") if error.is_over else ""
        if self.terms.rotation != "none" or error.is_over:
            await self._store.fail(
                self._generation, why, in_doubt=error.in_doubt, is_over=error.is_over
            )


def _joined(token: Token, before: Held | None, asked_ms: int) -> Held:
    """Return a new token as it is kept; what it does not say stays as it was."""
    life_s = token.expires_in_s
    return Held(
        access_token=token.access_token,
        refresh_token=token.refresh_token or (before.refresh_token if before else None),
        token_type=token.token_type,
        scope=token.scope or (before.scope if before else None),
        obtained_at_ms=asked_ms,
        expires_at_ms=None if life_s is None else asked_ms + round(life_s * 1000),
    )


async def _ended(task: "asyncio.Task[Held]") -> Held:
    """Wait for a renewal without cutting it off.

    Raises:
        Exception: What it has raised, as an error of each who waits.
    """
    await asyncio.wait({task})
    if task.cancelled():
        stopped = Retryable(reason="interrupted", detail="The daemon is stopping.", sent=False)
        raise TokenRequestError(stopped, in_doubt=True)
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, TokenRequestError):
        raise TokenRequestError(
            error.failure, in_doubt=error.in_doubt, is_over=error.is_over
        ) from None
    raise error.with_traceback(None)


def _noticed(task: "asyncio.Task[Held]") -> None:
    """Take note of how a renewal has ended, also where nobody waits for it any more."""
    if not task.cancelled():
        task.exception()


def _nothing() -> None:
    """Take no note: a token request is not the sending of a call."""
