"""The master key's file: made once, and replaced so that a crash at any point loses nothing.

A replacement is made beside the file as ``NAME.next``. While both exist, data keys may be wrapped
by either. Once all of them are wrapped by the new one, the old file is kept as ``NAME.ID.old`` and
the new one takes its place; if none is, the new one is put aside in the same way. No key is ever
deleted here.
"""

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from integrationd.errors import MasterKeyError
from integrationd.vault.master import MasterKey, read_key_file
from integrationd.vault.sealing import new_key


class MasterFile:
    """A master key in a file, and its replacement while there is one.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._next = path.with_name(f"{path.name}.next")

    def make(self) -> MasterKey:
        """Make the file with a new key and mode 0600; never in the place of another.

        Raises:
            MasterKeyError: There is one already, or the disk refuses.
        """
        return _make(self.path)

    def read(self) -> MasterKey:
        """Return the key of the file.

        Raises:
            MasterKeyError: It is missing, open to others or holds no key.
        """
        return read_key_file(self.path)

    def read_next(self) -> MasterKey | None:
        """Return the key that is to take the place of the file's, or None.

        Raises:
            MasterKeyError: It is open to others or holds no key.
        """
        return read_key_file(self._next) if self.is_replaced() else None

    def is_replaced(self) -> bool:
        """Say whether there is a replacement."""
        return self._next.exists()

    def make_next(self) -> MasterKey:
        """Make the replacement.

        Raises:
            MasterKeyError: There is one already, or the disk refuses.
        """
        return _make(self._next)

    def settle(self, used: Collection[str]) -> None:
        """End a replacement, also one that a crash has cut off.

        Args:
            used: The ids of the master keys that data keys are wrapped by now. The replacement
                takes its place only if it is the only one of the two among them.

        Raises:
            MasterKeyError: A file cannot be read, or the disk refuses.
        """
        following = self.read_next()
        if following is None:
            return
        old = self.read()
        if following.id == old.id or following.id not in used:
            with _told(self._next):
                self._next.replace(self.kept(following))
                _sync_directory(self.path.parent)
        elif old.id not in used:
            self._promote(old)

    def _promote(self, old: MasterKey) -> None:
        with _told(self.path):
            # Backups made before can be opened with the old key only.
            with contextlib.suppress(FileExistsError):
                os.link(self.path, self.kept(old))
            _sync_directory(self.path.parent)
            self._next.replace(self.path)
            _sync_directory(self.path.parent)

    def kept(self, old: MasterKey) -> Path:
        """Return where a key is kept after its replacement."""
        return self.path.with_name(f"{self.path.name}.{old.id}.old")


def _make(path: Path) -> MasterKey:
    key = new_key()
    draft = path.with_name(f".{path.name}.draft")
    with _told(path):
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        try:
            _write_and_sync(draft, key.hex().encode() + b"\n")
            # Unlike a rename, a link never takes the place of another file.
            os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        _sync_directory(path.parent)
    return MasterKey(key, f"the master key file {path}")


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise MasterKeyError(f"there is a file at {path} already", hint="It is kept.") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise MasterKeyError(
            f"the master key file {path} cannot be written: {reason}",
            hint="Make room, or mend the permissions of its directory.",
        ) from None


def _write_and_sync(path: Path, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, content)
        os.fsync(file)
    finally:
        os.close(file)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
