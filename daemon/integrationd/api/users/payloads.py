"""The names that the users' documents give to members of a payload, put as the contracts have them.

Values are kept as they came, byte for byte, unless their form is another too. What has a name that
neither the documents nor the contract know is left for the contract to refuse.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec

from integrationd.api.accept import decode
from integrationd.errors import RequestError, UnprocessableError

_Members: TypeAlias = dict[str, msgspec.Raw]
_encode = msgspec.json.Encoder().encode
_PAYLOAD = "/payload"


class Person(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person as Brevo and document 002 write one."""

    email: str
    name: str = ""

    @property
    def mailbox(self) -> str:
        """The same as one text."""
        if not self.name:
            return self.email
        quoted = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}" <{self.email}>'


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An attachment as document 002 writes one."""

    name: str
    url: str | None = None
    content: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Renamed:
    """Where a member of the documents goes.

    Attributes:
        to: The contract's name, or two of them for a member within a member.
        form: Puts the value as the contract has it; None where it is the same.
        shape: The type of what ``form`` reads; None where it is that of the contract.
    """

    to: tuple[str, ...]
    form: Callable[[msgspec.Raw, str], Any] | None = None
    shape: Any = None


def _mailboxes(value: msgspec.Raw, pointer: str) -> Any:
    """Read one person or several; texts are mailboxes already."""
    if bytes(value).lstrip()[:1] == b'"':
        return value
    given = decode(Person | list[str | Person], value, pointer)
    people = given if isinstance(given, list) else [given]
    texts = [one if isinstance(one, str) else one.mailbox for one in people]
    return texts if isinstance(given, list) else texts[0]


def _attachments(value: msgspec.Raw, pointer: str) -> Any:
    """Read files; those that are named as the contract names them stay as they are."""
    given = decode(list[_Members], value, pointer)
    return [
        one
        if "filename" in one
        else _attachment(decode(_File, _encode(one), f"{pointer}/{number}"))
        for number, one in enumerate(given)
    ]


def _attachment(file: _File) -> Mapping[str, str]:
    told = {"filename": file.name, "url": file.url, "content": file.content}
    return {name: value for name, value in told.items() if value is not None}


_PEOPLE = str | Person | list[str | Person]
_PHONE = Renamed(("to",))
_REFERENCE = Renamed(("provider_reference",))
NAMES: Mapping[str, Mapping[str, Renamed]] = MappingProxyType(
    {
        "sms.send": {
            "phoneNumber": _PHONE,
            "phone_number": _PHONE,
            "body": Renamed(("message",)),
            "from": Renamed(("sender",)),
            "smsSenderId": Renamed(("sender",)),
        },
        "sms.send_bulk": {
            "body": Renamed(("message",)),
            "from": Renamed(("sender",)),
            "smsSenderId": Renamed(("sender",)),
        },
        "email.send": {
            "sender": Renamed(("from",), _mailboxes, _PEOPLE),
            "to": Renamed(("to",), _mailboxes, _PEOPLE),
            "htmlContent": Renamed(("html",)),
            "attachments": Renamed(("attachments",), _attachments, list[dict[str, Any]]),
        },
        "payment.initiate": {
            "email": Renamed(("customer", "email")),
            "phone_number": Renamed(("customer", "phone")),
            "phoneNumber": Renamed(("customer", "phone")),
            "callback_url": Renamed(("return_url",)),
        },
        "payment.verify": {"transactionId": _REFERENCE, "transaction_id": _REFERENCE},
        "payment.refund": {
            "transactionId": Renamed(("payment",)),
            "transaction_id": Renamed(("payment",)),
        },
    }
)
"""By operation: what the documents call a member. 000: ``phoneNumber``, ``smsSenderId``; 002:
``body`` and ``from`` (Twilio), ``sender``, ``htmlContent``, ``attachments`` (Brevo), ``email`` and
``callback_url`` (Paystack); 003: ``phone_number``; 004: ``transactionId``."""


def translated(operation: str, body: bytes) -> bytes:
    """Return a payload with the contract's names in the place of the documents'.

    Raises:
        RequestError: It is no JSON object, says something twice, or a value has the wrong form.
    """
    names = NAMES.get(operation)
    if not names or not body:
        return body
    members: _Members = decode(_Members, body, _PAYLOAD)
    if names.keys().isdisjoint(members):
        return body
    made: dict[str, Any] = {}
    for name, value in members.items():
        renamed = names.get(name, Renamed((name,)))
        pointer = f"{_PAYLOAD}/{name}"
        _put(made, renamed.to, renamed.form(value, pointer) if renamed.form else value, pointer)
    return _encode(made)


def _put(made: dict[str, Any], path: Sequence[str], value: Any, pointer: str) -> None:
    """Set a member, or a member of a member."""
    last = path[-1]
    place = made
    for name in path[:-1]:
        within = place.setdefault(name, {})
        if isinstance(within, msgspec.Raw):
            within = place[name] = decode(_Members, within, f"{_PAYLOAD}/{name}")
        place = within
    if last in place:
        if isinstance(value, msgspec.Raw) and isinstance(place[last], dict):
            for name, each in decode(_Members, value, pointer).items():
                _put(place[last], (name,), each, pointer)
            return
        raise UnprocessableError(
            f"{'.'.join(path)} is given twice, under two names",
            code="given_twice",
            pointer=pointer,
            hint="Leave one of them out.",
        )
    place[last] = value


def point_back(operation: str, body: bytes, error: RequestError) -> None:
    """Have an error point at the member as the caller has named it."""
    names = NAMES.get(operation, {})
    try:
        given = msgspec.json.decode(body, type=_Members)
    except msgspec.MsgspecError:
        return
    for name, renamed in names.items():
        theirs = "/".join((_PAYLOAD, *renamed.to))
        is_at_it = error.pointer == theirs or error.pointer.startswith(f"{theirs}/")
        if name in given and is_at_it:
            error.pointer = f"{_PAYLOAD}/{name}{error.pointer.removeprefix(theirs)}"
            return
