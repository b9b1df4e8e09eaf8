"""The API keys in force, held in memory so that no request waits for the journal to be known."""

import dataclasses
import hashlib
import hmac
import math
import secrets
from collections.abc import Mapping
from typing import Protocol

import anyio
import structlog

from integrationd.api.roles import Caller, Role
from integrationd.clock import Clock
from integrationd.errors import JournalError
from integrationd.events import Bus, JournalMoved
from integrationd.journal import Condition, KeysAtHand, StoredApiKey

BOOTSTRAP = "bootstrap"
USES_EVERY_MS = 60_000
AGAIN_S = 1.0
# The usual ones by far; each costs a look-up instead of a record for every request.
ADDRESSES_KEPT = 64
_ID_BYTES = 8
_SECRET_BYTES = 32

log = structlog.get_logger("integrationd.api")


class KeyStore(Protocol):
    """Where the keys are kept."""

    async def at_hand(self) -> KeysAtHand:
        """Return all keys that are not revoked."""
        ...

    async def note_uses(self, uses: Mapping[str, int]) -> None:
        """Note when keys were last used."""
        ...


@dataclasses.dataclass(slots=True)
class HeldKey:
    """A key that is held in memory.

    Attributes:
        id: The part of it that may be shown; empty for the bootstrap key.
        caller: Who shows it.
        digest: The SHA-256 of the whole key.
        expires_at_ms: From when on it is refused.
        grace_until_ms: From when on it is refused because another has replaced it.
        noted_at_ms: When a use was last noted.
    """

    id: str
    caller: Caller
    digest: bytes
    expires_at_ms: float = math.inf
    grace_until_ms: float = math.inf
    noted_at_ms: float = -math.inf
    _callers: dict[str, Caller] = dataclasses.field(default_factory=dict)

    def caller_from(self, address: str) -> Caller:
        """Return who shows it, and from which address."""
        caller = self._callers.get(address)
        if caller is None:
            if len(self._callers) >= ADDRESSES_KEPT:
                self._callers.clear()
            caller = dataclasses.replace(self.caller, where=address)
            self._callers[address] = caller
        return caller


class HeldKeys:
    """The keys in force.

    Args:
        bootstrap: The key of the key file, in the role admin.
        store: Where the others are kept.
        bus: Tells when the journal is ready again.
        clock: Where time is read.
    """

    def __init__(self, bootstrap: str, store: KeyStore, bus: Bus, clock: Clock) -> None:
        caller = Caller(f"key:{BOOTSTRAP}", Role.ADMIN)
        self._bootstrap = HeldKey("", caller, _digest(bootstrap.encode()))
        self._store = store
        self._clock = clock
        self._held: dict[bytes, HeldKey] = {}
        self._shut_out: set[str] = set()
        self._damaged: tuple[str, ...] = ()
        self._changes = 0
        self._is_stale = True
        self._uses: dict[str, int] = {}
        self._stirred = anyio.Event()
        self._stirred.set()
        bus.subscribe(JournalMoved, self._on_journal)

    @property
    def is_stale(self) -> bool:
        """Whether there may be keys that are not held yet."""
        return self._is_stale

    def problems(self) -> list[str]:
        """Return what needs a person, in words."""
        return [
            f"API key {key_id} is damaged and therefore refused. Create another one."
            for key_id in self._damaged
        ]

    def find(self, shown: bytes) -> HeldKey | None:
        """Return the key that is shown, in force or not; None if it is none."""
        held = self._held.get(_public_id(shown), self._bootstrap)
        return held if hmac.compare_digest(_digest(shown), held.digest) else None

    def note_use(self, held: HeldKey) -> None:
        """Note that a caller was let in by a key; the journal is told once a minute at most."""
        now_ms = self._clock.now_ms()
        if held.id and abs(now_ms - held.noted_at_ms) >= USES_EVERY_MS:
            held.noted_at_ms = now_ms
            self._uses[held.id] = now_ms
            self._stirred.set()

    def hold(self, key: StoredApiKey) -> None:
        """Take over how a key stands now; one that is revoked is let go of."""
        self._changes += 1
        if key.revoked_at_ms is not None:
            self._held.pop(key.id.encode(), None)
            self._shut_out.discard(key.id)
        elif key.id not in self._shut_out:
            self._held[key.id.encode()] = self._of(key)

    def shut_out(self, key_id: str, within: str | None) -> None:
        """Refuse a key at once, before the journal has been told and even if it cannot be.

        Args:
            key_id: The key.
            within: The tenant that it must be of; any if None.
        """
        held = self._held.get(key_id.encode())
        if held is not None and within in (None, held.caller.tenant):
            del self._held[key_id.encode()]
            self._shut_out.add(key_id)

    async def load(self) -> None:
        """Hold what the journal has.

        Raises:
            JournalError: The journal cannot be read.
        """
        while True:
            seen = self._changes
            found = await self._store.at_hand()
            # What has changed meanwhile may be missing from what was read.
            if seen == self._changes:
                break
        for key_id in found.damaged:
            log.error("api_key_damaged", key=key_id, hint="It is refused; create another one.")
        self._damaged = tuple(found.damaged)
        kept = [key for key in found.keys if key.id not in self._shut_out]
        self._held = {key.id.encode(): self._of(key) for key in kept}
        self._is_stale = False

    async def run(self) -> None:
        """Note uses, and read the keys anew whenever the journal has come back; for ever."""
        while True:
            await self._stirred.wait()
            self._stirred = anyio.Event()
            uses, self._uses = self._uses, {}
            try:
                if self._is_stale:
                    await self.load()
                if uses:
                    await self._store.note_uses(uses)
            except JournalError:
                # Uses are noted again a minute later; but nobody is kept out for that long.
                if self._is_stale:
                    await self._clock.sleep(AGAIN_S)
                    self._stirred.set()

    def _on_journal(self, moved: JournalMoved) -> None:
        if moved.condition == Condition.READY:
            self._changes += 1
            self._is_stale = True
            self._stirred.set()

    def _of(self, key: StoredApiKey) -> HeldKey:
        before = self._held.get(key.id.encode())
        return HeldKey(
            id=key.id,
            caller=Caller(f"key:{key.name}", Role(key.role), key.tenant),
            digest=key.digest,
            expires_at_ms=math.inf if key.expires_at_ms is None else key.expires_at_ms,
            grace_until_ms=math.inf if key.grace_until_ms is None else key.grace_until_ms,
            noted_at_ms=before.noted_at_ms if before else -math.inf,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class MadeKey:
    """A new key.

    Attributes:
        id: The part of it that may be shown.
        text: All of it; shown once and kept nowhere.
        digest: Its SHA-256.
    """

    id: str
    text: str = dataclasses.field(repr=False)
    digest: bytes

    @classmethod
    def make(cls) -> "MadeKey":
        """Make a key that nobody can guess."""
        key_id = secrets.token_hex(_ID_BYTES)
        text = f"idk_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        return cls(key_id, text, _digest(text.encode()))


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _public_id(shown: bytes) -> bytes:
    """Return what stands between the first two underscores."""
    return shown[4 : shown.find(b"_", 4)] if shown.startswith(b"idk_") else b""
