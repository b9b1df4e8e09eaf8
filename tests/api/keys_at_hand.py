"""Keys without a journal, and requests as the server hands them to the app."""

from collections.abc import Mapping, Sequence
from typing import Any

from integrationd.api.admission import Peer
from integrationd.api.protocol import _PEER
from integrationd.errors import JournalUnavailableError
from integrationd.journal import KeysAtHand, StoredApiKey


class Shelf:
    """A store of keys that can fail.

    Attributes:
        keys: What it holds.
        damaged: The ids of what it cannot give.
        uses: What it was told of uses, in order.
        is_open: Whether it answers.
    """

    def __init__(self, *keys: StoredApiKey) -> None:
        self.keys: Sequence[StoredApiKey] = keys
        self.damaged: Sequence[str] = ()
        self.uses: list[Mapping[str, int]] = []
        self.is_open = True

    async def at_hand(self) -> KeysAtHand:
        if not self.is_open:
            raise JournalUnavailableError
        return KeysAtHand(self.keys, self.damaged)

    async def note_uses(self, uses: Mapping[str, int]) -> None:
        if not self.is_open:
            raise JournalUnavailableError
        self.uses.append(dict(uses))


def scope(
    *authorization: bytes, uid: int | None = None, source: str = "127.0.0.1"
) -> dict[str, Any]:
    headers = [(b"authorization", value) for value in authorization]
    extensions = {} if uid is None else {_PEER: Peer(pid=1, uid=uid, gid=uid)}
    return {"headers": headers, "extensions": extensions, "client": (source, 4711)}
