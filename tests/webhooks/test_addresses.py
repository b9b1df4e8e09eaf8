"""Addresses that are handed out say what they are for, and nobody else can make one."""

import re
import stat
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.journal.keys import load_or_make_key
from integrationd.webhooks.addresses import Addresses, Purpose

KEY = b"k" * 32
CALL = "019bc19c-0c00-7000-8000-00000000c0de"
FORBIDDEN = ("mpesa", "m-pesa", "safaricom", "exe", "exec", "cmd", "sql", "query")


@given(st.uuids().map(str))
def test_address_of_a_call_names_the_call(call_id: str) -> None:
    addresses = Addresses(KEY)

    assert addresses.read(addresses.of_call(call_id)) == Purpose(call_id=call_id)


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True))
def test_address_of_a_connection_names_the_connection(name: str) -> None:
    addresses = Addresses(KEY)

    assert addresses.read(addresses.of_connection(name)) == Purpose(connection=name)


def test_addresses_hold_no_word_that_a_provider_forbids() -> None:
    addresses = Addresses(KEY)

    for name in (*FORBIDDEN, "mpesa-sql-query"):
        token = addresses.of_connection(name)
        assert re.fullmatch(r"[0-9a-f]+", token)
        assert not [word for word in FORBIDDEN if word in token]


def test_address_is_the_same_after_a_restart_and_another_for_another_instance() -> None:
    assert Addresses(KEY).of_call(CALL) == Addresses(KEY).of_call(CALL)
    assert Addresses(KEY).of_call(CALL) != Addresses(b"j" * 32).of_call(CALL)
    assert Addresses(KEY).read(Addresses(b"j" * 32).of_call(CALL)) is None


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_forged_address_is_not_read(place: int, bit: int) -> None:
    addresses = Addresses(KEY)
    raw = bytearray.fromhex(addresses.of_call(CALL))
    raw[place % len(raw)] ^= 1 << bit

    assert addresses.read(raw.hex()) is None


def test_address_of_one_kind_is_none_of_the_other() -> None:
    """The kind is under the HMAC, so that a connection named like a call's bytes is no call."""
    addresses = Addresses(KEY)
    token = bytes.fromhex(addresses.of_call(CALL))

    assert addresses.read((b"n" + token[1:]).hex()) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "00",
        "zz",
        "00" * 16,
        "00" * 17,
        "é",
        "\x00",
        "..",
        CALL,
        uuid.UUID(CALL).hex,
        "ab" * 10_000,
        "63" + "00" * 32,
    ],
)
def test_junk_is_no_address(text: str) -> None:
    assert Addresses(KEY).read(text) is None


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert Addresses(KEY).read(text) is None


def test_instance_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "instance.key"

    key = load_or_make_key(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_make_key(path) == key
    assert len(key) >= 32
