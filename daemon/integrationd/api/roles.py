"""Who a caller is, and what callers of each role may do."""

import dataclasses
import enum

from integrationd.api.problems import Problem, problem
from integrationd.call import Actor


class Role(enum.StrEnum):
    """What a caller may do; each role may all that those before it may."""

    READ = "read"
    STAFF = "staff"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        """Say whether a caller of this role may do what needs another."""
        return _RANK[self] >= _RANK[needed]


_RANK = {role: rank for rank, role in enumerate(Role)}


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    Attributes:
        name: How the caller is named in events, for example ``uid:1000`` or ``key:shop``.
        role: What the caller may do.
        tenant: The one tenant whose things these may be; None for all.
        where: From where: ``socket``, or the address of a TCP client.
    """

    name: str
    role: Role
    tenant: str | None = None
    where: str = "socket"

    @property
    def by(self) -> Actor:
        """The caller as the event log names who did something."""
        return Actor(self.name, self.where)


def role_refusal(caller: Caller, needed: Role) -> Problem | None:
    """Return why a caller may not do what needs a role; None where the caller may."""
    if caller.role.covers(needed):
        return None
    enough = " or ".join(role for role in Role if role.covers(needed))
    return problem(
        403,
        "role_missing",
        f"this needs the role {needed}, and {caller.name} has the role {caller.role}",
        hint=f"Use a key of the role {enough}, or a user id that [api] gives that role.",
    )
