"""M-Pesa: times, amounts and lists as it writes them, and as nobody should."""

import re
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plugins.mpesa_provider import MODULE

WIRE = MODULE.wire
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Item", "Name", "Value", "x"]), inner, max_size=3)
    ),
)


@pytest.mark.parametrize(
    ("written", "at"),
    [
        (20260101120103, "2026-01-01T09:01:03Z"),
        ("20260101015959", "2025-12-31T22:59:59Z"),
        ("1.1.2026 12:01:03", "2026-01-01T09:01:03Z"),
        ("31.12.2025 23:59:59", "2025-12-31T20:59:59Z"),
        ("00010101000000", None),
        ("20261301000000", None),
        ("", None),
        (None, None),
    ],
)
def test_moment_is_read_as_in_nairobi(written: Any, at: str | None) -> None:
    assert WIRE.moment(written) == at


@given(JSON | st.from_regex(r"[0-9]{14}", fullmatch=True))
def test_moment_is_rfc_3339_or_none(written: Any) -> None:
    made = WIRE.moment(written)

    assert made is None or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made)


@given(st.decimals(min_value=0, max_value=10**9, places=2, allow_nan=False))
def test_amount_is_exact(amount: Decimal) -> None:
    money = WIRE.kes(str(amount))

    assert (money.amount, money.currency) == (amount, "KES")


@given(JSON)
def test_amount_of_anything_is_short_or_none(value: Any) -> None:
    money = WIRE.kes(value)

    assert money is None or len(money.text) < 20


@given(JSON)
def test_list_of_anything_is_read(value: Any) -> None:
    found = WIRE.pairs(value, "Item", "Name")

    assert all(isinstance(name, str) for name in found)


def test_list_may_be_one_entry_and_the_first_of_a_name_counts() -> None:
    one = {"Item": {"Name": "a", "Value": 1}}
    many = {"Item": [{"Name": "a"}, {"Name": "a", "Value": 1}, {"Name": "a", "Value": 2}]}

    assert WIRE.pairs(one, "Item", "Name") == WIRE.pairs(many, "Item", "Name") == {"a": 1}


@given(st.binary(max_size=60))
def test_reply_of_anything_is_read(body: bytes) -> None:
    reply = WIRE.Reply.of(httpx2.Response(500, content=body))

    assert isinstance(reply.code + reply.message + reply.text, str)
