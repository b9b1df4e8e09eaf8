"""What makes a subscription impossible, told before it is kept and with the member at fault."""

import base64
import binascii

from integrationd.api.subscription_side import Wish
from integrationd.errors import UnprocessableError
from integrationd.sdk.contracts.webhook import check_own_headers, check_url
from integrationd.sdk.target import refused_kind
from integrationd.settings import EVENTS_PATTERN

MOST_PATTERNS = 100
MOST_HEADERS = 20
MOST_ATTEMPTS = 30
LONGEST_WAIT_S = 7 * 86_400.0
LONGEST_SECRET = 1000


def check_wish(wish: Wish) -> None:
    """Do nothing if a subscription can work.

    Raises:
        UnprocessableError: It cannot; the error points at the member.
    """
    terms = wish.terms
    try:
        url = check_url(terms.url, allow_private=terms.allow_private)
    except ValueError as error:
        raise _refusal("/url", f"url {error}") from None
    _check_address(url.host, terms.allow_private)
    _check_events(terms.events)
    if wish.headers is not None:
        _check_headers(dict(wish.headers))
    schedule = terms.schedule_s
    if len(schedule) > MOST_ATTEMPTS or any(not 0 <= one <= LONGEST_WAIT_S for one in schedule):
        raise _refusal(
            "/schedule", f"at most {MOST_ATTEMPTS} waits, of 0 to {LONGEST_WAIT_S:.0f} seconds each"
        )


def check_secret(scheme: str, secret: str, pointer: str) -> None:
    """Do nothing if a secret can sign in a scheme; it is never repeated.

    Raises:
        UnprocessableError: It cannot.
    """
    if scheme == "simple":
        if not 16 <= len(secret) <= LONGEST_SECRET or not secret.isprintable():
            raise _refusal(pointer, "a simple secret is 16 to 1000 printable characters")
        return
    prefix = next((one for one in ("whsec_", "whsk_") if secret.startswith(one)), "")
    try:
        key = base64.b64decode(secret.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not prefix or (len(key) not in range(24, 65) if prefix == "whsec_" else len(key) != 32):
        raise _refusal(
            pointer,
            "a standard secret is whsec_ and 24 to 64 bytes in base64, or whsk_ and an Ed25519 seed"
            " of 32 bytes",
        )


def _check_address(host: str, allow_private: bool) -> None:
    """Refuse at once what says itself that it is private; names are looked at when they resolve."""
    if allow_private:
        return
    try:
        kind = refused_kind(host)
    except ValueError:
        plain = host.rstrip(".").lower()
        kind = "loopback" if plain == "localhost" or plain.endswith(".localhost") else None
    if kind is not None:
        raise _refusal(
            "/url", f"{host} is a {kind} address; only an admin may allow it with allow_private"
        )


def _check_events(events: tuple[str, ...]) -> None:
    if not 0 < len(events) <= MOST_PATTERNS:
        raise _refusal("/events", f"name 1 to {MOST_PATTERNS} events")
    for number, one in enumerate(events):
        if not EVENTS_PATTERN.fullmatch(one):
            raise _refusal(
                f"/events/{number}",
                f'{one[:80]!r} is no event: give its name, "payment.*" for all that begin so,'
                ' or "*"',
            )


def _check_headers(headers: dict[str, str]) -> None:
    if len(headers) > MOST_HEADERS:
        raise _refusal("/headers", f"at most {MOST_HEADERS} headers")
    try:
        check_own_headers(headers)
    except ValueError as error:
        raise _refusal("/headers", str(error)) from None


def _refusal(pointer: str, message: str) -> UnprocessableError:
    return UnprocessableError(message, code="invalid", pointer=pointer)
