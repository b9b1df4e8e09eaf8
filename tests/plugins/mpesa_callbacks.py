"""What Daraja keeps of money that moves, and the callbacks that it makes of it."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

Fields: TypeAlias = dict[str, Any]

SHORTCODE = "174379"
# What a customer does, as the result code of it; ``None`` never answers.
PAYS, NO_FUNDS, CANCELS, UNREACHABLE = "0", "1", "1032", "1037"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A webhook on its way: where to, and its body as JSON."""

    url: str
    body: bytes
    headers: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {"content-type": "application/json"}
    )


@dataclasses.dataclass(slots=True, kw_only=True)
class Prompt:
    """A prompt; ``code`` is None until the customer has answered."""

    checkout_id: str
    phone: str
    amount: int
    account: str
    callback: str
    code: str | None = None
    receipt: str = ""


@dataclasses.dataclass(slots=True, kw_only=True)
class Transaction:
    """Money that was moved, or was to be, by a request of ours or by a customer."""

    originator_id: str
    conversation_id: str
    phone: str
    amount: int
    status: str = "Completed"
    receipt: str = ""


def prompt_body(prompt: Prompt) -> bytes:
    """Return the callback of a prompt."""
    told: Fields = {
        "MerchantRequestID": f"mr-{prompt.checkout_id}",
        "CheckoutRequestID": prompt.checkout_id,
        "ResultCode": _number(prompt.code or ""),
        "ResultDesc": "said",
    }
    if prompt.code == PAYS:
        told["CallbackMetadata"] = {
            "Item": [
                {"Name": "Amount", "Value": float(prompt.amount)},
                {"Name": "MpesaReceiptNumber", "Value": prompt.receipt},
                {"Name": "Balance"},
                {"Name": "TransactionDate", "Value": 20260101120103},
                {"Name": "PhoneNumber", "Value": int(prompt.phone)},
            ]
        }
    return json.dumps({"Body": {"stkCallback": told}}).encode()


def result_body(about: Transaction, code: str, details: Fields) -> bytes:
    """Return the callback of a payout, a reversal or a status query."""
    told: Fields = {
        "ResultType": 0,
        "ResultCode": _number(code),
        "ResultDesc": "said",
        **ids_of(about),
        "TransactionID": about.receipt,
        "ReferenceData": {"ReferenceItem": {"Key": "Occasion", "Value": ""}},
    }
    listed = [{"Key": name, "Value": value} for name, value in details.items()]
    if listed:
        # The real one repeats this key in its samples.
        listed.append({"Key": "DebitPartyName"})
        told["ResultParameters"] = {"ResultParameter": listed if len(listed) > 1 else listed[0]}
    return json.dumps({"Result": told}).encode()


def status_details(about: Transaction) -> Fields:
    """Return what the answer to a status query tells."""
    return {
        "DebitPartyName": "600310 - Shule",
        "OriginatorConversationID": about.originator_id,
        "ConversationID": about.conversation_id,
        "DebitPartyCharges": "Fee For B2C Payment|KES|22.40",
        "TransactionStatus": about.status,
        "FinalisedTime": 20260101120103,
        "Amount": float(about.amount),
        "ReceiptNo": about.receipt,
    }


def customer_body(receipt: str, amount: int, account: str = "ADM1042", **members: Any) -> bytes:
    """Return the body of a validation or of a confirmation."""
    told = {
        "TransactionType": "Pay Bill",
        "TransID": receipt,
        "TransTime": "20260101120103",
        "TransAmount": f"{amount}.00",
        "BusinessShortCode": SHORTCODE,
        "BillRefNumber": account,
        "InvoiceNumber": "",
        "OrgAccountBalance": "49197.00",
        "ThirdPartyTransID": "",
        "MSISDN": "2547 ***** 678",
        "FirstName": "WANJIKU",
        "MiddleName": "",
        "LastName": "KAMAU",
    }
    return json.dumps(told | members).encode()


def ids_of(about: Transaction) -> Fields:
    """Return by what a transaction is known."""
    return {
        "OriginatorConversationID": about.originator_id,
        "ConversationID": about.conversation_id,
    }


def _number(code: str) -> int | str:
    return int(code) if code.isdecimal() else code
