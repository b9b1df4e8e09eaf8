"""The instance key: made at first start, read at every later one."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from integrationd.errors import ConfigError

KEY_BYTES = 32


def load_or_make_key(path: Path) -> bytes:
    """Return the instance key under which the event log is chained.

    Raises:
        ConfigError: The file is open to others, is no regular file, or holds no key.
    """
    try:
        return read_key(path)
    except FileNotFoundError:
        return _make_key(path)


def read_key(path: Path) -> bytes:
    """Return the instance key of an existing file.

    Raises:
        FileNotFoundError: There is none.
        ConfigError: The file is open to others, is no regular file, or holds no key.
    """
    text = read_secret(path)
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"{path} does not hold a key of {KEY_BYTES} bytes in hex",
            hint="Restore it from a backup; without it the event log cannot be verified.",
        )
    return key


def read_secret(path: Path) -> str:
    """Return the text of a file that only its owner may read.

    Raises:
        FileNotFoundError: There is none.
        ConfigError: It is open to others, is no regular file, or is empty.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}",
            hint="Mend its path or its permissions, or name another key file.",
        ) from error
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{path} is not a regular file", hint="Name another key file.")
        if found.st_mode & 0o077:
            raise ConfigError(
                f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})",
                hint=f"Run: chmod 600 {path}",
            )
        text = os.read(file, 1024).decode("ascii", "replace").strip()
    finally:
        os.close(file)
    if not text:
        raise ConfigError(f"{path} is empty", hint="Delete it; the next start makes a new key.")
    return text


def _make_key(path: Path) -> bytes:
    key = secrets.token_bytes(KEY_BYTES)
    write_secret(path, key.hex() + "\n")
    return key


def write_secret(path: Path, text: str) -> None:
    """Write a new file of mode 0600, whole or not at all, and sync it.

    Raises:
        FileExistsError: There is one already.
        ConfigError: The disk refuses.
    """
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.draft")
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        try:
            _write_and_sync(draft, text)
            # Unlike a rename, a link never takes the place of another file.
            os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}",
            hint="Make room or mend the permissions of its directory, or name another file.",
        ) from error


def _write_and_sync(path: Path, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, text.encode())
        os.fsync(file)
    finally:
        os.close(file)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
