"""Sealing: AES-256-GCM with the row's identity as associated data.

The format, version 1::

    sealed     = 0x01 | nonce (12 bytes, random) | ciphertext | tag (16 bytes)
    associated = "integrationd vault" | 0x01 | field, field, ...
    field      = its length in bytes (4, big-endian) | UTF-8 text

The fields are those of :class:`Identity`: what kind of row it is, whose, its name and its number.
What was sealed for one row therefore opens in no other, and a changed byte anywhere opens nowhere.
"""

import dataclasses
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from integrationd.errors import VaultError

FORMAT: Final = 1
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = 1 + NONCE_BYTES + TAG_BYTES

_CONTEXT = b"integrationd vault"


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Which row something is sealed for.

    Attributes:
        kind: ``secret`` or ``data key``.
        tenant: Whose row it is.
        name: The name of the secret; empty for a data key.
        number: The version of the secret, or the generation of the data key.
    """

    kind: str
    tenant: str
    name: str
    number: int

    def __str__(self) -> str:
        if self.kind == "secret":
            return f"the secret {self.name!r} of tenant {self.tenant!r} (version {self.number})"
        return f"the {self.kind} of tenant {self.tenant!r} (generation {self.number})"

    def associated(self) -> bytes:
        """Return the associated data; no two identities share it."""
        fields = (self.kind, self.tenant, self.name, str(self.number))
        # Read from a damaged row, a text may hold what UTF-8 does not.
        texts = [field.encode("utf-8", "surrogatepass") for field in fields]
        framed = b"".join(len(text).to_bytes(4, "big") + text for text in texts)
        return _CONTEXT + bytes([FORMAT]) + framed


def new_key() -> bytes:
    """Return a new random key of 32 bytes."""
    return AESGCM.generate_key(KEY_BYTES * 8)


def seal(key: bytes, identity: Identity, plain: bytes) -> bytes:
    """Seal bytes for one row, under a fresh nonce.

    Args:
        key: 32 bytes.
        identity: The row that they are to stand in.
        plain: What to seal; may be empty.
    """
    nonce = os.urandom(NONCE_BYTES)
    return bytes([FORMAT]) + nonce + AESGCM(key).encrypt(nonce, plain, identity.associated())


def unseal(key: bytes, identity: Identity, sealed: bytes) -> bytes:
    """Open what was sealed for a row.

    Raises:
        VaultError: It was sealed for another row or under another key, is cut off or changed, or
            is of a format that this program does not know; the message names the row.
    """
    if len(sealed) < OVERHEAD_BYTES:
        raise VaultError(f"{identity} cannot be opened: it is cut off")
    if sealed[0] != FORMAT:
        raise VaultError(
            f"{identity} cannot be opened: its format {sealed[0]} is not known to this program",
            hint="It was written by a newer integrationd, or damaged; restore a backup.",
        )
    nonce, rest = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, rest, identity.associated())
    except InvalidTag:
        raise VaultError(
            f"{identity} cannot be opened: it was changed, moved from another row, or sealed under "
            "another key"
        ) from None
