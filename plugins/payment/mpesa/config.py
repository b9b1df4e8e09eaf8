"""The settings of an M-Pesa connection, and the credential that is made from them."""

import base64
import re
from collections.abc import Mapping
from typing import Any, Literal, Self

import pydantic
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from integrationd.sdk import HttpProviderConfig, SecretStr

PRODUCTION = "https://api.safaricom.co.ke"
SANDBOX = "https://sandbox.safaricom.co.ke"
SANDBOX_SHORTCODE = "174379"

# Words that M-Pesa refuses in an address, and public tunnels, which it refuses as well.
_FORBIDDEN = re.compile(
    r"mpesa|safaricom|exec?|cmd|sql|query|ngrok|mockbin|requestbin", re.IGNORECASE
)


def forbidden_word(url: str) -> str | None:
    """Return what M-Pesa refuses in a callback address, or None."""
    found = _FORBIDDEN.search(url)
    return found[0].lower() if found else None


class MpesaConfig(HttpProviderConfig):
    """An app at Daraja, the shortcode that it serves, and who may send money from it.

    Attributes:
        base_url: Production; the sandbox's where ``shortcode`` is the one that it publishes.
        consumer_key: The app's key.
        consumer_secret: The app's secret.
        shortcode: The paybill; for a till the number of its store or head office.
        passkey: Of the shortcode; prompts need it.
        till: The till that customers pay to, where it is not a paybill.
        initiator_name: Who pays out, reverses and asks for the status of a transaction.
        initiator_password: The initiator's password, which goes with ``certificate``.
        certificate: The environment's current X.509 certificate as PEM, from the portal.
        security_credential: A ready-made credential, instead of password and certificate.
        payout_shortcode: The bulk shortcode that payouts come from; else ``shortcode``.
        callback_url: The connection's own lasting address, for ``mpesa.register_urls``.
        validation_url: The app's own address that is asked before a customer may pay.
        validation_timeout_s: How long the app may take; M-Pesa itself waits 8 seconds.
        validation_default: What becomes of a payment to which the app does not answer.
    """

    base_url: str = PRODUCTION
    consumer_key: SecretStr
    consumer_secret: SecretStr
    shortcode: str = pydantic.Field(pattern=r"^[0-9]{5,6}$")
    passkey: SecretStr | None = None
    till: str | None = pydantic.Field(None, pattern=r"^[0-9]{5,8}$")
    initiator_name: str | None = pydantic.Field(None, min_length=1)
    initiator_password: SecretStr | None = None
    certificate: str | None = None
    security_credential: SecretStr | None = None
    payout_shortcode: str | None = pydantic.Field(None, pattern=r"^[0-9]{5,6}$")
    callback_url: str | None = pydantic.Field(None, pattern=r"^https?://[^\s?#]+[^\s?#/]$")
    validation_url: str | None = pydantic.Field(None, pattern=r"^https?://[^\s?#@]+$")
    validation_timeout_s: float = pydantic.Field(6.0, gt=0, le=7)
    validation_default: Literal["accept", "reject"] = "accept"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _go_to_the_sandbox(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("shortcode") == SANDBOX_SHORTCODE:
            return {"base_url": SANDBOX, **given}
        return given

    @pydantic.field_validator("consumer_key", "consumer_secret", "passkey")
    @classmethod
    def _is_printable(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and not re.fullmatch(r"[!-~]+", secret.get_secret_value()):
            raise ValueError("is empty, or contains a character that none has")
        return secret

    @pydantic.field_validator("certificate")
    @classmethod
    def _holds_an_rsa_key(cls, pem: str | None) -> str | None:
        if pem is not None:
            _public_key(pem)
        return pem

    @pydantic.field_validator("callback_url")
    @classmethod
    def _has_no_forbidden_word(cls, url: str | None) -> str | None:
        word = forbidden_word(url or "")
        if word:
            raise ValueError(f"holds {word!r}, which M-Pesa refuses in an address: use another")
        return url

    @pydantic.model_validator(mode="after")
    def _credential_is_whole(self) -> Self:
        if (self.initiator_password is None) != (self.certificate is None):
            raise ValueError("initiator_password and certificate go together: give both or none")
        if self.initiator_password is not None and self.security_credential is not None:
            raise ValueError("give security_credential, or initiator_password with certificate")
        return self

    @property
    def is_production(self) -> bool:
        """Whether real money is moved."""
        return self.base_url == PRODUCTION

    @property
    def may_move_money(self) -> bool:
        """Whether there is an initiator with a credential."""
        credential = self.security_credential or self.initiator_password
        return self.initiator_name is not None and credential is not None

    def credential(self) -> str:
        """Return the ``SecurityCredential``; one that is made is another each time.

        Raises:
            ValueError: There is nothing to make it from.
        """
        if self.security_credential is not None:
            return self.security_credential.get_secret_value()
        if self.initiator_password is None or self.certificate is None:
            raise ValueError("there is neither a security_credential nor an initiator_password")
        password = self.initiator_password.get_secret_value().encode()
        encrypted = _public_key(self.certificate).encrypt(password, padding.PKCS1v15())
        return base64.b64encode(encrypted).decode()


def _public_key(pem: str) -> rsa.RSAPublicKey:
    try:
        key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    except ValueError:
        raise ValueError("is no X.509 certificate in PEM form") from None
    if isinstance(key, rsa.RSAPublicKey):
        return key
    raise ValueError("must hold an RSA key")
