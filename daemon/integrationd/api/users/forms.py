"""What the operations of the users' paths take and give, for the OpenAPI document."""

import dataclasses
from typing import Any

import msgspec

from integrationd.api.told import Told
from integrationd.api.users.payloads import NAMES, Renamed
from integrationd.api.users.views import KeptItem, QueueItem
from integrationd.sdk.contract import Contract

_PRIORITY = {"type": "integer", "description": "Above 0 is high, 0 normal, below 0 low."}


def in_users_words(told: Told, contract: Contract) -> Told:
    """Return what the users' path of an operation says of itself.

    Args:
        told: What its short form of ``/v1`` says.
        contract: The operation's contract.
    """
    return dataclasses.replace(
        told,
        gives={200: QueueItem, 202: (QueueItem, KeptItem)},
        takes=payload_of(contract),
        shapes={"priority": _PRIORITY},
    )


def payload_of(contract: Contract) -> Any:
    """Return the model of a payload: the contract's, or that and one with the users' names."""
    names = NAMES.get(contract.operation)
    if not names:
        return contract.request
    members = {one.encode_name: one for one in msgspec.structs.fields(contract.request)}
    made = {name: one.type for name, one in members.items()}
    made.update({name: _type_of(renamed, members) for name, renamed in names.items()})
    given = {one.to[0] for one in names.values()}
    fields = [
        (f"member_{number}", kind, _default(name, members, given))
        for number, (name, kind) in enumerate(made.items())
    ]
    return (contract.request, _struct(contract, fields, list(made)))


def _type_of(renamed: Renamed, members: dict[str, msgspec.structs.FieldInfo]) -> Any:
    """Return the type of a member of the documents: that of what it becomes, or its own."""
    if renamed.shape is not None:
        return renamed.shape
    kind = members[renamed.to[0]].type
    for name in renamed.to[1:]:
        kind = next(one.type for one in msgspec.structs.fields(kind) if one.encode_name == name)
    return kind


def _default(name: str, members: dict[str, msgspec.structs.FieldInfo], given: set[str]) -> Any:
    """Say whether a member must be there; what may come under another name need not."""
    is_needed = name in members and members[name].required and name not in given
    return msgspec.NODEFAULT if is_needed else msgspec.UNSET


def _struct(contract: Contract, fields: list[tuple[str, Any, Any]], names: list[str]) -> Any:
    return msgspec.defstruct(
        f"{contract.request.__name__}InUsersNames",
        [
            (field, kind if default is msgspec.NODEFAULT else kind | msgspec.UnsetType, default)
            for field, kind, default in fields
        ],
        rename=dict(zip((field for field, _, _ in fields), names, strict=True)),
        forbid_unknown_fields=True,
        kw_only=True,
        module=__name__,
    )
