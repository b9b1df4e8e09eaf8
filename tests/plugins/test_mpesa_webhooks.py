"""M-Pesa: every kind of callback keeps the contract of webhooks."""

import json
from typing import Any, ClassVar

from tests.plugins.mpesa_callbacks import (
    Prompt,
    Transaction,
    customer_body,
    prompt_body,
    result_body,
    status_details,
)
from tests.plugins.mpesa_provider import CONFIG, HOOK, MODULE, MSISDN, Mpesa

from integrationd.sdk.testing import WebhookContract

SEAL = MODULE.notices.seal(CONFIG["consumer_secret"])
MOVED = Transaction(
    originator_id="o-1", conversation_id="AG_1", phone=MSISDN, amount=1200, receipt="SAB12CD345"
)
ASKED = Transaction(originator_id="s-1", conversation_id="AG_s", phone="", amount=0)


def prompted(code: str) -> bytes:
    return prompt_body(
        Prompt(
            checkout_id="ws_CO_demo1",
            phone=MSISDN,
            amount=2500,
            account="ADM1042",
            callback=HOOK,
            code=code,
            receipt="SAB12CD345",
        )
    )


class MpesaWebhooks(WebhookContract):
    plugin = Mpesa
    config: ClassVar[dict[str, Any]] = CONFIG


class TestPaidPrompt(MpesaWebhooks):
    body = prompted("0")


class TestFailedPrompt(MpesaWebhooks):
    body = prompted("1032")


class TestResult(MpesaWebhooks):
    body = result_body(MOVED, "0", {"TransactionReceipt": "SAB12CD345"})
    path = "/result"


class TestTimeout(MpesaWebhooks):
    body = json.dumps({"Result": {"ResultCode": 1}}).encode()
    path = "/timeout"


class TestStatusOfPayout(MpesaWebhooks):
    body = result_body(ASKED, "0", status_details(MOVED))
    path = f"/payout/{SEAL}"


class TestStatusOfReversal(MpesaWebhooks):
    body = result_body(ASKED, "0", status_details(MOVED))
    path = f"/reversal/{SEAL}"


class TestStatusOfOriginal(MpesaWebhooks):
    body = result_body(ASKED, "0", status_details(MOVED) | {"TransactionStatus": "Reversed"})
    path = f"/original/{SEAL}"


class TestStatusToVerify(MpesaWebhooks):
    body = result_body(ASKED, "0", status_details(MOVED))
    path = f"/verified/{SEAL}"


class TestValidation(MpesaWebhooks):
    body = customer_body("SAB12CD345", 150)
    path = "/validation"


class TestConfirmation(MpesaWebhooks):
    body = customer_body("SAB12CD345", 150)
    path = "/confirmation"
