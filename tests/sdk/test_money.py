"""Money is exact, in major units, and two sums are the same or they are not."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.sdk import Money, decimals_of

AMOUNTS = st.decimals(0, 10**12, places=4, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("2500", "2500.00"),
        ("2500.0", "2500.00"),
        (" 2500.50 ", "2500.50"),
        (2500, "2500.00"),
        (2500.5, "2500.50"),
        (0.1, "0.10"),
        (Decimal("2500.5000"), "2500.5000"),
        ("1E+3", "1000.00"),
        ("-3", "-3.00"),
    ],
)
def test_amount_is_read_as_providers_write_it(written: Any, text: str) -> None:
    assert Money.of(written, "kes").text == text


@pytest.mark.parametrize(
    ("currency", "text"), [("KES", "5.00"), ("UGX", "5"), ("JPY", "5"), ("KWD", "5.000")]
)
def test_amount_is_written_with_the_decimals_of_its_currency(currency: str, text: str) -> None:
    assert Money.of("5", currency).text == text


@pytest.mark.parametrize(
    "written", ["", "x", "1,000.00", "nan", "inf", "-Infinity", "sNaN", "1.2.3", None, "0x10", True]
)
def test_what_is_no_amount_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="no amount of money"):
        Money.of(written, "KES")


@pytest.mark.parametrize("currency", ["", "KE", "KESH", "ké$", "12 ", "\uff2b\uff25\uff33"])
def test_what_is_no_currency_is_refused(currency: str) -> None:
    with pytest.raises(ValueError, match="no currency code"):
        Money.of("1", currency)


def test_currency_may_come_in_any_case() -> None:
    assert Money.of("1", "kes") == Money.of("1", "KES")


def test_sums_compare_by_value_and_currency() -> None:
    assert Money.of("100", "KES") == Money.of("100.0000", "KES")
    assert Money.of("100", "KES") != Money.of("100.01", "KES")
    assert Money.of("100", "KES") != Money.of("100", "UGX")
    assert len({Money.of("100", "KES"), Money.of("100.00", "KES")}) == 1


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (250_000, "KES", "2500.00"),
        ("250000", "kes", "2500.00"),
        (1, "KES", "0.01"),
        (500, "UGX", "500"),
        (1500, "KWD", "1.500"),
        (0, "KES", "0.00"),
    ],
)
def test_minor_units_are_of_the_currency(minor: int | str, currency: str, text: str) -> None:
    money = Money.of_minor(minor, currency)

    assert money.text == text
    assert money.minor() == int(minor)


def test_provider_may_have_its_own_idea_of_decimals() -> None:
    assert Money.of_minor(500_00, "UGX", decimals=2) == Money.of("500", "UGX")
    assert Money.of("500", "UGX").minor(decimals=2) == 500_00


@pytest.mark.parametrize("minor", ["", "1.5", "x", "1e3"])
def test_minor_units_are_whole(minor: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        Money.of_minor(minor, "KES")


@pytest.mark.parametrize(("amount", "currency"), [("0.001", "KES"), ("1.5", "UGX")])
def test_part_of_a_minor_unit_is_refused_and_never_rounded(amount: str, currency: str) -> None:
    with pytest.raises(ValueError, match="decimals"):
        Money.of(amount, currency).minor()


@given(minor=st.integers(-(10**15), 10**15), currency=st.sampled_from(["KES", "UGX", "KWD"]))
def test_minor_units_survive_the_way_there_and_back(minor: int, currency: str) -> None:
    assert Money.of_minor(minor, currency).minor() == minor


@given(AMOUNTS)
def test_text_is_the_amount_exactly(amount: Decimal) -> None:
    money = Money.of(amount, "KES")

    assert Decimal(money.text) == amount
    assert Money.of(money.text, "KES") == money


def test_decimals_are_known_in_any_case() -> None:
    assert [decimals_of(code) for code in ("kes", "UGX", "xof", "TND", "USD")] == [2, 0, 0, 3, 2]


def test_money_reads_as_a_person_writes_it() -> None:
    assert str(Money.of("2500", "KES")) == "KES 2500.00"
