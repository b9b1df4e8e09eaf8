"""Signed webhooks to a receiver's URL: Standard Webhooks, or the simple ``X-Signature`` scheme."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, ClassVar

import httpx2
import pydantic
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from integrationd.sdk import (
    Context,
    Delivered,
    HttpProviderConfig,
    Outcome,
    Provider,
    ProviderConfig,
    Rejected,
    Retryable,
    SecretStr,
    Throttled,
    Uncertain,
    WebhookSend,
    classify,
    operation,
)
from integrationd.sdk.contracts.webhook import Scheme, check_own_headers, check_url, unix_path
from integrationd.sdk.framing import ReplyTooLargeError
from integrationd.sdk.http import PreparedClient, prepare_client
from integrationd.sdk.unix import UnixTransport

SHOWN_BYTES = 1024
REPLY_LIMIT_BYTES = 64 * 1024
SLOW_DOWN_S = 5.0
# A Svix extension: the receiver wants no more of this one event.
ABORT = "abort-message"
_SYMMETRIC, _ASYMMETRIC = "whsec_", "whsk_"
_SEED_BYTES = 32


class SigningSecret(ProviderConfig):
    """A secret and when it signs.

    Attributes:
        secret: ``whsec_`` or ``whsk_`` and base64 for ``standard``; any text for ``simple``.
        from_ms: From when on, UTC milliseconds.
        until_ms: Until when; for ever where absent.
    """

    secret: SecretStr
    from_ms: int = 0
    until_ms: int | None = None

    def is_valid(self, now_ms: int) -> bool:
        """Say whether it signs at a moment."""
        return self.from_ms <= now_ms and (self.until_ms is None or now_ms < self.until_ms)


class Webhook(Provider):
    """A receiver of webhooks.

    Source: Standard Webhooks specification 1.0.0,
    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
    Source: Svix documentation, "Retry Schedule" and "Consuming Webhooks", https://docs.svix.com
    (schedule, 410 and abort-message).
    """

    code = "webhook"

    class Config(HttpProviderConfig):
        """A receiver.

        Attributes:
            url: Where to POST: ``https://``; in one's own network ``http://`` or
                ``unix:/path/of/socket``, with ``allow_private``.
            base_url: Follows from ``url``.
            scheme: How requests are signed.
            secret: What signs, where there is one only.
            secrets: All that sign, the newest first: two while one takes the other's place.
            headers: Sent with every request.
            persistent: Whatever the receiver answers but 2xx, try again.
        """

        max_reply_bytes: ClassVar[int] = REPLY_LIMIT_BYTES

        url: str
        base_url: str = ""
        scheme: Scheme = "standard"
        secret: SecretStr | None = None
        secrets: tuple[SigningSecret, ...] = ()
        headers: dict[str, SecretStr] = pydantic.Field(default_factory=dict)
        persistent: bool = False

        @pydantic.model_validator(mode="before")
        @classmethod
        def _finds_its_base(cls, given: Any) -> Any:
            if not isinstance(given, dict) or not isinstance(given.get("url"), str):
                return given
            return {"base_url": _base_of(given["url"]), **given}

        @pydantic.field_validator("headers")
        @classmethod
        def _can_be_sent(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
            check_own_headers({name: one.get_secret_value() for name, one in headers.items()})
            return headers

        @pydantic.model_validator(mode="after")
        def _is_complete(self) -> "Webhook.Config":
            if unix_path(self.url) is None:
                check_url(self.url, allow_private=self.allow_private)
            elif not self.allow_private:
                raise ValueError("a Unix socket needs allow_private")
            if not self.signing:
                raise ValueError("needs a secret to sign with")
            if self.scheme == "standard":
                for one in self.signing:
                    standard_key(one.secret.get_secret_value())
            return self

        @property
        def signing(self) -> tuple[SigningSecret, ...]:
            """All secrets, the newest first."""
            if self.secret is None:
                return self.secrets
            return (SigningSecret(secret=self.secret), *self.secrets)

    config: Config

    def __init__(self, config: Any, connection: Any) -> None:
        super().__init__(config, connection)
        self._target = _target_of(config.url)
        self._door = _door(config.url, connection.timeout_s)

    async def aclose(self) -> None:
        """Close the way to a Unix socket."""
        if self._door is not None:
            await self._door.aclose()

    # The receiver drops copies by their id, so a copy has no effect.
    @operation("webhook.send", repeat_safe=True, reads_only=True)
    async def send(self, request: WebhookSend, ctx: Context) -> Outcome:
        """POST the event, signed for this attempt."""
        now_ms = ctx.clock.now_ms()
        prepared = ctx.http
        client = self._door or prepared
        try:
            response = await client.post(
                self._target,
                content=request.body.encode(),
                headers=self._headers(request, ctx.call_id, now_ms),
                timeout=httpx2.Timeout(ctx.timeout_s, connect=min(10.0, ctx.timeout_s)),
            )
        except ReplyTooLargeError as error:
            return self._of_long_reply(error)
        except httpx2.TransportError as error:
            return self._of_failure(classify.of_error(error, now_ms))
        return self._of_response(response, now_ms)

    def unsupported(self, operation: str, request: WebhookSend) -> str | None:
        """Refuse what a connection of this kind cannot do: nothing."""
        return None

    def _headers(self, request: WebhookSend, call_id: str, now_ms: int) -> dict[str, str]:
        """Return the headers of one attempt; the time in them is that of the attempt."""
        webhook_id, body = request.id or call_id, request.body.encode()
        headers = {name: one.get_secret_value() for name, one in self.config.headers.items()}
        headers |= {"Content-Type": "application/json", "webhook-id": webhook_id}
        signing = [
            one.secret.get_secret_value() for one in self.config.signing if one.is_valid(now_ms)
        ]
        if self.config.scheme == "simple":
            key = signing[0].encode() if signing else b""
            digest = hmac.new(key, body, hashlib.sha256).hexdigest()
            return {**headers, "X-Event": request.type, "X-Signature": digest}
        seconds = str(now_ms // 1000)
        signed = b".".join((webhook_id.encode(), seconds.encode(), body))
        listed = " ".join(standard_signature(secret, signed) for secret in signing)
        return {**headers, "webhook-timestamp": seconds, "webhook-signature": listed}

    def _of_response(self, response: httpx2.Response, now_ms: int) -> Outcome:
        status = response.status_code
        if response.is_success:
            shown = response.content[:SHOWN_BYTES].decode("utf-8", "replace")
            return Delivered(result={"status": status, "body": shown})
        wait_s = classify.retry_after_s(response.headers.get("Retry-After", ""), now_ms)
        if not self.config.persistent:
            if status == 410:
                return Rejected(reason="gone", detail="The receiver answered 410: it is gone.")
            if response.headers.get("webhook-delivery", "").strip().lower() == ABORT:
                return Rejected(reason="aborted", detail="The receiver wants no more of this one.")
        if status == 429:
            detail = "The receiver answered 429: too many at once."
            return Throttled(wait_s=SLOW_DOWN_S if wait_s is None else wait_s, detail=detail)
        if status in (502, 504) and wait_s is None:
            wait_s = SLOW_DOWN_S
        return Retryable(reason=f"http_{status}", detail=_told(response), wait_s=wait_s)

    def _of_long_reply(self, error: ReplyTooLargeError) -> Outcome:
        status = error.status or 0
        if 200 <= status < 300:
            return Delivered(result={"status": status, "body": ""})
        return Retryable(reason=f"http_{status}", detail=f"The receiver answered {status}: {error}")

    def _of_failure(self, failure: Outcome) -> Outcome:
        """Have everything tried again: copies do no harm, and addresses are mended."""
        match failure:
            case Uncertain():
                return Retryable(reason=failure.reason, detail=failure.detail)
            case Rejected():
                return Retryable(reason=failure.reason, detail=failure.detail, sent=False)
            case _:
                return failure


def standard_key(secret: str) -> bytes:
    """Return the key in a secret of the scheme ``standard``.

    Raises:
        ValueError: It is none; what it holds is not repeated.
    """
    prefix = next((one for one in (_SYMMETRIC, _ASYMMETRIC) if secret.startswith(one)), None)
    if prefix is None:
        raise ValueError("a standard secret begins with whsec_ (or whsk_ for Ed25519)")
    try:
        key = base64.b64decode(secret.removeprefix(prefix), validate=True)
    except binascii.Error:
        raise ValueError(f"what follows {prefix} in a secret is base64") from None
    lengths: Sequence[int] = range(24, 65) if prefix == _SYMMETRIC else (32, 64)
    if len(key) not in lengths:
        wanted = "24 to 64 bytes" if prefix == _SYMMETRIC else "a seed of 32 bytes"
        raise ValueError(f"what follows {prefix} in a secret is {wanted} in base64")
    return key


def standard_signature(secret: str, signed: bytes) -> str:
    """Return one entry of ``webhook-signature``: HMAC-SHA256, or Ed25519 for ``whsk_``."""
    key = standard_key(secret)
    if secret.startswith(_ASYMMETRIC):
        made = Ed25519PrivateKey.from_private_bytes(key[:_SEED_BYTES]).sign(signed)
        return f"v1a,{base64.b64encode(made).decode()}"
    return f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"


def _base_of(url: str) -> str:
    """Return scheme, host and port; what is no URL is left to be refused by the rules for it."""
    if unix_path(url) is not None:
        return "http://localhost"
    scheme, mark, rest = url.partition("://")
    host = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    return f"{scheme.lower()}{mark}{host}"


def _target_of(url: str) -> str:
    """Return path and query, as the client takes them."""
    if unix_path(url) is not None:
        return "/"
    raw: bytes = httpx2.URL(url).raw_path
    return raw.decode("ascii")


def _door(url: str, timeout_s: float) -> PreparedClient | None:
    path = unix_path(url)
    if path is None:
        return None
    transport = UnixTransport(path, max_body_bytes=REPLY_LIMIT_BYTES)
    return prepare_client(base_url="http://localhost", timeout_s=timeout_s, transport=transport)


def _told(response: httpx2.Response) -> str:
    status = response.status_code
    if 300 <= status < 400:
        return f"The receiver answered {status}; redirects are not followed."
    said = classify.excerpt(response.content)
    return f"The receiver answered {status}" + (f": {said}" if said else ".")
