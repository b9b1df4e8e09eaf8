"""The settings of an Africa's Talking connection."""

import re
from collections.abc import Mapping
from typing import Any

import pydantic

from integrationd.sdk import HttpProviderConfig, SecretStr

PRODUCTION = "https://api.africastalking.com"
SANDBOX = "https://api.sandbox.africastalking.com"
SANDBOX_USERNAME = "sandbox"


class AfricasTalkingConfig(HttpProviderConfig):
    """The account, and how its messages are sent.

    Attributes:
        username: The app's name; exactly ``sandbox`` for the sandbox.
        api_key: The app's key; a new one may be refused for some minutes.
        base_url: The production host, or the sandbox's if the username is ``sandbox``.
        sender_id: The registered name or short code that messages come from unless they name
            one; the tenant's ``sms_sender`` when None, and without it the shared default of the
            provider.
        enqueue: Whether the provider takes messages over now and gives them to the networks
            later; its own default when None.
        batch_size: How many recipients one request has at most.
    """

    username: str = pydantic.Field(pattern=r"^\S+$")
    api_key: SecretStr
    base_url: str = PRODUCTION
    sender_id: str | None = pydantic.Field(None, pattern=r"^[A-Za-z0-9 ._&+-]{1,15}$")
    enqueue: bool | None = None
    batch_size: int = pydantic.Field(200, ge=1, le=1000)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _go_to_the_sandbox(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("username") == SANDBOX_USERNAME:
            return {"base_url": SANDBOX, **given}
        return given

    @pydantic.field_validator("username")
    @classmethod
    def _names_the_sandbox_exactly(cls, username: str) -> str:
        if username != SANDBOX_USERNAME and username.lower() == SANDBOX_USERNAME:
            raise ValueError(f"must be exactly {SANDBOX_USERNAME!r} to reach the sandbox")
        return username

    @pydantic.field_validator("api_key")
    @classmethod
    def _fits_into_a_header(cls, key: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[!-~]+", key.get_secret_value()):
            raise ValueError("is empty, or contains a character that no key has")
        return key
