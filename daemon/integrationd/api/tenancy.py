"""Which tenant's things a caller meets: its own, or everybody's where it is of no tenant.

What is another tenant's does not exist for a caller of one: it is left out of lists, and its ids
answer exactly as ids that nobody has ever given out.
"""

from starlette.requests import Request

from integrationd.api.roles import Caller
from integrationd.call import DEFAULT_TENANT
from integrationd.errors import NotAllowedError, UnprocessableError
from integrationd.registry import Tenants

NOBODY = ""
"""The tenant of nothing: no tenant has an empty id, so a list of its things is empty."""


def caller_of(request: Request) -> Caller:
    """Return who is calling."""
    caller: Caller = request.scope["integrationd.caller"]
    return caller


def may_see(caller: Caller, tenant: str | None) -> bool:
    """Say whether something exists for a caller.

    Args:
        caller: Who asks.
        tenant: Whose it is; None for what all tenants share.
    """
    return caller.tenant is None or tenant is None or caller.tenant == tenant


def may_change(caller: Caller, tenant: str | None) -> bool:
    """Say whether something is the caller's to change; what all share is not that of one."""
    return caller.tenant is None or caller.tenant == tenant


def tenant_filter(caller: Caller, asked: str | None = None) -> str | None:
    """Return the tenant whose things a list shows; None for those of all.

    Args:
        caller: Who asks.
        asked: The tenant named in the query, if one is. One that is not the caller's gives
            :data:`NOBODY`, and so an empty list, whether there is such a tenant or not.
    """
    if caller.tenant is None or asked == caller.tenant:
        return asked
    return caller.tenant if asked is None else NOBODY


def tenant_for_new(caller: Caller, asked: str | None, pointer: str = "/tenant") -> str:
    """Return the tenant of something new that a caller makes; whether it exists is not looked at.

    Args:
        caller: Who makes it.
        asked: The tenant that it names, if it does.
        pointer: JSON pointer to where it names it.

    Raises:
        UnprocessableError: It names another tenant than its own; told as one that is not there.
    """
    if caller.tenant is None:
        return DEFAULT_TENANT if asked is None else asked
    if asked not in (None, caller.tenant):
        raise no_such_tenant(asked, pointer)
    return caller.tenant


def no_such_tenant(tenant: str, pointer: str = "/tenant") -> UnprocessableError:
    """Return the error of a request that names a tenant which does not exist for its caller."""
    return UnprocessableError(
        f"there is no tenant {tenant[:80]!r}",
        code="no_such_tenant",
        pointer=pointer,
        hint="Leave it out for your own; 'integrationd tenants' shows those that you may name.",
    )


def refuse_inactive(tenants: Tenants, tenant: str) -> None:
    """Refuse new work for a tenant that is not there, or that takes none.

    Raises:
        UnprocessableError: There is no such tenant.
        NotAllowedError: It is suspended.
    """
    settings = tenants.find(tenant)
    if settings is None:
        raise no_such_tenant(tenant)
    if settings.status == "suspended":
        raise NotAllowedError(
            f"the tenant {tenant} is suspended",
            code="tenant_suspended",
            hint="Nothing is accepted for it until an admin makes it active again.",
        )


def refuse_one_tenant(caller: Caller, what: str) -> None:
    """Refuse what concerns every tenant to a caller of one.

    Args:
        caller: Who asks.
        what: What it is, as the subject of a sentence: ``the master key``.

    Raises:
        NotAllowedError: The caller is of one tenant.
    """
    if caller.tenant is not None:
        raise NotAllowedError(
            f"{caller.name} is of the tenant {caller.tenant}, and {what} is everybody's",
            code="tenant_not_allowed",
            hint="Use a key for all tenants, or the socket.",
        )
