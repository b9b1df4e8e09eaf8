"""Client assertions: how a client proves itself by a private key instead of a secret (RFC 7523)."""

import base64
import secrets
from typing import TypeAlias

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

LIFE_S = 60
KIND = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

SigningKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_P256_BYTES = 32
_encode = msgspec.json.Encoder().encode


def read_signing_key(pem: str) -> SigningKey:
    """Return the private key of a PEM text: RSA, P-256 or Ed25519.

    Raises:
        ValueError: It is none of these.
    """
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        raise ValueError("the private key is not PEM without a passphrase") from None
    if isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":
        return key
    raise ValueError("the private key is neither RSA nor P-256 nor Ed25519")


def client_assertion(
    key: SigningKey, *, client_id: str, audience: str, key_id: str, now_s: int
) -> str:
    """Return a signed assertion that is good for a minute, once.

    Args:
        key: Signs it.
        client_id: Who it speaks for.
        audience: The address of the token endpoint.
        key_id: By which the server finds the public key; empty where it knows only one.
        now_s: The server's time, seconds since 1970.
    """
    header = {"alg": _algorithm(key), "typ": "JWT", **({"kid": key_id} if key_id else {})}
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": secrets.token_urlsafe(24),
        "iat": now_s,
        "exp": now_s + LIFE_S,
    }
    signed = f"{_base64(_encode(header))}.{_base64(_encode(claims))}"
    return f"{signed}.{_base64(_signature(key, signed.encode()))}"


def _algorithm(key: SigningKey) -> str:
    match key:
        case rsa.RSAPrivateKey():
            return "RS256"
        case ec.EllipticCurvePrivateKey():
            return "ES256"
        case _:
            return "EdDSA"


def _signature(key: SigningKey, content: bytes) -> bytes:
    match key:
        case rsa.RSAPrivateKey():
            return key.sign(content, padding.PKCS1v15(), hashes.SHA256())
        case ec.EllipticCurvePrivateKey():
            r, s = decode_dss_signature(key.sign(content, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(_P256_BYTES, "big") + s.to_bytes(_P256_BYTES, "big")
        case _:
            return key.sign(content)


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
