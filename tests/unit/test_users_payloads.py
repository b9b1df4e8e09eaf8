"""Payloads in the users' own names: what the documents call a member reaches the contract."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.api.users.forms import payload_of
from integrationd.api.users.payloads import NAMES, point_back, translated
from integrationd.errors import RequestError, UnprocessableError
from integrationd.sdk.contracts import CATALOGUE

PHONE = "+254711000111"
FEES = {"amount": "2500.00", "currency": "NGN"}

# Document, operation, what its code sends, what the contract takes.
CASES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("004", "sms.send", {"to": PHONE, "message": "m"}, {"to": PHONE, "message": "m"}),
    (
        "004",
        "sms.send_bulk",
        {"recipients": [PHONE], "message": "m"},
        {"recipients": [PHONE], "message": "m"},
    ),
    (
        "002, Twilio",
        "sms.send",
        {"body": "m", "from": "SHOP", "to": PHONE},
        {"message": "m", "sender": "SHOP", "to": PHONE},
    ),
    (
        "000",
        "sms.send",
        {"phoneNumber": PHONE, "message": "m", "smsSenderId": "FARM"},
        {"to": PHONE, "message": "m", "sender": "FARM"},
    ),
    (
        "002, Brevo",
        "email.send",
        {
            "sender": {"name": "getiickets", "email": "noreply@x.test"},
            "to": [{"email": "ann@x.test", "name": 'Ann "A" Ode'}, {"email": "ben@x.test"}],
            "subject": "Your Tickets",
            "htmlContent": "<p>Hi</p>",
            "attachments": [{"name": "ticket.pdf", "url": "https://s3.x.test/t.pdf"}],
        },
        {
            "from": '"getiickets" <noreply@x.test>',
            "to": ['"Ann \\"A\\" Ode" <ann@x.test>', "ben@x.test"],
            "subject": "Your Tickets",
            "html": "<p>Hi</p>",
            "attachments": [{"filename": "ticket.pdf", "url": "https://s3.x.test/t.pdf"}],
        },
    ),
    (
        "001, Resend",
        "email.send",
        {"from": "a@x.test", "to": "b@x.test", "subject": "s", "html": "h"},
        {"from": "a@x.test", "to": "b@x.test", "subject": "s", "html": "h"},
    ),
    (
        "002, Paystack",
        "payment.initiate",
        {**FEES, "email": "a@x.test", "reference": "TKT-1", "callback_url": "https://x.test"},
        {
            **FEES,
            "customer": {"email": "a@x.test"},
            "reference": "TKT-1",
            "return_url": "https://x.test",
        },
    ),
    (
        "003",
        "payment.initiate",
        {**FEES, "phone_number": PHONE, "customer": {"name": "Ann"}},
        {**FEES, "customer": {"phone": PHONE, "name": "Ann"}},
    ),
    (
        "004",
        "payment.verify",
        {"transactionId": "QK1"},
        {"provider_reference": "QK1"},
    ),
    ("004", "payment.refund", {"transactionId": "QK1"}, {"payment": "QK1"}),
]


@pytest.mark.parametrize(("document", "operation", "theirs", "ours"), CASES)
def test_payload_of_a_document_is_what_the_contract_takes(
    document: str, operation: str, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    made = translated(operation, json.dumps(theirs).encode())

    assert json.loads(made) == ours
    assert fits(ours, CATALOGUE[operation].request)


@pytest.mark.parametrize(("document", "operation", "theirs", "ours"), CASES)
def test_payload_of_a_document_fits_the_schema_that_is_told(
    document: str, operation: str, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    told = payload_of(CATALOGUE[operation])
    kinds = told if isinstance(told, tuple) else (told,)

    assert any(fits(theirs, kind) for kind in kinds)
    assert all(fits(ours, kind) for kind in kinds[:1])


def fits(payload: dict[str, Any], kind: Any) -> bool:
    try:
        msgspec.json.decode(json.dumps(payload).encode(), type=kind)
    except msgspec.ValidationError:
        return False
    return True


def test_every_name_leads_to_a_member_of_its_contract() -> None:
    for operation, names in NAMES.items():
        for renamed in names.values():
            kind: Any = CATALOGUE[operation].request
            for name in renamed.to:
                members = {one.encode_name: one.type for one in msgspec.structs.fields(kind)}
                assert name in members, (operation, renamed)
                kind = members[name]


@given(
    payload=st.dictionaries(
        st.sampled_from(["message", "sender", "odd", ""]),
        st.one_of(
            st.text(),
            st.integers(),
            st.none(),
            st.lists(st.floats(allow_nan=False, allow_infinity=False)),
        ),
    )
)
def test_payload_in_our_own_names_is_not_touched(payload: dict[str, Any]) -> None:
    body = json.dumps(payload, indent=2).encode()

    assert translated("sms.send", body) is body


def test_values_are_kept_byte_for_byte() -> None:
    body = b'{"body":"caf\\u00e9","odd":5.00,"big":123456789012345678901234567890}'

    made = translated("sms.send", body)

    assert made == b'{"message":"caf\\u00e9","odd":5.00,"big":123456789012345678901234567890}'


@pytest.mark.parametrize(
    ("operation", "body"),
    [("odd.do", b"[1]"), ("sms.send", b""), ("push.send", b"not json")],
)
def test_what_has_no_names_of_its_own_goes_on_as_it_is(operation: str, body: bytes) -> None:
    assert translated(operation, body) is body


@pytest.mark.parametrize(
    ("operation", "payload", "pointer"),
    [
        ("sms.send", {"to": PHONE, "phoneNumber": PHONE}, "/payload/phoneNumber"),
        ("sms.send", {"phoneNumber": PHONE, "to": PHONE}, "/payload/to"),
        ("sms.send", {"body": "a", "message": "b"}, "/payload/message"),
        ("email.send", {"html": "a", "htmlContent": "b"}, "/payload/htmlContent"),
        (
            "payment.initiate",
            {"email": "a@x.test", "customer": {"email": "b@x.test"}},
            "/payload/customer",
        ),
        (
            "payment.initiate",
            {"customer": {"email": "b@x.test"}, "email": "a@x.test"},
            "/payload/email",
        ),
    ],
)
def test_what_is_given_twice_is_refused(
    operation: str, payload: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(UnprocessableError) as refused:
        translated(operation, json.dumps(payload).encode())

    assert (refused.value.error_code, refused.value.pointer) == ("given_twice", pointer)


@pytest.mark.parametrize(
    ("operation", "body", "status"),
    [
        ("sms.send", b"[1]", 422),
        ("sms.send", b"{", 400),
        ("sms.send", b'"x"', 422),
        ("email.send", b'{"to":[{"mail":"a@x.test"}]}', 422),
        ("email.send", b'{"sender":{}}', 422),
        ("email.send", b'{"sender":7}', 422),
        ("email.send", b'{"attachments":[{"name":"a","size":1}]}', 422),
        ("email.send", b'{"attachments":{}}', 422),
        ("payment.initiate", b'{"customer":7,"email":"a@x.test"}', 422),
    ],
)
def test_payload_of_the_wrong_form_is_refused(operation: str, body: bytes, status: int) -> None:
    with pytest.raises(RequestError) as refused:
        translated(operation, body)

    assert refused.value.status == status
    assert refused.value.pointer.startswith("/payload")


@given(body=st.binary(max_size=60), operation=st.sampled_from(sorted(NAMES)))
def test_no_body_does_more_than_be_refused(body: bytes, operation: str) -> None:
    with contextlib.suppress(RequestError):
        assert json.loads(translated(operation, body) or b"{}") is not None


@pytest.mark.parametrize(
    ("operation", "body", "pointer", "expected"),
    [
        ("sms.send", b'{"phoneNumber":1}', "/payload/to", "/payload/phoneNumber"),
        ("sms.send", b'{"to":1}', "/payload/to", "/payload/to"),
        ("email.send", b'{"to":[]}', "/payload/to/0", "/payload/to/0"),
        ("payment.initiate", b'{"email":1}', "/payload/customer/email", "/payload/email"),
        ("payment.initiate", b'{"email":1}', "/payload/amount", "/payload/amount"),
        ("push.send", b"{}", "/payload/token", "/payload/token"),
        ("sms.send", b"{", "/payload", "/payload"),
    ],
)
def test_error_points_at_the_name_that_was_given(
    operation: str, body: bytes, pointer: str, expected: str
) -> None:
    error = UnprocessableError("x", pointer=pointer)

    point_back(operation, body, error)

    assert error.pointer == expected
