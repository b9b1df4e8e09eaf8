"""What M-Pesa's callbacks mean, by the address that they come to.

Nothing in them is signed. A result that comes by itself only makes the daemon ask; an answer to
our own question counts, if it comes to the sealed address that was handed out with the question.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from integrationd.sdk import (
    Done,
    Finding,
    Notice,
    Payment,
    Pending,
    Refused,
    UnreadableError,
    WebhookRequest,
)

from .codes import FAILED_STATUSES, PROMPT_FAILURES, RESULT_FAILURES, SUCCESS
from .wire import (
    Answer,
    AnswerCallback,
    CustomerPayment,
    PromptCallback,
    kes,
    moment,
    pairs,
    read,
)

# What follows the address that was handed out.
PROMPT, RESULT, TIMEOUT = "", "/result", "/timeout"
VALIDATION, CONFIRMATION = "/validation", "/confirmation"
# Where answers about a payout, a reversal, the payment that is reversed, or one to verify come.
PAYOUT, REVERSAL, ORIGINAL, VERIFIED = "payout", "reversal", "original", "verified"
# A request that M-Pesa could not serve in time may yet be: nothing is gained by asking at once.
_AFTER_TIMEOUT_S = 60.0
_SEAL_CHARACTERS = 32
_FEE = re.compile(r"\|KES\|([0-9]+(?:\.[0-9]+)?)$")

Details: TypeAlias = dict[str, Any]
Judge: TypeAlias = Callable[[Answer, Details], Finding | None]


def seal(secret: str) -> str:
    """Return what the addresses for answers end with, which nobody else can make."""
    digest = hmac.new(secret.encode(), b"answers to questions of ours", hashlib.sha256)
    return digest.hexdigest()[:_SEAL_CHARACTERS]


def notices_of(request: WebhookRequest, secret: str) -> Sequence[Notice]:
    """Return what a callback tells.

    Args:
        request: The callback.
        secret: What :func:`seal` was given.

    Raises:
        UnreadableError: It cannot be understood, or came to an address that is none.
    """
    reader = _READERS.get(request.path)
    return [reader(request.body) if reader is not None else _of_answer(request, secret)]


def payment_of(told: CustomerPayment) -> Payment:
    """Return what a customer pays unasked in the SDK's words.

    Raises:
        UnreadableError: The amount is none.
    """
    money = kes(told.amount)
    if money is None:
        raise UnreadableError("TransAmount is no amount of money")
    return Payment(
        receipt=told.receipt,
        money=money,
        account=told.account or "",
        payer=str(told.payer),
        paid_at=moment(told.paid_at) or str(told.paid_at),
        more={"name": told.name, "shortcode": str(told.shortcode), "kind": told.kind},
    )


def _of_prompt(body: bytes) -> Notice:
    told = read(body, PromptCallback).body.prompted
    code = str(told.code)
    is_paid = code == SUCCESS
    word = "paid" if is_paid else PROMPT_FAILURES.get(code, (_unknown(code),))[0]
    details = pairs(told.metadata, "Item", "Name") if is_paid else {}
    money = kes(details.get("Amount"))
    known = {
        "receipt": _text(details.get("MpesaReceiptNumber")),
        "amount": money.text if money else None,
        "currency": money.currency if money else None,
        "paid_at": moment(details.get("TransactionDate")),
        "payer": _text(details.get("PhoneNumber")),
    }
    return Notice(
        # With its code, so that a forged one does not pass for the first copy of the real one.
        event_id=f"{told.checkout_id}:{code}",
        type=f"prompt.{word}",
        provider_reference=told.checkout_id,
        finding=Pending(ask_after_s=0, result=_known(known), paid=money),
    )


def _of_result(body: bytes) -> Notice:
    answer = read(body, AnswerCallback).answer
    code = str(answer.code)
    word = "done" if code == SUCCESS else RESULT_FAILURES.get(code, _unknown(code))
    return Notice(
        event_id=f"{answer.originator_id}:{answer.conversation_id}:{code}",
        type=f"result.{word}",
        provider_reference=answer.originator_id or None,
        finding=Pending(ask_after_s=0),
    )


def _of_timeout(body: bytes) -> Notice:
    # What it holds is not documented, and does not matter.
    return Notice(
        event_id=f"timeout:{hashlib.sha256(body).hexdigest()}",
        type="queue_timeout",
        finding=Pending(ask_after_s=_AFTER_TIMEOUT_S),
    )


def _of_validation(body: bytes) -> Notice:
    asked = payment_of(read(body, CustomerPayment))
    return Notice(event_id=f"validation:{asked.receipt}", type="validation")


def _of_confirmation(body: bytes) -> Notice:
    paid = payment_of(read(body, CustomerPayment))
    return Notice(
        event_id=f"confirmation:{paid.receipt}",
        type="confirmation",
        event="payment.received",
        data=paid.as_data(),
    )


def _of_answer(request: WebhookRequest, secret: str) -> Notice:
    kind, _, given = request.path.removeprefix("/").partition("/")
    judge = _JUDGES.get(kind)
    if judge is None or not hmac.compare_digest(
        given.encode(errors="replace"), seal(secret).encode()
    ):
        raise UnreadableError("no such address was handed out")
    answer = read(request.body, AnswerCallback).answer
    details = pairs(answer.parameters, "ResultParameter", "Key")
    return Notice(
        event_id=f"{kind}:{answer.originator_id}:{answer.conversation_id}",
        type=f"status.{kind}",
        finding=judge(answer, details),
    )


def _of_payout(answer: Answer, details: Details) -> Finding | None:
    return _moved(answer, details, "paid")


def _of_reversal(answer: Answer, details: Details) -> Finding | None:
    return _moved(answer, details, "refunded")


def _moved(answer: Answer, details: Details, status: str) -> Finding | None:
    """Judge by the status of the very transaction; one not found may not be there *yet*."""
    said = _status(answer, details)
    if said == "completed":
        return Done(
            result={"status": status, **_result(answer, details)}, paid=kes(details.get("Amount"))
        )
    if said in FAILED_STATUSES:
        return Refused(reason=said, detail=f"M-Pesa says that it is {said}.")
    return None


def _of_original(answer: Answer, details: Details) -> Finding | None:
    """Judge a reversal by the payment; that it is completed says nothing about its reversal."""
    if "revers" not in _status(answer, details):
        return None
    money = kes(details.get("Amount"))
    return Done(result={"status": "refunded"}, paid=money)


def _of_verified(answer: Answer, details: Details) -> Finding:
    said = _status(answer, details)
    if not said:
        detail = f"M-Pesa answered {answer.code}: {answer.said}"
        return Refused(reason=RESULT_FAILURES.get(str(answer.code), "no_status"), detail=detail)
    status = "paid" if said == "completed" else "pending"
    if said in FAILED_STATUSES:
        status = "failed"
    elif "revers" in said:
        status = "refunded"
    return Done(result={"status": status, **_result(answer, details)})


_READERS: dict[str, Callable[[bytes], Notice]] = {
    PROMPT: _of_prompt,
    RESULT: _of_result,
    TIMEOUT: _of_timeout,
    VALIDATION: _of_validation,
    CONFIRMATION: _of_confirmation,
}
_JUDGES: dict[str, Judge] = {
    PAYOUT: _of_payout,
    REVERSAL: _of_reversal,
    ORIGINAL: _of_original,
    VERIFIED: _of_verified,
}


def _status(answer: Answer, details: Details) -> str:
    """Return the status in lower case; empty where the question itself has failed."""
    if str(answer.code) != SUCCESS:
        return ""
    return str(details.get("TransactionStatus", "")).strip().lower()


def _result(answer: Answer, details: Details) -> dict[str, str]:
    money = kes(details.get("Amount"))
    fee = _FEE.search(str(details.get("DebitPartyCharges", "")))
    return _known(
        {
            "receipt": _text(details.get("ReceiptNo")) or answer.transaction_id,
            "amount": money.text if money else None,
            "currency": money.currency if money else None,
            "fees": fee[1] if fee else None,
            "paid_at": moment(details.get("FinalisedTime")),
            "payer": _text(details.get("DebitPartyName")),
        }
    )


def _known(members: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in members.items() if value}


def _unknown(code: str) -> str:
    return f"code_{code[:20]}"


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) else None
