"""The payment and billing contracts refuse what no provider should ever be asked."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from integrationd.sdk import CATALOGUE, Money
from integrationd.sdk.contract import Contract
from integrationd.sdk.contracts import contract_of

PAYMENTS = ("payment.initiate", "payment.verify", "payment.refund", "payment.payout")
BILLING = ("billing.customer", "billing.portal", "billing.cancel")
MINIMAL: Mapping[str, Mapping[str, Any]] = {
    "payment.initiate": {"amount": "100", "currency": "KES"},
    "payment.verify": {"reference": "INV-1"},
    "payment.refund": {"payment": "R1"},
    "payment.payout": {"amount": "100", "currency": "KES", "phone": "+254711000111"},
    "billing.customer": {},
    "billing.portal": {"customer_id": "cus_1"},
    "billing.cancel": {"subscription_id": "sub_1"},
}


def contract(operation: str) -> Contract:
    return contract_of(operation, None)


def read(operation: str, **changes: Any) -> Any:
    payload = {**MINIMAL[operation], **changes}
    given = {name: value for name, value in payload.items() if value is not None}
    return msgspec.json.decode(msgspec.json.encode(given), type=contract(operation).request)


@pytest.mark.parametrize("operation", MINIMAL)
def test_minimal_request_is_taken(operation: str) -> None:
    assert operation in CATALOGUE
    assert read(operation)


@pytest.mark.parametrize("operation", MINIMAL)
def test_unknown_field_is_refused(operation: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        read(operation, surprise=1)


@pytest.mark.parametrize("amount", ["1", "0.01", "2500.00", "999999999999", "0.0001", "100.5"])
def test_decimal_amount_in_major_units_is_taken(amount: str) -> None:
    request = read("payment.initiate", amount=amount)

    assert contract("payment.initiate").money(request) == Money.of(amount, "KES")


@pytest.mark.parametrize(
    "amount",
    [
        *("0", "0.00", "-1", "+1", "", " 1", "1 ", "1\n", "1.", ".5", "01", "1,000", "1e3"),
        *("0x1", "nan", "inf", "1.00000", "1000000000000", "\u0661", 100, 100.0, True, ["1"]),
    ],
)
@pytest.mark.parametrize("operation", ["payment.initiate", "payment.refund", "payment.payout"])
def test_amount_of_another_shape_is_refused(operation: str, amount: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.amount"):
        read(operation, amount=amount, currency="KES")


@pytest.mark.parametrize("currency", ["kes", "KE", "KESH", "", "K1S", "KES\n", 404])
def test_currency_of_another_shape_is_refused(currency: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.currency"):
        read("payment.initiate", currency=currency)


@pytest.mark.parametrize("reference", ["", "-a", "a b", "a/b", "a\n", "é", "a" * 65, "a\x00"])
def test_reference_of_another_shape_is_refused(reference: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.reference"):
        read("payment.initiate", reference=reference)


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "//x.test", "x.test", "https://x y", "https://x\n", "file:///x"]
)
@pytest.mark.parametrize("field", ["return_url", "cancel_url"])
def test_url_of_another_kind_is_refused(field: str, url: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        read("payment.initiate", **{field: url})


@pytest.mark.parametrize(
    "metadata",
    [
        *({"a b": "x"}, {"": "x"}, {"a" * 41: "x"}, {"a": "x" * 501}, {"a": 1}),
        {str(number): "x" for number in range(31)},
    ],
)
def test_metadata_that_no_provider_takes_is_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="metadata"):
        read("payment.initiate", metadata=metadata)


@pytest.mark.parametrize("text", ["", "a" * 251, "a\nb", "a\x00"])
def test_description_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.description"):
        read("payment.initiate", description=text)


@pytest.mark.parametrize(
    "names", [{"reference": None}, {"reference": "INV-1", "provider_reference": "p-1"}]
)
def test_verify_names_the_payment_in_exactly_one_way(names: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="and not both"):
        read("payment.verify", **names)


def test_refund_of_an_amount_needs_its_currency() -> None:
    with pytest.raises(msgspec.ValidationError, match="currency"):
        read("payment.refund", amount="1")

    whole, part = read("payment.refund"), read("payment.refund", amount="1", currency="KES")
    money = contract("payment.refund").money
    assert (money(whole), money(part)) == (None, Money.of("1", "KES"))


@pytest.mark.parametrize(
    "where",
    [
        {"phone": None},
        {"account": {"number": "0123456789", "bank_code": "044", "name": "A. Person"}},
    ],
)
def test_payout_goes_to_exactly_one_place(where: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="and not both"):
        read("payment.payout", **where)


@pytest.mark.parametrize("number", ["", "123", "12 34", "1234;5", "a" * 35])
def test_account_number_of_another_shape_is_refused(number: str) -> None:
    account = {"number": number, "bank_code": "044", "name": "A. Person"}

    with pytest.raises(msgspec.ValidationError, match="number"):
        read("payment.payout", phone=None, account=account)


def test_late_payment_prompt_would_be_a_wrong_one() -> None:
    assert contract("payment.initiate").expires_in_s == 15 * 60
    assert contract("payment.payout").expires_in_s is None


@pytest.mark.parametrize("operation", [*PAYMENTS, *BILLING])
def test_uncertain_payment_is_held_for_a_person(operation: str) -> None:
    assert contract(operation).on_uncertain == "hold"


def test_asking_has_no_effect_and_names_no_sum() -> None:
    verify = contract("payment.verify")

    assert not verify.effect
    assert verify.money(read("payment.verify")) is None
    assert all(contract(name).effect for name in PAYMENTS if name != "payment.verify")


@pytest.mark.parametrize("operation", ["payment.initiate", "payment.payout"])
def test_what_is_asked_for_is_known_as_money(operation: str) -> None:
    assert contract(operation).money(read(operation)) == Money.of("100.00", "KES")


def test_result_leaves_out_what_is_not_known() -> None:
    result = contract("payment.initiate").result

    assert msgspec.json.encode(result(status="pending")) == b'{"status":"pending"}'
    with pytest.raises(msgspec.ValidationError, match="status"):
        msgspec.convert({"status": "maybe"}, result)


@pytest.mark.parametrize("when", ["later", "", None])
def test_subscription_ends_now_or_with_its_period(when: str | None) -> None:
    if when is None:
        assert read("billing.cancel").when == "period_end"
        return
    with pytest.raises(msgspec.ValidationError, match="when"):
        read("billing.cancel", when=when)
