"""The config of a Paystack connection."""

import re
from collections.abc import Mapping

import pydantic

from integrationd.sdk import HttpProviderConfig, SecretStr

API = "https://api.paystack.co"

DAY_S = 86_400


class PaystackConfig(HttpProviderConfig):
    """The account, and how its payments are made.

    Attributes:
        secret_key: ``sk_live_...`` or ``sk_test_...``, which says whether money is real;
            webhooks are signed with it.
        previous_secret_key: The key before it, while webhooks signed with it may still come.
        base_url: Paystack's one host.
        callback_url: Where customers come back to, unless the payment has a ``return_url``.
        subaccount: Whose payments they are (``ACCT_...``), if not the account's own.
        split_code: How payments are shared out (``SPL_...``).
        bearer: Who bears the charges of a shared payment, as Paystack names them.
        open_for_s: Seconds after which a page that nobody has paid on counts as abandoned.
        check_account_names: Whether a bank account in Nigeria or Ghana is paid out to only if
            its holder's name has a word in common with the payout's.
    """

    secret_key: SecretStr
    previous_secret_key: SecretStr | None = None
    base_url: str = API
    callback_url: str | None = pydantic.Field(None, pattern=r"^https?://\S+$")
    subaccount: str | None = pydantic.Field(None, pattern=r"^ACCT_\w+$")
    split_code: str | None = pydantic.Field(None, pattern=r"^SPL_\w+$")
    bearer: str | None = pydantic.Field(None, pattern=r"^[a-z_-]+$")
    open_for_s: int = pydantic.Field(DAY_S, ge=60, le=2 * DAY_S)
    check_account_names: bool = True

    @pydantic.field_validator("secret_key", "previous_secret_key")
    @classmethod
    def _is_a_secret_key(cls, key: SecretStr | None) -> SecretStr | None:
        text = "" if key is None else key.get_secret_value()
        if text.startswith("pk_"):
            raise ValueError("is the public key; the secret one begins with sk_test_ or sk_live_")
        if key is not None and not re.fullmatch(r"sk_(test|live)_\w+", text, re.ASCII):
            raise ValueError("must begin with sk_test_ or sk_live_ and be one word")
        return key

    @property
    def keys(self) -> list[str]:
        """Those that webhooks may be signed with."""
        keys = (self.secret_key, self.previous_secret_key)
        return [key.get_secret_value() for key in keys if key is not None]

    @property
    def page_settings(self) -> Mapping[str, str | None]:
        """What every payment page is made with."""
        return self.model_dump(include={"callback_url", "subaccount", "split_code", "bearer"})
