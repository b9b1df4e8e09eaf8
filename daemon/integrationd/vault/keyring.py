"""The master keys at hand, and what they wrap: data keys."""

import dataclasses
from collections.abc import Iterable

from integrationd.errors import MasterKeyError
from integrationd.vault.master import MasterKey
from integrationd.vault.sealing import Identity, new_key, seal, unseal


@dataclasses.dataclass(frozen=True, slots=True)
class DataKey:
    """One tenant's data key as it is kept.

    Attributes:
        tenant: Whose secrets it seals.
        generation: Its number, from one.
        master: The id of the master key that wraps it.
        wrapped: The key, sealed under the master key.
    """

    tenant: str
    generation: int
    master: str
    wrapped: bytes

    @property
    def identity(self) -> Identity:
        """The row that it stands in."""
        return Identity("data key", self.tenant, "", self.generation)


class Keyring:
    """Opens what any of its master keys has wrapped, and wraps with the current one.

    Args:
        current: Wraps what is new.
        others: Wrapped what is older, or will wrap what is to come.
    """

    def __init__(self, current: MasterKey, others: Iterable[MasterKey] = ()) -> None:
        self.current = current
        self._masters = {one.id: one for one in (current, *others)}

    @property
    def masters(self) -> tuple[MasterKey, ...]:
        """All master keys at hand."""
        return tuple(self._masters.values())

    def with_current(self, master: MasterKey) -> "Keyring":
        """Return a keyring that opens the same, and wraps with another master key."""
        return Keyring(master, self.masters)

    def new_data_key(self, tenant: str, generation: int) -> DataKey:
        """Return a new data key, wrapped by the current master key."""
        return self._wrapped(new_key(), tenant, generation)

    def rewrapped(self, data_key: DataKey) -> DataKey:
        """Return the same data key, wrapped by the current master key.

        Raises:
            VaultError: It cannot be opened.
        """
        return self._wrapped(self.open(data_key), data_key.tenant, data_key.generation)

    def open(self, data_key: DataKey) -> bytes:
        """Return the key itself: 32 bytes.

        Raises:
            MasterKeyError: It is wrapped by a master key that is not at hand.
            VaultError: It was changed or moved.
        """
        master = self._masters.get(data_key.master)
        if master is None:
            held = " and ".join(f"{one.label} is {one.id}" for one in self.masters)
            raise MasterKeyError(
                f"{data_key.identity} cannot be opened: it is wrapped by the master key "
                f"{data_key.master}, but {held}",
                hint="Put that master key back, or name it as [vault] previous_master_key; after a "
                f"rotation it was kept as NAME.{data_key.master}.old beside the key file.",
            )
        return unseal(master.key, data_key.identity, data_key.wrapped)

    def _wrapped(self, key: bytes, tenant: str, generation: int) -> DataKey:
        empty = DataKey(tenant, generation, self.current.id, b"")
        wrapped = seal(self.current.key, empty.identity, key)
        return dataclasses.replace(empty, wrapped=wrapped)
