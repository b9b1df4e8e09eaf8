"""A vault on a real journal, and what an attacker with its files can do to it."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from integrationd.clock import SystemClock
from integrationd.events import Bus
from integrationd.journal import Journal, rows, secret_rows, sqlite
from integrationd.supervisor.secrets import Vault
from integrationd.vault import MasterFile, MasterSource

INSTANCE_KEY = b"i" * 32
BY = "uid:1000"


class VaultWorld:
    """One vault, open.

    Args:
        directory: Where the journal and the master key are.
        source: Where the master key is, if not in ``master.key``.

    Attributes:
        journal: Where the rows are.
        learned: The values that it wants masked.
        notices: What it told of master keys that it made.
        vault: The vault.
    """

    def __init__(self, directory: Path, source: MasterSource | None = None) -> None:
        self.directory = directory
        self.source = source or source_in(directory)
        self.journal = Journal(directory / "journal.db", INSTANCE_KEY, Bus(), SystemClock())
        self.learned: list[str] = []
        self.notices: list[str] = []
        self.vault = Vault(
            self.journal.secrets, self.source, self.learned.extend, self.notices.append
        )

    @property
    def file(self) -> MasterFile:
        """The master key's file."""
        return MasterFile(self.directory / "master.key")

    async def value(self, name: str, tenant: str = "default") -> str:
        """Return what a secret holds, read with the master keys as they are in the files."""
        return await self.journal.secrets.get(self.source.load(), tenant, name)


def source_in(
    directory: Path, environ: Mapping[str, str] | None = None, previous: str | None = None
) -> MasterSource:
    """Return where the master key of a directory is."""
    return MasterSource(f"file:{directory / 'master.key'}", previous, environ or {})


@contextlib.asynccontextmanager
async def opened(directory: Path, source: MasterSource | None = None) -> AsyncIterator[VaultWorld]:
    """Open a vault, and close its journal at the end."""
    world = VaultWorld(directory, source)
    await world.journal.open()
    try:
        yield world
    finally:
        await world.journal.close()


def resealed(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return a row of the vault with a checksum that fits, as an attacker would write it."""
    kind, *fields, _ = row
    return (kind, *fields, rows.seal(*fields))


def change(journal: Path, statement: str, *values: Any) -> None:
    """Change a closed journal with a statement of one's own, and make all checksums fit."""
    db = sqlite.connect(journal)
    try:
        db.execute(statement, values)
        for row in sqlite.fetch_all(db, secret_rows.ALL):
            table, key = ("secret", "name") if row[0] else ("data_key", "generation")
            update = f"UPDATE {table} SET sum = ? WHERE tenant = ? AND {key} = ?"  # noqa: S608 - two fixed tables
            db.execute(update, (resealed(row)[-1], row[1], row[2]))
    finally:
        db.close()
