"""Who is calling: the peer of the Unix socket by its uid, everybody else by a key."""

import os
from collections.abc import Mapping

from starlette.types import Scope

from integrationd.api.bad_keys import BadKeys
from integrationd.api.held_keys import HeldKey, HeldKeys
from integrationd.api.problems import Problem, problem
from integrationd.api.protocol import peer_of
from integrationd.api.roles import Caller, Role
from integrationd.clock import Clock, to_rfc3339

_LOADING_S = 1
_NOWHERE = ("",)


class AccessRefusedError(Exception):
    """The caller is not let in; ``problem`` says why."""

    def __init__(self, refusal: Problem) -> None:
        super().__init__(refusal.detail)
        self.problem = refusal


class Access:
    """Decides who may use the API.

    Args:
        held_keys: The keys in force.
        roles: Who may use the socket besides the daemon's own user and root, by uid.
        key_file: Where the bootstrap key is, for the message.
        clock: Where time is read.

    Attributes:
        held_keys: The keys in force.
    """

    def __init__(
        self, held_keys: HeldKeys, roles: Mapping[int, Role], key_file: str, clock: Clock
    ) -> None:
        self.held_keys = held_keys
        self._key_file = key_file
        self._clock = clock
        self._bad_keys = BadKeys(clock)
        self.allow(roles)

    def allow(self, roles: Mapping[int, Role]) -> None:
        """Let others use the socket from now on, besides the daemon's own user and root."""
        all_roles = {**roles, os.getuid(): Role.ADMIN, 0: Role.ADMIN}
        self._peers = {uid: Caller(f"uid:{uid}", role) for uid, role in all_roles.items()}

    def identify(self, scope: Scope) -> Caller:
        """Return who is calling.

        Raises:
            AccessRefusedError: The uid is not allowed, or the key is missing, wrong or over.
        """
        peer = peer_of(scope)
        if peer is None:
            return self._by_key(scope)
        caller = self._peers.get(peer.uid)
        if caller is None:
            raise AccessRefusedError(
                problem(
                    403,
                    "uid_not_allowed",
                    f"user id {peer.uid} may not use this socket",
                    hint=f"Add {peer.uid} to [api] allowed_uids, staff_uids or read_uids.",
                )
            )
        return caller

    def _by_key(self, scope: Scope) -> Caller:
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        if not shown:
            raise AccessRefusedError(
                self._unknown("key_missing", "TCP clients must show an API key")
            )
        scheme, _, key = shown[0].partition(b" ") if len(shown) == 1 else (b"", b"", b"")
        held = self.held_keys.find(key.strip()) if scheme.lower() == b"bearer" else None
        if held is None:
            raise AccessRefusedError(self._wrong(scope))
        now_ms = self._clock.now_ms()
        if now_ms >= held.expires_at_ms or now_ms >= held.grace_until_ms:
            raise AccessRefusedError(_over(held, now_ms))
        self.held_keys.note_use(held)
        return held.caller_from((scope.get("client") or _NOWHERE)[0])

    def _wrong(self, scope: Scope) -> Problem:
        if self.held_keys.is_stale:
            return problem(
                503,
                "keys_not_read",
                "the API keys could not be read from the journal yet",
                hint="Repeat the request in a moment; 'integrationd status' says what is wrong.",
                retry_after_s=_LOADING_S,
            )
        source = (scope.get("client") or ("",))[0]
        wait_s = self._bad_keys.count(source)
        if wait_s:
            return problem(
                429,
                "too_many_bad_keys",
                f"too many wrong API keys came from {source}",
                hint="Show a right key: that one is answered at any time.",
                retry_after_s=wait_s,
            )
        return self._unknown("key_wrong", "the API key is wrong, or was revoked")

    def _unknown(self, code: str, detail: str) -> Problem:
        return problem(
            401,
            code,
            detail,
            hint=(
                "Send 'Authorization: Bearer KEY' with a key of 'integrationd keys create', or with"
                f" the one in {self._key_file}."
            ),
        )


def _over(held: HeldKey, now_ms: int) -> Problem:
    name = held.caller.name.removeprefix("key:")
    if now_ms >= held.expires_at_ms:
        return problem(
            401,
            "key_expired",
            f"the API key {name} expired at {to_rfc3339(int(held.expires_at_ms))}",
            hint="Have an admin rotate it: 'integrationd keys rotate'.",
        )
    return problem(
        401,
        "key_replaced",
        f"the API key {name} was replaced, and its grace ended at"
        f" {to_rfc3339(int(held.grace_until_ms))}",
        hint="Use the key that has taken its place.",
    )
