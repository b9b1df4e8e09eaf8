"""A provider that tells its secrets in every way that a careless plugin can.

Source: none; it speaks to a server of the tests.
"""

import base64
import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from pydantic import SecretStr

from integrationd.sdk import (
    Accepted,
    Context,
    Contract,
    Delivered,
    HttpProviderConfig,
    Notice,
    Outcome,
    Provider,
    Refusal,
    Rejected,
    Request,
    Result,
    Retryable,
    Token,
    Verified,
    WebhookRequest,
    operation,
)

# What never left the machine is tried again without end, so it must not be so for ever.
BUSY_FOR = 3


class Squawk(Request, frozen=True):
    """What to say, and how."""

    which: str
    how: str


class Heard(Result, frozen=True):
    """What was said."""

    said: dict[str, str] = msgspec.field(default_factory=dict)


class Parrot(Provider):
    """Tells its secrets."""

    code = "parrot"

    class Config(HttpProviderConfig):
        """The secrets by their names."""

        secrets: dict[str, SecretStr]

    config: Config

    @operation(
        "parrot.squawk",
        repeat_safe=False,
        contract=Contract(operation="parrot.squawk", request=Squawk, result=Heard),
    )
    async def send(self, request: Squawk, ctx: Context) -> Outcome:
        """Tell one secret."""
        secret = self.config.secrets[request.which].get_secret_value()
        match request.how:
            case "result":
                return Delivered(result={"said": {**_said(secret), secret: "name"}})
            case "refusal":
                return Rejected(reason=secret, detail=f"{_said(secret)} {'x' * 100} {secret}")
            case "cut":
                # The secret stands where a long detail or reason is cut off.
                return Rejected(reason="x" * 80 + secret, detail="x" * 9_960 + secret)
            case "reference":
                return Accepted(reference=secret)
            case "token":
                return await _shown_token(ctx)
            case how:
                return _blurted(how, secret, ctx)

    async def fetch_token(self, ctx: Context) -> Token:
        """Get a token from the tests' server."""
        secret = next(iter(self.config.secrets.values())).get_secret_value()
        assert ctx.client is not None
        reply = await ctx.client.post("/token", content=secret.encode())
        given = reply.json()
        return Token(
            access_token=given["access_token"],
            refresh_token=given["refresh_token"],
            expires_in_s=3600,
        )

    async def test_connection(self, ctx: Context) -> str:
        """Fail, and say with what."""
        told = {name: _said(one.get_secret_value()) for name, one in self.config.secrets.items()}
        raise ValueError(f"not with these: {told}")

    def verify_webhook(self, request: WebhookRequest) -> Verified | Refusal:
        """Take what carries a secret in its header; tell the secret where another is given."""
        given = request.header("x-hook-secret")
        known = [one.get_secret_value() for one in self.config.secrets.values()]
        if given in known:
            return Verified("secret")
        return Refusal("bad_secret", f"what was given is none of {known}")

    def read_webhook(self, request: WebhookRequest) -> Sequence[Notice]:
        """Fail to read it, and say over what."""
        raise ValueError(f"cannot read {request.body!r}")


async def _shown_token(ctx: Context) -> Outcome:
    assert ctx.client is not None
    headers = {"Authorization": f"Bearer {await ctx.token()}"}
    reply = await ctx.client.get("/echo/400", headers=headers)
    return Rejected(reason="no", detail=reply.text)


def _said(secret: str) -> dict[str, str]:
    raw = secret.encode()
    return {
        "raw": secret,
        "base64": base64.b64encode(b"user:" + raw).decode(),
        "hex": raw.hex(),
        "HEX": raw.hex().upper(),
        "percent": "".join(f"%{byte:02x}" for byte in raw),
        "quoted": quote(secret),
        "html": "".join(f"&#{ord(char)};" for char in secret),
        "escaped": "".join(f"\\u{ord(char):04x}" for char in secret),
        "utf-16": raw.decode().encode("utf-16-le").decode("latin-1"),
    }


def _blurted(how: str, secret: str, ctx: Context) -> Outcome:
    if how == "retry" and ctx.attempt <= BUSY_FOR:
        return Retryable(reason="busy", detail=f"busy: {_said(secret)}", sent=False)
    _blurt(how, secret, ctx)
    return Delivered()


def _blurt(how: str, secret: str, ctx: Context) -> None:
    """Tell a secret outside of any outcome."""
    held: Any = {"locals": secret}
    match how:
        case "raise":
            raise RuntimeError(f"{secret} {_said(secret)} {held}")
        case "chain":
            try:
                held.pop(secret)
            except KeyError as error:
                raise ValueError("again", secret) from error
        case "print":
            print(secret, _said(secret))
            print(held, file=sys.stderr)
            sys.stdout.flush()
        case "log":
            ctx.log.warning("said", value=secret, more=_said(secret))
            logging.getLogger("parrot").error("said %s", _said(secret))
            try:
                msgspec.json.decode(secret, type=int)
            except msgspec.DecodeError:
                logging.getLogger("parrot").exception("not read: %s", secret)
        case "warn":
            warnings.warn(f"beware of {secret}", stacklevel=1)
        case _:
            raise ValueError(f"cannot {how}")
