"""The addresses that are handed out to providers: unguessable, and saying what they were made for.

``/hooks/TOKEN`` where TOKEN is hex of what it is for (a kind, then the call's id or the name of the
connection) and 16 bytes of its HMAC-SHA256 under the instance's key. Hex holds none of the words
that a provider may forbid in an address (M-Pesa: exe, cmd, sql, query).
"""

import dataclasses
import hashlib
import hmac
import uuid

_CALL, _CONNECTION = b"c", b"n"
_MAC_BYTES = 16
_LONGEST = 512


@dataclasses.dataclass(frozen=True, slots=True)
class Purpose:
    """What an address was handed out for; exactly one of the two is set.

    Attributes:
        call_id: A call.
        connection: A connection as a whole.
    """

    call_id: str | None = None
    connection: str | None = None


class Addresses:
    """Makes addresses and reads them again.

    Args:
        key: The instance's key.
    """

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, b"webhook addresses", "sha256")

    def of_call(self, call_id: str) -> str:
        """Return the token of a call's own address."""
        return self._token(_CALL + uuid.UUID(call_id).bytes)

    def of_connection(self, connection: str) -> str:
        """Return the token of a connection's address."""
        return self._token(_CONNECTION + connection.encode())

    def read(self, token: str) -> Purpose | None:
        """Return what a token was made for; None where we did not make it."""
        if len(token) > _LONGEST:
            return None
        try:
            raw = bytes.fromhex(token)
        except ValueError:
            return None
        about, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if not about or not hmac.compare_digest(mac, self._mac(about)):
            return None
        kind, rest = about[:1], about[1:]
        if kind == _CALL and len(rest) == 16:
            return Purpose(call_id=str(uuid.UUID(bytes=rest)))
        return Purpose(connection=rest.decode("utf-8", "replace")) if kind == _CONNECTION else None

    def _token(self, about: bytes) -> str:
        return (about + self._mac(about)).hex()

    def _mac(self, about: bytes) -> bytes:
        return hmac.new(self._key, about, hashlib.sha256).digest()[:_MAC_BYTES]
