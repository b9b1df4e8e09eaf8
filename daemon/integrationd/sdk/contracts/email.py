"""What every e-mail provider promises: one message, or a batch of different ones."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from integrationd.sdk.contract import Contract, Request, Result

MAX_RECIPIENTS = 50

_WORD = r"[\w!#$%&'*+/=?^`{|}~-]+"
_LABEL = r"[^\W_](?:(?:[^\W_]|-){0,61}[^\W_])?"
_SPEC = rf"{_WORD}(?:\.{_WORD})*@{_LABEL}(?:\.{_LABEL})*"
_QUOTED_NAME = r'"(?P<quoted>(?:[^"\\]|\\.)*)"'
_PLAIN_NAME = r'(?P<plain>[^"<>@,;:\\()\[\]]*)'
_MAILBOX = re.compile(rf"(?:{_QUOTED_NAME}|{_PLAIN_NAME})\s*<(?P<named>{_SPEC})>|(?P<bare>{_SPEC})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_OWN_MEMBERS = frozenset(
    {
        "bcc",
        "cc",
        "date",
        "from",
        "message-id",
        "mime-version",
        "received",
        "reply-to",
        "return-path",
        "sender",
        "subject",
        "to",
    }
)

Mailbox: TypeAlias = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=320,
        description="ann@shop.example, or Ann <ann@shop.example>; quote names with commas.",
    ),
]
Mailboxes: TypeAlias = Annotated[tuple[Mailbox, ...], Meta(min_length=1, max_length=MAX_RECIPIENTS)]
HeaderName: TypeAlias = Annotated[
    str, Meta(max_length=76, pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+(?!\n)$")
]
HeaderValue: TypeAlias = Annotated[str, Meta(max_length=900)]


class EmailAttachment(Request, frozen=True, kw_only=True):
    """A file that goes with a message.

    Attributes:
        filename: Its name, without a directory.
        content: Its bytes, as base64 in JSON.
        url: Where the provider fetches it instead; not every provider can.
        content_type: Its media type; told from the name when None.
        content_id: By which the HTML shows it: ``<img src="cid:...">``.
    """

    filename: Annotated[str, Meta(min_length=1, max_length=255)]
    content: bytes | None = None
    url: Annotated[str, Meta(max_length=2048, pattern=r"^https?://[!-~]+(?!\n)$")] | None = None
    content_type: (
        Annotated[str, Meta(max_length=127, pattern=r"^[\w.+-]+/[\w.+-]+(?!\n)$")] | None
    ) = None
    content_id: Annotated[str, Meta(max_length=128, pattern=r"^[\w.@+-]+(?!\n)$")] | None = None

    def __post_init__(self) -> None:
        """Check the name, and that the bytes come from one place.

        Raises:
            ValueError: Both or neither of content and url are given, or the name is no file name.
        """
        if (self.content is None) == (self.url is None):
            raise ValueError("an attachment needs exactly one of content (base64) and url")
        _refuse_control(self.filename, "filename")
        if "/" in self.filename or "\\" in self.filename:
            raise ValueError("filename must not contain a directory")


class EmailSend(Request, frozen=True, kw_only=True):
    """One message; where it has several recipients each becomes a part.

    Attributes:
        to: One mailbox or several.
        cc: Who gets a visible copy.
        bcc: Who gets a hidden copy.
        sender: ``from`` in JSON; the connection's default when None.
        reply_to: Where answers go.
        subject: The subject, in one line.
        text: The body as plain text; this, ``html`` or both.
        html: The body as HTML.
        attachments: Files that go with it.
        headers: Further headers; not those that have a member of their own.
    """

    to: Mailbox | Mailboxes
    cc: Mailboxes | None = None
    bcc: Mailboxes | None = None
    sender: Mailbox | None = msgspec.field(name="from", default=None)
    reply_to: Mailbox | Mailboxes | None = None
    subject: Annotated[str, Meta(min_length=1, max_length=900)]
    text: Annotated[str, Meta(min_length=1)] | None = None
    html: Annotated[str, Meta(min_length=1)] | None = None
    attachments: Annotated[tuple[EmailAttachment, ...], Meta(max_length=50)] = ()
    headers: Annotated[dict[HeaderName, HeaderValue], Meta(max_length=50)] = msgspec.field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        """Check what concerns several members.

        Raises:
            ValueError: There is no body, an address is none, a recipient is named twice, or text
                that becomes a header contains a line break.
        """
        if self.text is None and self.html is None:
            raise ValueError("give text, html or both")
        _refuse_control(self.subject, "subject")
        _check_headers(self.headers)
        for member, mailbox in self._other_mailboxes():
            split_mailbox(mailbox, member)
        _check_recipients(self.recipients)

    @property
    def recipients(self) -> tuple[str, ...]:
        """Everyone who gets it: ``to``, ``cc`` and ``bcc``, in this order."""
        return (*_many(self.to), *(self.cc or ()), *(self.bcc or ()))

    def _other_mailboxes(self) -> Iterator[tuple[str, str]]:
        if self.sender is not None:
            yield "from", self.sender
        for mailbox in _many(self.reply_to or ()):
            yield "reply_to", mailbox


class EmailSendResult(Result, frozen=True, kw_only=True):
    """What is known once the provider has taken a message over.

    Attributes:
        message_id: The provider's id, by which bounces and receipts refer to it.
    """

    message_id: str | None = None


class EmailSendBatch(Request, frozen=True, kw_only=True):
    """Different messages in one request; each becomes a part.

    Attributes:
        messages: The messages, in order.
    """

    messages: Annotated[tuple[EmailSend, ...], Meta(min_length=1, max_length=100)]


class EmailSendBatchResult(Result, frozen=True, kw_only=True):
    """What is known about the whole; each message's id is on its part."""


def split_mailbox(mailbox: str, member: str = "address") -> tuple[str, str]:
    """Split a mailbox into its display name, which may be empty, and its bare address.

    Args:
        mailbox: ``ann@shop.example`` or ``Ann <ann@shop.example>``.
        member: What to call it in the error.

    Raises:
        ValueError: It is neither.
    """
    _refuse_control(mailbox, member)
    found = _MAILBOX.fullmatch(mailbox)
    address = (found["named"] or found["bare"]) if found else ""
    local, _, domain = address.rpartition("@")
    if found is None or len(local.encode()) > 64 or len(domain) > 253:
        raise ValueError(
            f"{member}: {mailbox!r} is no e-mail address; write ann@shop.example or "
            "Ann <ann@shop.example>, with quotes around a name that has a comma in it"
        )
    name = re.sub(r"\\(.)", r"\1", found["quoted"]) if found["quoted"] else found["plain"]
    return (name or "").strip(), address


def _many(mailboxes: str | tuple[str, ...]) -> tuple[str, ...]:
    return (mailboxes,) if isinstance(mailboxes, str) else mailboxes


def _refuse_control(text: str, member: str) -> None:
    if _CONTROL.search(text):
        raise ValueError(f"{member} must not contain line breaks or other control characters")


def _check_headers(headers: dict[str, str]) -> None:
    for name, value in headers.items():
        lowered = name.lower()
        if lowered in _OWN_MEMBERS or lowered.startswith("content-"):
            raise ValueError(f"headers must not set {name}; it is made from the other members")
        _refuse_control(value, f"headers.{name}")


def _check_recipients(recipients: Sequence[str]) -> None:
    if len(recipients) > MAX_RECIPIENTS:
        raise ValueError(
            f"to, cc and bcc name {len(recipients)} recipients; at most {MAX_RECIPIENTS} can "
            "share a message: use email.send_batch"
        )
    seen: set[str] = set()
    for mailbox in recipients:
        _, address = split_mailbox(mailbox, "recipient")
        local, _, domain = address.rpartition("@")
        key = f"{local}@{domain.lower()}"
        if key in seen:
            raise ValueError(f"{address} is named more than once in to, cc and bcc")
        seen.add(key)


def _recipients(request: EmailSend) -> Sequence[str]:
    return request.recipients if len(request.recipients) > 1 else ()


def _messages(request: EmailSendBatch) -> Sequence[str]:
    return [f"{at}:{message.recipients[0]}" for at, message in enumerate(request.messages)]


CONTRACTS: tuple[Contract, ...] = (
    Contract(
        operation="email.send",
        request=EmailSend,
        result=EmailSendResult,
        on_uncertain="repeat",
        max_repeats=1,
        recipients=_recipients,
        summary="Send one e-mail.",
    ),
    Contract(
        operation="email.send_batch",
        request=EmailSendBatch,
        result=EmailSendBatchResult,
        on_uncertain="repeat",
        max_repeats=1,
        recipients=_messages,
        summary="Send different e-mails in one request.",
    ),
)
