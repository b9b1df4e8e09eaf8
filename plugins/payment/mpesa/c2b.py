"""Money that customers send unasked: registering for it, trying it out, having it validated."""

import asyncio
from typing import Annotated, Literal

import httpx2
import msgspec

from integrationd.sdk import (
    Contract,
    Payment,
    Request,
    Result,
    WebhookReply,
)
from integrationd.sdk.contracts.sms import PhoneNumber
from integrationd.sdk.http import PreparedClient, prepare_client
from integrationd.sdk.money import PositiveAmount

from .config import MpesaConfig
from .notices import CONFIRMATION, VALIDATION
from .requests import (
    Fields,
    amount_refused,
    msisdn,
    phone_refused,
    transaction_type,
    whole,
)
from .wire import CURRENCY

ACCEPTED = WebhookReply.of_json({"ResultCode": "0", "ResultDesc": "Accepted"})
# Why a payment is turned down, in the app's word and in M-Pesa's code.
REJECTIONS = {
    "phone": "C2B00011",
    "account": "C2B00012",
    "amount": "C2B00013",
    "kyc": "C2B00014",
    "shortcode": "C2B00015",
    "other": "C2B00016",
}


class RegisterUrls(Request, frozen=True, kw_only=True):
    """Have M-Pesa report what customers pay to the shortcode.

    Attributes:
        response_type: What becomes of a payment that nobody validates in time.
    """

    response_type: Literal["Completed", "Cancelled"] = "Completed"


class RegisterUrlsResult(Result, frozen=True, kw_only=True):
    """The addresses that were registered."""

    confirmation_url: str
    validation_url: str


class C2bSimulate(Request, frozen=True, kw_only=True):
    """Pay the shortcode as a customer would; in the sandbox only.

    Attributes:
        amount: How much, in whole shillings.
        phone: Who pays.
        account: What the customer names as the account.
    """

    amount: PositiveAmount
    phone: PhoneNumber
    account: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]{1,20}(?!\n)$")]


class C2bSimulateResult(Result, frozen=True, kw_only=True):
    """What M-Pesa calls the request."""

    conversation_id: str


REGISTER_URLS = Contract(
    operation="mpesa.register_urls",
    request=RegisterUrls,
    result=RegisterUrlsResult,
    summary="Have M-Pesa report what customers pay to the shortcode.",
)
C2B_SIMULATE = Contract(
    operation="mpesa.c2b_simulate",
    request=C2bSimulate,
    result=C2bSimulateResult,
    summary="Pay the shortcode as a customer would, in the sandbox.",
)


class _Verdict(msgspec.Struct):
    """What the app says to a payment that is about to be made."""

    accept: bool
    reason: str = "other"


class Validator:
    """Asks the app whether a customer may pay, and answers for it where it does not.

    Args:
        config: The connection's.
    """

    def __init__(self, config: MpesaConfig) -> None:
        self._config = config
        self._client: PreparedClient | None = None

    @property
    def default(self) -> WebhookReply:
        """What is answered where the app does not."""
        return ACCEPTED if self._config.validation_default == "accept" else rejection("other")

    async def decide(self, payment: Payment) -> WebhookReply:
        """Return what M-Pesa is to be answered."""
        url = self._config.validation_url
        if url is None:
            return self.default
        try:
            async with asyncio.timeout(self._config.validation_timeout_s):
                verdict = await self._ask(url, payment)
        except (httpx2.HTTPError, TimeoutError, msgspec.MsgspecError):
            return self.default
        return ACCEPTED if verdict.accept else rejection(verdict.reason)

    async def aclose(self) -> None:
        """Close the connections to the app."""
        if self._client is not None:
            await self._client.aclose()

    async def _ask(self, url: str, payment: Payment) -> _Verdict:
        if self._client is None:
            # The operator names the app's own address, which is seldom a public one.
            wait_s = self._config.validation_timeout_s
            self._client = prepare_client(base_url=url, timeout_s=wait_s, allow_private=True)
        response = await self._client.post("", json=payment.as_data())
        return msgspec.json.decode(response.raise_for_status().content, type=_Verdict)


def rejection(reason: str) -> WebhookReply:
    """Return the reply that turns a payment down; an unknown reason is ``other``."""
    code = REJECTIONS.get(reason, REJECTIONS["other"])
    return WebhookReply.of_json({"ResultCode": code, "ResultDesc": "Rejected"})


def registration(config: MpesaConfig, request: RegisterUrls) -> Fields:
    """Return the fields that register the connection's addresses."""
    return {
        "ShortCode": config.shortcode,
        "ResponseType": request.response_type,
        "ConfirmationURL": f"{config.callback_url}{CONFIRMATION}",
        "ValidationURL": f"{config.callback_url}{VALIDATION}",
    }


def simulation(config: MpesaConfig, request: C2bSimulate) -> Fields:
    """Return the fields that pay as a customer would."""
    return {
        "ShortCode": config.till or config.shortcode,
        "CommandID": transaction_type(config),
        "Amount": whole(request.amount),
        "Msisdn": msisdn(request.phone),
        "BillRefNumber": request.account,
    }


def refusal_of_registration(_request: RegisterUrls, config: MpesaConfig) -> str | None:
    """Say why addresses cannot be registered, or None."""
    if config.callback_url is None:
        return "set callback_url to the connection's own address, as /v1/webhook-endpoints tells it"
    if config.is_production and not config.callback_url.startswith("https://"):
        return "callback_url must begin with https:// in production"
    return None


def refusal_of_simulation(request: C2bSimulate, config: MpesaConfig) -> str | None:
    """Say why a customer's payment cannot be simulated, or None."""
    if config.is_production:
        return "payments can be simulated in the sandbox only"
    return phone_refused(request.phone, "phone") or amount_refused(request.amount, CURRENCY, 1)
