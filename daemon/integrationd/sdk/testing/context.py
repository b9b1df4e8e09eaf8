"""What stands in for the daemon around a plugin under test: a clock, a logger, a context."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from integrationd.clock import Clock
from integrationd.sdk.context import Context
from integrationd.sdk.provider import Provider
from integrationd.sdk.token_keeping import Token
from integrationd.sdk.tokens import TokenSource

if TYPE_CHECKING:
    import httpx2

NOON_MS = 1_768_478_400_000
CALL_ID = "019bc19c-0c00-7000-8000-00000000c0de"
_FIXED: Mapping[str, Any] = {
    "tenant": "default",
    "connection": "under-test",
    "environment": "sandbox",
    "timeout_s": 10.0,
}
HELD = "held-since-an-earlier-call"
CALLBACK_BASE = "https://hooks.example/hooks/4f6b2c"


class FakeClock:
    """A clock that stands still until it is told to advance.

    Args:
        now_ms: Where it starts, UTC milliseconds.
    """

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self._now_ms = now_ms
        self._elapsed_s = 0.0

    def now_ms(self) -> int:
        """Return where the clock stands, UTC milliseconds."""
        return self._now_ms

    def monotonic(self) -> float:
        """Return the seconds that it was advanced by."""
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        """Advance at once, and let other tasks have their turn."""
        self.advance(seconds)
        await anyio.lowlevel.checkpoint()

    async def wait(self, event: anyio.Event, seconds: float | None) -> None:
        """Let other tasks set the event; if none does, advance to the end of the wait."""
        await anyio.lowlevel.checkpoint()
        if seconds is None:
            await event.wait()
        elif not event.is_set():
            self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move time forward."""
        self._now_ms += round(seconds * 1000)
        self._elapsed_s += seconds


class CapturedLog:
    """A logger that keeps what it is told.

    Attributes:
        lines: Level, event and fields of every entry, as text.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def debug(self, event: str, *args: object, **fields: object) -> None:
        """Keep a debug entry."""
        self._keep("debug", event, args, fields)

    def info(self, event: str, *args: object, **fields: object) -> None:
        """Keep an info entry."""
        self._keep("info", event, args, fields)

    def warning(self, event: str, *args: object, **fields: object) -> None:
        """Keep a warning."""
        self._keep("warning", event, args, fields)

    def _keep(self, level: str, event: str, args: object, fields: object) -> None:
        self.lines.append(f"{level} {event} {args!r} {fields!r}")


def make_context(  # noqa: PLR0913 - each is one thing that a test may want to set
    operation: str,
    *,
    client: "httpx2.AsyncClient | None" = None,
    clock: Clock | None = None,
    log: Any = None,
    attempt: int = 1,
    call_id: str = CALL_ID,
    provider_reference: str | None = None,
    open_recipients: Sequence[str] = (),
) -> Context:
    """Make the context of one attempt, as the daemon would.

    Args:
        operation: ``category.verb``.
        client: What ``ctx.http`` gives; see :func:`fake_client`.
        clock: A :class:`FakeClock` when None.
        log: A :class:`CapturedLog` when None.
        attempt: 1 for the first send, and so on.
        call_id: The reference and the idempotency key follow from it, whatever the attempt.
        provider_reference: The provider's own id from an earlier attempt.
        open_recipients: Of a call to many, the recipients still to be served.
    """
    clock = clock or FakeClock()
    return Context(
        **_FIXED,
        call_id=call_id,
        operation=operation,
        attempt=attempt,
        reference=call_id,
        idempotency_key=f"integrationd-{call_id}",
        clock=clock,
        log=log or CapturedLog(),
        client=client,
        provider_reference=provider_reference,
        open_recipients=tuple(open_recipients),
        callback_base=CALLBACK_BASE,
        tokens=TokenSource(clock),
    )


async def hold_token(ctx: Context, provider: Provider) -> None:
    """Give a context the access token of an earlier call, if the provider uses any."""
    if not provider.uses_tokens() or ctx.tokens is None:
        return
    ctx.fetch_token = provider.fetch_token

    async def fetch() -> Token:
        return Token(access_token=HELD)

    await ctx.tokens.get(fetch)
