"""What an attack is, and all of them together, by family."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

REFUSED = (400, 422)


@dataclasses.dataclass(frozen=True)
class Attack:
    """One hostile input.

    Attributes:
        name: What it tries.
        sent: The bytes, with ``@KEY@`` and ``@HOST@`` where these belong.
        statuses: The statuses of which its last answer must have one.
        codes: The machine words of which that answer must have one; any if empty.
        unix: The statuses over the Unix socket, where they are others; with any word.
    """

    name: str
    sent: bytes
    statuses: Collection[int] = REFUSED
    codes: Collection[str] = ()
    unix: Collection[int] = ()


Families = Mapping[str, Sequence[Attack]]
