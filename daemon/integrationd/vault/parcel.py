"""The export file: all secrets, sealed under a passphrase by scrypt.

The format, version 1::

    file = "IDVAULT" | 0x01 | log2 n | r | p | salt (16 bytes) | sealed

``sealed`` is that of :mod:`integrationd.vault.sealing` under the key that scrypt makes of the
passphrase, for the identity ``export``; inside is a JSON list of the secrets.
"""

import os
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from integrationd.errors import VaultError
from integrationd.vault.sealing import KEY_BYTES, Identity, seal, unseal

SHORTEST_PASSPHRASE: Final = 12
COST: Final = 16
LARGEST_COST: Final = 18

_MAGIC = b"IDVAULT\x01"
_SALT_BYTES = 16
_HEADER_BYTES = len(_MAGIC) + 3 + _SALT_BYTES
_BLOCK_SIZE, _PASSES = 8, 2
_PASSES_LIMIT = 16
_ANOTHER = "Name the file that 'integrationd vault export' wrote."


class ExportedSecret(msgspec.Struct, frozen=True, kw_only=True):
    """One secret as it travels.

    Attributes:
        tenant: Whose it is.
        name: Its name.
        value: The secret itself; never shown.
    """

    tenant: str
    name: str
    value: str

    def __repr__(self) -> str:
        return f"ExportedSecret({self.tenant!r}, {self.name!r})"


def pack(secrets: Sequence[ExportedSecret], passphrase: str, cost: int = COST) -> bytes:
    """Return the content of an export file.

    Args:
        secrets: What it is to hold.
        passphrase: What opens it.
        cost: log2 of scrypt's n; each step doubles time and memory (16 needs 64 MiB).

    Raises:
        VaultError: The passphrase is too short.
    """
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise VaultError(
            f"the passphrase has under {SHORTEST_PASSPHRASE} characters",
            hint="Whoever has the file can try passphrases at leisure: take a longer one.",
        )
    header = _MAGIC + bytes([cost, _BLOCK_SIZE, _PASSES]) + os.urandom(_SALT_BYTES)
    key = _derived(passphrase, header)
    return header + seal(key, _identity(header), msgspec.json.encode(list(secrets)))


def unpack(content: bytes, passphrase: str) -> list[ExportedSecret]:
    """Return the secrets of an export file.

    Raises:
        VaultError: It is no export file, the passphrase is another, or it was changed.
    """
    header, sealed = content[:_HEADER_BYTES], content[_HEADER_BYTES:]
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise VaultError("this is not an export of a vault", hint=_ANOTHER)
    key = _derived(passphrase, header)
    try:
        plain = unseal(key, _identity(header), sealed)
    except VaultError:
        raise VaultError(
            "the export cannot be opened: the passphrase is another, or the file was changed",
            hint="Try the passphrase again, or take another copy of the file.",
        ) from None
    return msgspec.json.decode(plain, type=list[ExportedSecret])


def _identity(header: bytes) -> Identity:
    # The header is bound as well, so that no cheaper parameters can be put in its place.
    return Identity("export", "", header.hex(), 1)


def _derived(passphrase: str, header: bytes) -> bytes:
    cost, block_size, passes = header[len(_MAGIC) : len(_MAGIC) + 3]
    if (
        not 1 <= cost <= LARGEST_COST
        or block_size != _BLOCK_SIZE
        or not 1 <= passes <= _PASSES_LIMIT
    ):
        raise VaultError("the export asks for more than scrypt is given here", hint=_ANOTHER)
    salt = header[-_SALT_BYTES:]
    scrypt = Scrypt(salt=salt, length=KEY_BYTES, n=2**cost, r=block_size, p=passes)
    return scrypt.derive(passphrase.encode("utf-8", "surrogatepass"))
