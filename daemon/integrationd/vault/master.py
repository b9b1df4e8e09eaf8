"""The master key: where it is read, and what is refused.

It stands in a file (``file:PATH``), an environment variable (``env:NAME``) or a systemd credential
(``credential:NAME``) as 64 hexadecimal digits.
"""

import dataclasses
import errno
import hashlib
import hmac
import os
import re
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from integrationd.errors import MasterKeyError
from integrationd.vault.sealing import KEY_BYTES

ID_DIGITS: Final = 16
_TEXT_LIMIT_BYTES = 4096
_HEX = re.compile(rf"[0-9a-fA-F]{{{2 * KEY_BYTES}}}")
_OPEN_TO_GROUP_OR_OTHERS = 0o077
_OPEN_TO_OTHERS = 0o007
_MADE_BY = "make one with: openssl rand -hex 32"


@dataclasses.dataclass(frozen=True, slots=True)
class MasterKey:
    """A key that wraps data keys.

    Attributes:
        key: 32 bytes; never shown.
        label: Where it was read, for people.
    """

    key: bytes = dataclasses.field(repr=False)
    label: str = dataclasses.field(compare=False)

    @property
    def id(self) -> str:
        """What tells it from other master keys without telling anything about it."""
        digest = hmac.digest(self.key, b"integrationd master key id", hashlib.sha256)
        return digest.hex()[:ID_DIGITS]


def read_master_key(reference: str, environ: Mapping[str, str]) -> MasterKey:
    """Return the master key that a reference points at.

    Args:
        reference: ``file:PATH``, ``env:NAME`` or ``credential:NAME``.
        environ: Where ``env:`` looks, and ``CREDENTIALS_DIRECTORY``.

    Raises:
        MasterKeyError: It is missing, open to others or no key; the message says what to do.
    """
    kind, _, name = reference.partition(":")
    match kind:
        case "env":
            return _from_variable(name, environ)
        case "credential":
            return _from_credential(name, environ)
        case _:
            return read_key_file(Path(name))


def read_key_file(path: Path, closed_to: int = _OPEN_TO_GROUP_OR_OTHERS) -> MasterKey:
    """Return the master key of a file that only its owner may read.

    Args:
        path: The file.
        closed_to: The mode bits that must not be set.

    Raises:
        MasterKeyError: It is missing, unreadable, open to others or holds no key.
    """
    label = f"the master key file {path}"
    try:
        # A named pipe without a writer would keep a plain open waiting for ever.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise _unreadable(label, error) from None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise MasterKeyError(f"{label} is not a regular file", hint="Name another key file.")
        if found.st_mode & closed_to:
            raise MasterKeyError(
                f"{label} is open to others (mode {stat.S_IMODE(found.st_mode):04o}); whoever has "
                "read it can open every secret",
                hint=f"Run: chmod 600 {shlex.quote(str(path))}; if others may have read it, also "
                "run 'integrationd vault rotate --data-keys' and renew the secrets.",
            )
        text = os.read(file, _TEXT_LIMIT_BYTES)
    except OSError as error:
        raise _unreadable(label, error) from None
    finally:
        os.close(file)
    return _parsed(text.decode("ascii", "replace"), label)


def _from_variable(name: str, environ: Mapping[str, str]) -> MasterKey:
    label = f"the master key in the environment variable {name}"
    text = environ.get(name)
    if text is None:
        raise MasterKeyError(
            f"{label} is missing: the variable is not set",
            hint="Give it to the daemon's environment; without it no secret can be opened.",
            is_elsewhere=True,
        )
    return _parsed(text, label)


def _from_credential(name: str, environ: Mapping[str, str]) -> MasterKey:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise MasterKeyError(
            f"the master key credential {name!r} is missing: CREDENTIALS_DIRECTORY is not set",
            hint=f"Start the daemon by a systemd service with LoadCredential={name}:PATH.",
            is_elsewhere=True,
        )
    # systemd may let the service's user in by an access list, which shows as a group's right.
    return read_key_file(Path(directory, name), _OPEN_TO_OTHERS)


def _parsed(text: str, label: str) -> MasterKey:
    digits = text.strip()
    if not _HEX.fullmatch(digits):
        raise MasterKeyError(
            f"{label} does not hold a key: {2 * KEY_BYTES} hexadecimal digits are expected, "
            f"{len(digits)} characters were found",
            hint=f"Restore it from your copy. Only where no secret was ever kept, {_MADE_BY}.",
        )
    key = bytes.fromhex(digits)
    if len(set(key)) == 1:
        raise MasterKeyError(
            f"{label} is one byte repeated, which anybody can guess", hint=f"Do {_MADE_BY}."
        )
    return MasterKey(key, label)


def _unreadable(label: str, error: Exception) -> MasterKeyError:
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return MasterKeyError(
            f"{label} is missing",
            hint="Put your copy of it back, with mode 0600. If it is lost, so are the secrets: "
            "delete them and set them anew.",
            is_missing=True,
        )
    reason = os.strerror(number).lower() if number else "it is no path"
    return MasterKeyError(
        f"{label} cannot be read: {reason}",
        hint="Mend its permissions: it must belong to the user that the daemon runs as.",
        is_elsewhere=number in (errno.EACCES, errno.EPERM),
    )
