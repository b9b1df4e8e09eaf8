"""The common ways to prove a webhook, each in one call; all of them compare in constant time.

Every function takes the raw request and the secrets that are valid now (two while one is being
replaced) and returns :class:`Verified` or a :class:`Refusal` that says what is wrong. A header that
is missing, empty or doubled is refused before anything is computed.
"""

import base64
import binascii
import datetime as dt
import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

import standardwebhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from integrationd.sdk.webhook import Proof, Refusal, Verified, WebhookRequest

Algorithm: TypeAlias = Literal["sha1", "sha256", "sha512"]
Encoding: TypeAlias = Literal["hex", "base64"]

TOLERANCE_S = 300
_MOST_SIGNATURES = 16
_LONGEST_HEADER = 4096
_DIGITS = 12


def hmac_of_body(
    request: WebhookRequest,
    secrets: Iterable[str],
    *,
    header: str,
    algorithm: Algorithm = "sha256",
    encoding: Encoding = "hex",
    prefix: str = "",
) -> Proof:
    """Verify an HMAC over the raw body, such as ``X-Paystack-Signature``.

    Args:
        request: The webhook.
        secrets: Those that are valid now.
        header: Where the signature stands.
        algorithm: The hash.
        encoding: How the signature is written; hex in either case.
        prefix: What stands before it, for example ``sha256=``.
    """
    given = request.header(header)
    if not given or len(given) > _LONGEST_HEADER:
        return _missing(header)
    if not given.startswith(prefix):
        return _wrong(f"{header} does not begin with {prefix!r}")
    return _verified(
        _macs(request.body, secrets, algorithm), [given.removeprefix(prefix)], encoding, header
    )


def timestamped_hmac(
    request: WebhookRequest,
    secrets: Iterable[str],
    *,
    header: str,
    tolerance_s: float = TOLERANCE_S,
) -> Proof:
    """Verify ``t=SECONDS,v1=HEX[,v1=HEX]`` over ``SECONDS.BODY``, as in ``Stripe-Signature``.

    Args:
        request: The webhook.
        secrets: Those that are valid now.
        header: Where the signature stands.
        tolerance_s: How many seconds old, or ahead, it may be.
    """
    given = request.header(header)
    if not given or len(given) > _LONGEST_HEADER:
        return _missing(header)
    pairs = [part.strip().partition("=") for part in given.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    signatures = [value for name, _, value in pairs if name == "v1"]
    if len(times) != 1 or not signatures or len(signatures) > _MOST_SIGNATURES:
        return _wrong(f"{header} must have one t= and some v1=")
    untimely = _untimely(times[0], request.received_at_ms, tolerance_s)
    if untimely is not None:
        return untimely
    signed = times[0].encode() + b"." + request.body
    return _verified(_macs(signed, secrets, "sha256"), signatures, "hex", header)


def standard_webhook(
    request: WebhookRequest,
    secrets: Iterable[str],
    *,
    names: tuple[str, str, str] = ("webhook-id", "webhook-timestamp", "webhook-signature"),
    tolerance_s: float = TOLERANCE_S,
) -> Proof:
    """Verify a Standard Webhooks signature.

    Args:
        request: The webhook.
        secrets: ``whsec_...``, those that are valid now.
        names: The headers of id, timestamp and signature; Svix has names of its own.
        tolerance_s: How many seconds old, or ahead, it may be.
    """
    webhook_id, timestamp, given = (request.header(name) for name in names)
    if not webhook_id or not timestamp or not given or len(given) > _LONGEST_HEADER:
        return _missing(", ".join(names))
    untimely = _untimely(timestamp, request.received_at_ms, tolerance_s)
    if untimely is not None:
        return untimely
    listed = [part.partition(",") for part in given.split(" ")][:_MOST_SIGNATURES]
    signatures = [value for version, _, value in listed if version == "v1"]
    if not signatures:
        return _wrong(f"{names[2]} has no v1 signature")
    try:
        macs = [_standard_mac(one, webhook_id, timestamp, request.body) for one in secrets]
    except UnicodeDecodeError:
        return _wrong("the body is not UTF-8 text")
    return _verified(macs, signatures, "base64", names[2])


def shared_secret(request: WebhookRequest, secrets: Iterable[str], *, header: str) -> Proof:
    """Verify a header that carries the secret itself, such as ``verif-hash``."""
    given = request.header(header)
    if not given or len(given) > _LONGEST_HEADER:
        return _missing(header)
    shown = given.encode("utf-8", "surrogateescape")
    # Every secret is compared, so that time tells nothing about which of them is close.
    matches = [hmac.compare_digest(shown, secret.encode()) for secret in secrets]
    return Verified("secret") if any(matches) else _wrong(f"{header} is not the secret")


def ed25519_of(
    request: WebhookRequest, public_keys: Iterable[bytes], *, header: str, signed: bytes
) -> Proof:
    """Verify an Ed25519 signature in base64 or hex over ``signed``.

    Args:
        request: The webhook.
        public_keys: 32 bytes each.
        header: Where the signature stands.
        signed: The bytes that the provider signs.
    """

    def check(signature: bytes, key: bytes) -> None:
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)

    return _by_public_key(request, public_keys, header, check)


def ecdsa_of(
    request: WebhookRequest, public_keys: Iterable[bytes], *, header: str, signed: bytes
) -> Proof:
    """Verify an ECDSA signature with SHA-256, DER in base64 or hex, over ``signed``.

    Args:
        request: The webhook.
        public_keys: PEM or DER, SubjectPublicKeyInfo.
        header: Where the signature stands.
        signed: The bytes that the provider signs.
    """

    def check(signature: bytes, key: bytes) -> None:
        is_pem = key.lstrip().startswith(b"-----")
        load = serialization.load_pem_public_key if is_pem else serialization.load_der_public_key
        public_key = load(key)
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        public_key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))

    return _by_public_key(request, public_keys, header, check)


def by_address(request: WebhookRequest) -> Proof:
    """Verify where a provider signs nothing: by the unguessable address that it came to.

    A plain path is taken too where the operator lists the addresses that the provider calls from.
    Neither vouches for the content; let a query confirm it.
    """
    if request.token:
        return Verified("token")
    if request.listed:
        return Verified("address")
    return Refusal(
        "token_missing",
        "The provider signs nothing, this is no address that was handed out, and the connection"
        " lists no allow_from.",
    )


def _by_public_key(
    request: WebhookRequest,
    public_keys: Iterable[bytes],
    header: str,
    check: Callable[[bytes, bytes], None],
) -> Proof:
    given = request.header(header)
    if not given or len(given) > _LONGEST_HEADER:
        return _missing(header)
    for signature in _readings(given):
        for key in public_keys:
            try:
                check(signature, key)
            except (InvalidSignature, ValueError):
                continue
            return Verified()
    return _wrong(f"{header} does not fit")


def _readings(text: str) -> list[bytes]:
    found = []
    for read in (bytes.fromhex, lambda value: base64.b64decode(value, validate=True)):
        try:
            found.append(read(text))
        except (ValueError, binascii.Error):
            continue
    return found


def _verified(
    expected: Sequence[bytes], given: Sequence[str], encoding: Encoding, header: str
) -> Proof:
    shown = [one for text in given if (one := _decoded(text, encoding)) is not None]
    # Every pair is compared, so that time tells nothing about which of them is close.
    matches = [hmac.compare_digest(mac, one) for mac in expected for one in shown]
    return Verified() if any(matches) else _wrong(f"{header} does not fit the body")


def _decoded(text: str, encoding: Encoding) -> bytes | None:
    try:
        if encoding == "hex":
            return bytes.fromhex(text) if text.isalnum() else None
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None


def _macs(signed: bytes, secrets: Iterable[str], algorithm: Algorithm) -> list[bytes]:
    # An empty key would let everybody sign.
    keys = [secret.encode() for secret in secrets if secret]
    return [hmac.new(key, signed, getattr(hashlib, algorithm)).digest() for key in keys]


def _standard_mac(secret: str, webhook_id: str, timestamp: str, body: bytes) -> bytes:
    at = dt.datetime.fromtimestamp(int(timestamp), tz=dt.UTC)
    signed: str = standardwebhooks.Webhook(secret).sign(webhook_id, at, body.decode())
    return base64.b64decode(signed.partition(",")[2])


def _untimely(text: str, now_ms: int, tolerance_s: float) -> Refusal | None:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        return Refusal("timestamp_wrong", "The timestamp is not a whole number of seconds.", 400)
    age_s = now_ms / 1000 - int(text)
    if age_s > tolerance_s:
        return Refusal("stale", f"It was signed {age_s:.0f} s ago.", 400)
    if age_s < -tolerance_s:
        return Refusal("early", f"It is signed {-age_s:.0f} s ahead of this machine's clock.", 400)
    return None


def _missing(header: str) -> Refusal:
    return Refusal("signature_missing", f"{header} is missing, empty or given more than once.")


def _wrong(detail: str) -> Refusal:
    return Refusal("signature_wrong", detail)
