"""Webhooks out: one event, POSTed to a receiver's URL and signed.

The receiver is told at least once and drops copies by ``webhook-id``, so a send of unknown outcome
is repeated; there is nothing to ask and nobody to bother.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

import httpx2
import msgspec

from integrationd.sdk.contract import Contract, Request, Result
from integrationd.sdk.contracts.http import check_headers, check_path

MAX_WEBHOOK_BYTES = 64 * 1024
MAX_URL_CHARACTERS = 2000
EVENT_TYPE_PATTERN = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"
USUAL_PORTS = (80, 443, 8080, 8443)

Scheme: TypeAlias = Literal["standard", "simple"]
EventType: TypeAlias = Annotated[str, msgspec.Meta(pattern=EVENT_TYPE_PATTERN, max_length=200)]
# No dot: the signed text is id, time and body, joined by dots.
WebhookId: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,120}$")]

_UNIX_PATH = re.compile(r"unix:/[^\0?#]{1,100}")
_URL = re.compile(r"https?://[!-~\u00a1-\uffff]+", re.IGNORECASE)
_OWN_HEADERS = frozenset(
    {
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        *("host", "content-length", "content-type", "content-encoding", "date", "user-agent"),
        *("x-signature", "x-event", "cookie"),
    }
)
_OWN_PREFIXES = ("webhook-", "proxy-", "svix-")


class WebhookSend(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event to a receiver.

    Attributes:
        type: What happened, dotted: ``reward.issued``.
        body: The JSON text to send, byte for byte; the same on every attempt.
        id: The receiver's key against copies; the call's id where absent.
    """

    type: EventType
    body: Annotated[str, msgspec.Meta(min_length=2, max_length=MAX_WEBHOOK_BYTES)]
    id: WebhookId | None = None

    def __post_init__(self) -> None:
        """Refuse a body that is no JSON, or too long in bytes.

        Raises:
            ValueError: It is.
        """
        try:
            content = self.body.encode()
            msgspec.json.decode(content)
        except (UnicodeEncodeError, msgspec.DecodeError, RecursionError) as error:
            raise ValueError(f"body is not usable JSON: {error}") from None
        if len(content) > MAX_WEBHOOK_BYTES:
            raise ValueError(f"body is over {MAX_WEBHOOK_BYTES} bytes")


class WebhookSendResult(Result, frozen=True, kw_only=True, omit_defaults=True):
    """What the receiver answered.

    Attributes:
        status: The HTTP status.
        body: The first KiB of the reply.
    """

    status: int
    body: str = ""


def check_url(url: str, *, allow_private: bool) -> httpx2.URL:
    """Return a receiver's URL, parsed; where its name leads is looked at when something is sent.

    Args:
        url: ``https://``; ``http://`` and unusual ports only with ``allow_private``.
        allow_private: It is in one's own network, or a developer's machine.

    Raises:
        ValueError: It cannot be used; the message says why, without repeating it.
    """
    if len(url) > MAX_URL_CHARACTERS or not _URL.fullmatch(url) or "\\" in url:
        raise ValueError(f"must be an https:// URL of at most {MAX_URL_CHARACTERS} characters")
    try:
        parsed = httpx2.URL(url)
        check_path(parsed.raw_path.partition(b"?")[0].decode("ascii"))
    except (httpx2.InvalidURL, ValueError) as error:
        raise ValueError(f"is not a usable URL: {error}") from None
    if parsed.userinfo or "@" in url.split("/", 3)[2] or parsed.fragment or not parsed.host:
        raise ValueError("must have a host, and neither user nor password nor fragment")
    if parsed.scheme != "https" and not allow_private:
        raise ValueError("must be https://; plain http:// is for allow_private only")
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    if not 0 < port < 65536 or (port not in USUAL_PORTS and not allow_private):
        usual = ", ".join(map(str, USUAL_PORTS))
        raise ValueError(f"port {port} is unusual; without allow_private it is one of {usual}")
    return parsed


def unix_path(url: str) -> str | None:
    """Return the socket's path of ``unix:/path``; None for any other URL."""
    return url.removeprefix("unix:") if _UNIX_PATH.fullmatch(url) else None


def check_own_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that are the transport's or the signature's.

    Raises:
        ValueError: One of them is, or cannot be sent.
    """
    check_headers(headers)
    for name in map(str.lower, headers):
        if name in _OWN_HEADERS or name.startswith(_OWN_PREFIXES):
            raise ValueError(f"header {name!r} is set by integrationd itself")


CONTRACTS: tuple[Contract, ...] = (
    Contract(
        operation="webhook.send",
        request=WebhookSend,
        result=WebhookSendResult,
        on_uncertain="repeat",
        max_repeats=100,
        summary="POST one signed event to a receiver's URL.",
    ),
)
