"""Who is calling: the peer of the Unix socket by its uid, everybody else by the key."""

import dataclasses
import hmac
import os
from collections.abc import Iterable

from starlette.types import Scope

from integrationd.api.problems import Problem, problem
from integrationd.api.protocol import peer_of


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    Attributes:
        name: How the caller is named in events, for example ``uid:1000``.
    """

    name: str


class AccessRefusedError(Exception):
    """The caller is not let in; ``problem`` says why."""

    def __init__(self, refusal: Problem) -> None:
        super().__init__(refusal.detail)
        self.problem = refusal


class Access:
    """Decides who may use the API.

    Args:
        key: The key that TCP clients show.
        allowed_uids: Who may use the socket besides the daemon's own user and root.
        key_file: Where the key is, for the message.
    """

    def __init__(self, key: str, allowed_uids: Iterable[int], key_file: str) -> None:
        self._key = key.encode()
        self.allow(allowed_uids)
        self._holder = Caller("key")
        self._key_file = key_file

    def allow(self, uids: Iterable[int]) -> None:
        """Let others use the socket from now on, besides the daemon's own user and root."""
        self._uids = frozenset({os.getuid(), 0, *uids})
        self._callers = {uid: Caller(f"uid:{uid}") for uid in self._uids}

    def identify(self, scope: Scope) -> Caller:
        """Return who is calling.

        Raises:
            AccessRefusedError: The uid is not allowed, or the key is missing or wrong.
        """
        peer = peer_of(scope)
        if peer is None:
            return self._by_key(scope)
        if peer.uid not in self._uids:
            raise AccessRefusedError(
                problem(
                    403,
                    "uid_not_allowed",
                    f"user id {peer.uid} may not use this socket",
                    hint=f"Add {peer.uid} to [api] allowed_uids.",
                )
            )
        return self._callers[peer.uid]

    def _by_key(self, scope: Scope) -> Caller:
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, key = shown[0].partition(b" ") if len(shown) == 1 else (b"", b"", b"")
        if scheme.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._key):
            return self._holder
        raise AccessRefusedError(
            problem(
                401,
                "key_wrong" if shown else "key_missing",
                "the API key is wrong" if shown else "TCP clients must show the API key",
                hint=f"Send 'Authorization: Bearer KEY' with the key in {self._key_file}.",
            )
        )
