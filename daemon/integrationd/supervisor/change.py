"""One change of what is made over the API: what it makes of the directory, and how it is kept."""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping

from integrationd.journal import Directory
from integrationd.settings import RejectedConfigError, SecretReader
from integrationd.supervisor.stored import Problems


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be taken over, as soon as it is known to work.

    Attributes:
        directory: Returns the directory as it will be, from the one in force.
        keep: Keeps it in the journal; called once everything else is sure.
        makes: The connection that must come of it, if one must.
        secrets: What new secrets hold, by tenant and name; they are not in the vault yet.
    """

    directory: Callable[[Directory], Directory]
    keep: Callable[[], Awaitable[None]]
    makes: str | None = None
    secrets: Mapping[tuple[str, str], str] = dataclasses.field(default_factory=dict, repr=False)

    def reader(self, vault: SecretReader) -> SecretReader:
        """Return what reads the vault as it will be."""

        def read(tenant: str, name: str) -> str:
            fresh = self.secrets.get((tenant, name))
            return fresh if fresh is not None else vault(tenant, name)

        return read

    def refuse_unmade(self, left_out: Problems) -> None:
        """Do nothing if the connection that must come of it can be made.

        Raises:
            RejectedConfigError: It cannot.
        """
        found = left_out.get(self.makes or "")
        if found:
            raise RejectedConfigError(f"connection {self.makes}", list(found))
