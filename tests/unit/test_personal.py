"""Personal data: real-looking numbers and addresses go, ids, amounts and times stay."""

import json
import string
import time
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.personal import PersonalData, masked_text

ON = PersonalData(is_masked=True)

NUMBERS = [
    ("+254712344567", "+2547****4567"),
    ("+254 712 344 567", "+2547****4567"),
    ("+254-712-344-567", "+2547****4567"),
    ("+254 (0)712 344567", "+2540****4567"),
    ("+254110344567", "+2541****4567"),
    ("254712344567", "2547****4567"),
    ("254 712 344 567", "2547****4567"),
    ("00254712344567", "0025****4567"),
    ("0712344567", "07****4567"),
    ("0712 344 567", "07****4567"),
    ("0712-344-567", "07****4567"),
    ("0712 344567", "07****4567"),
    ("(0712) 344 567", "07****4567"),
    ("0110344567", "01****4567"),
    ("+2348031234567", "+2348****4567"),
    ("+234 803 123 4567", "+2348****4567"),
    ("2348031234567", "2348****4567"),
    ("234-803-123-4567", "2348****4567"),
    ("08031234567", "08****4567"),
    ("0803 123 4567", "08****4567"),
    ("0803-123-4567", "08****4567"),
    ("07031234567", "07****4567"),
    ("09121234567", "09****4567"),
    ("+263771234567", "+2637****4567"),
    ("+263 77 123 4567", "+2637****4567"),
    ("263771234567", "2637****4567"),
    ("263 77 123 4567", "2637****4567"),
    ("0771234567", "07****4567"),
    ("077 123 4567", "07****4567"),
    ("0771-234-567", "07****4567"),
    ("+255754123456", "+2557****3456"),
    ("+4915112345678", "+4915****5678"),
    ("+1 202 555 0143", "+12****0143"),
]

NOT_PERSONAL = [
    "2024-01-31T10:00:00+03:00",
    "2024-01-31 10:00:00 +0300",
    "31-01-2024 10:30",
    "01-12-2024 10:30:00",
    "01/12/2024 0712",
    "20241231235959",
    "1732201490",
    "1732201490123",
    "1732201490123456",
    "KES 1,254,712,345.00",
    "1 254 712 344 567",
    "0.0712344567",
    "3.254712344567",
    "0712344567.25",
    "12345678901234567890",
    "550e8400-e29b-41d4-a716-254712344567",
    "01234567-0712-4344-8567-071234456789",
    "INV-0712344567",
    "a0712344567",
    "0712344567ab",
    "AG_20191219_00005797af5d7d75f652",
    "29115-34620561-1",
    "ws_CO_191220191020363925",
    "192.168.100.254",
    "174379",
    "@handle and a @ sign",
    "user@localhost",
    "sha256:07123445670712344567071234456707123445670712344567071234456707123",
]


@pytest.mark.parametrize(("number", "shown"), NUMBERS)
@pytest.mark.parametrize("around", ["{}", "Call {}.", "tel:{},", '"{}"', "to={}&x=1", "a {}: b 2"])
def test_phone_number_is_masked(number: str, shown: str, around: str) -> None:
    assert masked_text(around.format(number)) == around.format(shown)


@pytest.mark.parametrize(
    ("number", "shown"), [one for one in NUMBERS if one[0].lstrip("+").isdigit()]
)
def test_phone_number_is_masked_where_it_is_encoded(number: str, shown: str) -> None:
    hidden = number[-9:-4]
    for text in (f"to={quote(number)}", f"m=call+{quote(number)}+now", f"%0A{quote(number)}%20x"):
        assert hidden not in masked_text(text)
    assert ON.body(json.dumps({"text": f"Call\n{number}"})) == json.dumps(
        {"text": f"Call\n{shown}"}, separators=(",", ":")
    )


def test_every_number_of_a_list_is_masked() -> None:
    text = "0712344567,0722344567;+254712344567,+254722344567 254712344567/08031234567"

    shown = masked_text(text)

    assert shown == ("07****4567,07****4567;+2547****4567,+2547****4567 2547****4567/08****4567")


@pytest.mark.parametrize("text", NOT_PERSONAL)
def test_what_is_no_number_is_left_alone(text: str) -> None:
    assert masked_text(text) == text
    assert ON.body(json.dumps({"a": text})) == json.dumps({"a": text})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("wanjiru@example.org", "w***@example.org"),
        ("a@example.co.ke", "***@example.co.ke"),
        ("Wanjiru <wanjiru.k+shop@mail.example.co.ke>", "Wanjiru <w***@mail.example.co.ke>"),
        ("email=wanjiru%40example.org&x=1", "email=w***%40example.org&x=1"),
        ("write to ana@example.org.", "write to a***@example.org."),
        ("njeri@münchen.example", "n***@münchen.example"),
        ("https://***@host.example/", "https://***@host.example/"),
    ],
)
def test_mail_address_is_masked(text: str, shown: str) -> None:
    assert masked_text(text) == shown


@given(
    st.one_of(
        st.uuids().map(str),
        st.datetimes().map(lambda at: at.isoformat()),
        st.datetimes().map(lambda at: at.strftime("%Y%m%d%H%M%S")),
        st.integers(0, 4_000_000_000)
        .map(str)
        .filter(lambda text: len(text) != 10 or text[0] > "0"),
        st.integers(1_500_000_000_000, 2_300_000_000_000).map(str),
        st.decimals(0, 10**9, places=2).map(str),
        st.integers(0, 10**9).map(lambda number: f"{number:,}.00"),
        st.binary(min_size=16, max_size=16).map(bytes.hex),
        st.text(string.ascii_uppercase + string.digits, min_size=26, max_size=26),
    ),
    st.sampled_from(["", "id ", "KES ", "at=", '"']),
)
def test_ids_amounts_and_times_are_never_masked(value: str, before: str) -> None:
    assert masked_text(before + value) == before + value


@given(st.integers(-(10**9), 1_900_000_000_000), st.sampled_from(["amount", "at", "count", "id"]))
def test_numbers_of_json_that_are_none_of_a_person_stay(value: int, name: str) -> None:
    if 250_000_000_000 <= value < 270_000_000_000:
        return
    assert ON.value({name: value}) == {name: value}


@given(st.text(max_size=200))
def test_masking_twice_is_masking_once(text: str) -> None:
    once = masked_text(text + " 0712344567 ana@example.org")

    assert masked_text(once) == once


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"PhoneNumber": 254708374149}, {"PhoneNumber": "2547****4149"}),
        ({"Value": 254708374149}, {"Value": "2547****4149"}),
        ({"msisdn": "0203344567"}, {"msisdn": "02****4567"}),
        ({"mobile": 27821234567}, {"mobile": "27****4567"}),
        ({"recipients": ["12025550143"]}, {"recipients": ["12****0143"]}),
        ({"PartyB": 174379}, {"PartyB": 174379}),
        ({"from": "2024-01-01", "to": "20240131"}, {"from": "2024-01-01", "to": "20240131"}),
        ({"message_id": "x1@mail.example"}, {"message_id": "x1@mail.example"}),
        ({"wa_id": "15550143000"}, {"wa_id": "15****3000"}),
        ({"emailId": "ana@example.org"}, {"emailId": "a***@example.org"}),
        ({"+254712344567": [1, None, True, 1.5]}, {"+2547****4567": [1, None, True, 1.5]}),
    ],
)
def test_members_are_masked_by_name_as_well(value: Any, shown: Any) -> None:
    assert ON.value(value) == shown


def test_nothing_is_masked_while_it_is_off() -> None:
    off, text = PersonalData(), '{"to":"+254712344567"}'

    assert (off.text(text), off.body(text), off.value([text])) == (text, text, [text])


def test_body_that_is_clean_comes_back_as_it_is() -> None:
    body = '{ "amount": 100,  "id": "x" }'

    assert ON.body(body) is body


def test_body_that_is_no_json_is_masked_as_text() -> None:
    assert ON.body("[0712344567") == "[07****4567"
    assert "0712344567" not in ON.body("[" * 20_000 + '"0712344567"')
    deep = ON.value(json.loads("[" * 100 + '"0712344567"' + "]" * 100))
    assert "0712344567" not in json.dumps(deep)


@pytest.mark.parametrize(
    "text", ["0" * 200_000, "07 " * 60_000, "a." * 80_000 + "@", "+1-" * 60_000]
)
def test_long_texts_take_linear_time(text: str) -> None:
    began = time.perf_counter()

    masked_text(text)

    assert time.perf_counter() - began < 2.0


def test_form_bodies_are_masked_in_place() -> None:
    form = f"to={quote_plus('+254712344567')}&from={quote_plus('ana@example.org')}&n=5"

    assert ON.body(form) == "to=%2B2547****4567&from=a***%40example.org&n=5"
