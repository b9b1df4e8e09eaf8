"""Where the master keys come from, as the configuration says it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from integrationd.errors import MasterKeyError
from integrationd.vault.keyring import Keyring
from integrationd.vault.master import MasterKey, read_master_key
from integrationd.vault.master_file import MasterFile


@dataclasses.dataclass(frozen=True, slots=True)
class MasterSource:
    """The references to the master keys.

    Attributes:
        reference: ``file:PATH``, ``env:NAME`` or ``credential:NAME``.
        previous: The same for the master key before it, or None.
        environ: Where ``env:`` looks, and ``CREDENTIALS_DIRECTORY``.
    """

    reference: str
    previous: str | None
    environ: Mapping[str, str] = dataclasses.field(repr=False)

    @property
    def file(self) -> MasterFile | None:
        """The master key's file, where it stands in one that the daemon may replace."""
        kind, _, name = self.reference.partition(":")
        return MasterFile(Path(name)) if kind == "file" else None

    def load(self) -> Keyring:
        """Read the master keys; a replacement that a crash has left half-way opens as well.

        Raises:
            MasterKeyError: One of them is missing, open to others or no key.
        """
        current = read_master_key(self.reference, self.environ)
        others: list[MasterKey] = []
        if self.previous is not None:
            others.append(read_master_key(self.previous, self.environ))
        following = self.file.read_next() if self.file is not None else None
        if following is not None:
            others.append(following)
        return Keyring(current, others)

    def make(self) -> Keyring:
        """Make a master key, where it is to stand in a file.

        Raises:
            MasterKeyError: It stands elsewhere, there is one already, or the disk refuses.
        """
        if self.file is None:
            raise MasterKeyError(
                f"integrationd cannot make the master key of {self.reference}",
                hint="Make one with 'openssl rand -hex 32' and put it there.",
            )
        return Keyring(self.file.make())
