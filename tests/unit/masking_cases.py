"""What the tests of masking share."""

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

from hypothesis import strategies as st

from integrationd.masking import MASK

SECRET = "sk_live_51Hx+/8q"

SECRET_NAMES = [
    "Authorization",
    "Proxy-Authorization",
    "authorisation",
    "authorization_code",
    "Cookie",
    "Set-Cookie",
    "X-Api-Key",
    "apiKey",
    "api_key",
    "api key",
    "APIKEY",
    "api_keys",
    "DD-API-KEY",
    "DD-APPLICATION-KEY",
    "Ocp-Apim-Subscription-Key",
    "access_key",
    "secretAccessKey",
    "secret_key",
    "private_key",
    "consumer_key",
    "consumer-secret",
    "client_secret",
    "signing_key",
    "license_key",
    "token",
    "Token",
    "accessToken",
    "refresh_token",
    "id_token",
    "X-Goog-Channel-Token",
    "X-Amz-Security-Token",
    "deviceToken",
    "device_tokens",
    "tokens",
    "registration_ids",
    "secret",
    "secrets",
    "webhook_secret",
    "secret_hash",
    "verif-hash",
    "password",
    "pass_word",
    "password2",
    "user[password]",
    "passwd",
    "pass",
    "smtp_pass",
    "passphrase",
    "passcode",
    "Passkey",
    "InitiatorPassword",
    "pwd",
    "pin",
    "PIN",
    "card_pin",
    "userPin",
    "newPIN",
    "otp",
    "cvv",
    "cvv2",
    "cvc",
    "credential",
    "SecurityCredential",
    "credentials",
    "X-Amz-Credential",
    "Signature",
    "X-Signature",
    "x-paystack-signature",
    "X-Hub-Signature-256",
    "sig",
    "auth",
    "X-Sentry-Auth",
    "jwt",
    "assertion",
    "client_assertion",
    "code_verifier",
]

OPEN_NAMES = [
    "",
    "key",
    "reference",
    "idempotency_key",
    "Idempotency-Key",
    "collapse_key",
    "public_key",
    "private_key_id",
    "token_count",
    "token_type",
    "max_tokens",
    "total_tokens",
    "password_changed_at",
    "secret_name",
    "authorization_url",
    "author",
    "code",
    "statusCode",
    "pincode",
    "shipping",
    "spin",
    "compass",
    "oauth",
    "design",
    "signed_at",
    "cookie_policy",
    "expires_in",
    "amount",
    "phone",
    "to",
]


def encodings(secret: str) -> Iterator[str]:
    """Write a secret in the ways in which encoders do."""
    yield secret
    for encoded in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield encoded
        yield re.sub("%..", lambda found: found[0].lower(), encoded)
    for ensure_ascii in (True, False):
        escaped = json.dumps(secret, ensure_ascii=ensure_ascii)[1:-1]
        yield escaped
        yield escaped.replace("/", r"\/")
        yield re.sub("[<>&'+]", lambda found: f"\\u{ord(found[0]):04X}", escaped)


def decoded_runs(text: str) -> Iterator[bytes]:
    """Decode everything in a text that may be base64, at every offset."""
    for run in re.findall(r"[A-Za-z0-9+/_-]+", text):
        standard = run.replace("-", "+").replace("_", "/")
        for offset in range(4):
            piece = standard[offset:]
            usable = piece[: len(piece) - (len(piece) % 4 == 1)]
            yield base64.b64decode(usable + "=" * (-len(usable) % 4))


texts = st.text(st.characters(codec="utf-8"), max_size=40)
secrets = st.text(
    st.sampled_from("abcXYZ0189-._~+/=&%?\\\"'<>{}[]:;, *\n\té€😀") | st.characters(codec="utf-8"),
    min_size=6,
    max_size=40,
)
pieces = st.sampled_from(
    [
        *SECRET_NAMES,
        *OPEN_NAMES[1:],
        *("=", ":", ": ", " = ", "=>", '"', "'", "\\", '\\"', "&", ";", ",", " ", "\n", "?", "#"),
        *("{", "}", "[", "]", "(", ")", "://", "@", "/", "%", "%20", "+", MASK, "*", "\0", "é"),
        *("bearer ", "Basic ", "null", "12", "x", SECRET, quote_plus(SECRET), "https://u:p@h/"),
    ]
)
jumbles = st.lists(pieces, max_size=16).map("".join)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | jumbles | texts,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(jumbles | pieces, inner, max_size=4)
    ),
    max_leaves=12,
)
