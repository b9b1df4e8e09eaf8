"""What the message contracts take, what they refuse, and in which words."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.sdk.contract import Contract, Request, Result
from integrationd.sdk.contracts import CATALOGUE, catalogue_of, contract_of
from integrationd.sdk.contracts.email import EmailSend, split_mailbox

ANN = "+254711000111"
BEN = "+254711000222"
MAIL = {"to": "ann@x.test", "subject": "Fees", "text": "Due on Friday."}

TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("sms.send", {"to": ANN, "message": "Hello"}),
    ("sms.send", {"to": ANN, "message": "Habari\nya asubuhi", "sender": "SHULE LABS"}),
    ("sms.send", {"to": ANN, "message": "x" * 1600, "sender": "20880"}),
    ("sms.send", {"to": ANN, "message": "Hi", "sender": "+15005550006"}),
    ("sms.send_bulk", {"recipients": [ANN, BEN], "message": "Hello"}),
    ("sms.balance", {}),
    ("email.send", MAIL),
    ("email.send", MAIL | {"to": "Ann <ann@x.test>", "from": '"School, The" <no-reply@x.test>'}),
    ("email.send", MAIL | {"to": ["ann@x.test"], "cc": ["ben@x.test"], "bcc": ["c@x"]}),
    ("email.send", MAIL | {"reply_to": ["a@x.test", "b@x.test"], "html": "<p>Due</p>"}),
    ("email.send", MAIL | {"headers": {"X-Campaign": "fees"}}),
    ("email.send", MAIL | {"attachments": [{"filename": "a.pdf", "content": "aGk="}]}),
    (
        "email.send",
        MAIL | {"attachments": [{"filename": "a.pdf", "url": "https://s3.x.test/a.pdf"}]},
    ),
    ("email.send_batch", {"messages": [MAIL, MAIL]}),
    ("push.send", {"token": "abc:def", "title": "Hi"}),
    ("push.send", {"topic": "news", "data": {"k": "v"}, "ttl_s": 0, "priority": "high"}),
    ("push.send", {"condition": "'a' in topics", "body": "Hi", "image": "https://x.test/a.png"}),
    ("whatsapp.send", {"to": ANN, "text": {"body": "Hi"}, "reply_to": "wamid.1"}),
    (
        "whatsapp.send",
        {
            "to": ANN,
            "template": {
                "name": "otp",
                "language": "en_US",
                "components": [
                    {"type": "body", "parameters": [{"type": "text", "text": "1234"}]},
                    {"type": "button", "sub_type": "url", "index": 0},
                ],
            },
        },
    ),
    ("whatsapp.send", {"to": ANN, "media": {"type": "document", "id": "7", "filename": "a.pdf"}}),
]

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("sms.send", {"to": "0711000111", "message": "Hi"}, "$.to"),
    ("sms.send", {"to": ANN + "\n", "message": "Hi"}, "$.to"),
    ("sms.send", {"to": "+٢٥٤٧١١٠٠٠١١١", "message": "Hi"}, "$.to"),
    ("sms.send", {"to": "+0711000111", "message": "Hi"}, "$.to"),
    ("sms.send", {"to": ANN, "message": " \n"}, "$.message"),
    ("sms.send", {"to": ANN, "message": "x" * 1601}, "$.message"),
    ("sms.send", {"to": ANN, "message": "Hi", "sender": "A NAME TOO LONG"}, "$.sender"),
    ("sms.send", {"to": ANN, "message": "Hi", "sender": "AB\n"}, "$.sender"),
    ("sms.send", {"to": ANN, "message": "Hi", "unknown": 1}, "unknown"),
    ("sms.send", {"to": ANN}, "message"),
    ("sms.send_bulk", {"recipients": [], "message": "Hi"}, "$.recipients"),
    ("sms.send_bulk", {"recipients": [ANN] * 1001, "message": "Hi"}, "$.recipients"),
    ("sms.send_bulk", {"recipients": [ANN, BEN, ANN], "message": "Hi"}, f"{ANN} more than once"),
    ("email.send", MAIL | {"to": "ann"}, "is no e-mail address"),
    ("email.send", MAIL | {"to": []}, "$.to"),
    ("email.send", MAIL | {"to": "a@x.test, b@x.test"}, "is no e-mail address"),
    ("email.send", MAIL | {"to": "Bee, Ann <ann@x.test>"}, "quotes around a name"),
    ("email.send", MAIL | {"to": "Ann\r\nBcc: eve@x.test <ann@x.test>"}, "line breaks"),
    ("email.send", MAIL | {"to": "ann@x.test\n"}, "line breaks"),
    ("email.send", MAIL | {"from": "ann@x.test\r\nX: y"}, "from must not contain line breaks"),
    ("email.send", MAIL | {"reply_to": "ann"}, "reply_to"),
    ("email.send", MAIL | {"subject": "Fees\r\nBcc: eve@x.test"}, "subject must not"),
    ("email.send", MAIL | {"subject": "Fees\u2028x"}, "subject must not"),
    ("email.send", MAIL | {"headers": {"X-A": "b\r\nBcc: eve@x.test"}}, "headers.X-A must not"),
    ("email.send", MAIL | {"headers": {"X A": "b"}}, "$.headers"),
    ("email.send", MAIL | {"headers": {"X-A\n": "b"}}, "$.headers"),
    ("email.send", MAIL | {"headers": {"bCC": "eve@x.test"}}, "must not set bCC"),
    ("email.send", MAIL | {"headers": {"Content-Type": "x"}}, "must not set Content-Type"),
    ("email.send", {"to": "a@x.test", "subject": "Fees"}, "give text, html or both"),
    ("email.send", MAIL | {"cc": ["Ann <ann@X.test>"]}, "ann@X.test is named more than once"),
    ("email.send", MAIL | {"cc": [f"a{n}@x.test" for n in range(50)]}, "51 recipients"),
    ("email.send", MAIL | {"attachments": [{"filename": "a"}]}, "exactly one of content"),
    ("email.send", MAIL | {"attachments": [{"filename": "a", "content": "??"}]}, "base64"),
    (
        "email.send",
        MAIL | {"attachments": [{"filename": "../a", "content": "aGk="}]},
        "must not contain a directory",
    ),
    (
        "email.send",
        MAIL | {"attachments": [{"filename": 'a"\r\nX: y', "content": "aGk="}]},
        "filename must not contain line breaks",
    ),
    ("email.send_batch", {"messages": [MAIL, MAIL | {"to": "ann"}]}, "$.messages[1]"),
    ("email.send_batch", {"messages": []}, "$.messages"),
    ("push.send", {"title": "Hi"}, "exactly one of token, topic and condition"),
    ("push.send", {"token": "a", "topic": "b", "title": "Hi"}, "exactly one of token"),
    ("push.send", {"token": "a b", "title": "Hi"}, "$.token"),
    ("push.send", {"topic": "/topics/news", "title": "Hi"}, "$.topic"),
    ("push.send", {"token": "a"}, "give a title, a body or data"),
    ("push.send", {"token": "a", "data": {"k": 1}}, "$.data"),
    ("push.send", {"token": "a", "data": {"k": "v"}, "image": "https://x.test/a"}, "an image"),
    ("push.send", {"token": "a", "body": "é" * 2049}, "4098 bytes"),
    ("push.send", {"token": "a", "body": "Hi", "ttl_s": 2_419_201}, "$.ttl_s"),
    ("whatsapp.send", {"to": ANN}, "exactly one of text, template and media"),
    (
        "whatsapp.send",
        {"to": ANN, "text": {"body": "Hi"}, "media": {"type": "image", "id": "1"}},
        "exactly one of text, template and media",
    ),
    ("whatsapp.send", {"to": ANN, "media": {"type": "image"}}, "exactly one of link and id"),
    (
        "whatsapp.send",
        {"to": ANN, "media": {"type": "audio", "id": "1", "caption": "x"}},
        "audio takes no caption",
    ),
    (
        "whatsapp.send",
        {"to": ANN, "media": {"type": "image", "id": "1", "filename": "x"}},
        "filename belongs to media of type document",
    ),
    (
        "whatsapp.send",
        {
            "to": ANN,
            "template": {"name": "otp", "language": "en", "components": [{"type": "button"}]},
        },
        "sub_type and index belong to components of type button",
    ),
]


def decode(operation: str, payload: dict[str, Any]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(payload), type=CATALOGUE[operation].request)


@pytest.mark.parametrize(("operation", "payload"), TAKEN)
def test_contract_takes_what_providers_can_send(operation: str, payload: dict[str, Any]) -> None:
    request = decode(operation, payload)

    assert msgspec.json.decode(msgspec.json.encode(request), type=type(request)) == request


@pytest.mark.parametrize(("operation", "payload", "told"), REFUSED)
def test_contract_refuses_in_clear_words(
    operation: str, payload: dict[str, Any], told: str
) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        decode(operation, payload)

    assert told in str(caught.value)


def test_attachment_content_arrives_as_bytes() -> None:
    payload = MAIL | {"attachments": [{"filename": "a.txt", "content": "aGk="}]}

    request = decode("email.send", payload)

    assert request.attachments[0].content == b"hi"


def test_bulk_sms_has_one_part_per_recipient_in_order() -> None:
    request = decode("sms.send_bulk", {"recipients": [BEN, ANN], "message": "Hi"})

    assert list(CATALOGUE["sms.send_bulk"].recipients(request)) == [BEN, ANN]


def test_email_to_one_has_no_parts() -> None:
    request = decode("email.send", MAIL)

    assert list(CATALOGUE["email.send"].recipients(request)) == []


def test_email_to_several_has_one_part_per_recipient_as_named() -> None:
    payload = MAIL | {"to": ["Ann <ann@x.test>", "b@x.test"], "cc": ["c@x.test"], "bcc": ["d@x"]}

    request = decode("email.send", payload)

    expected = ["Ann <ann@x.test>", "b@x.test", "c@x.test", "d@x"]
    assert list(CATALOGUE["email.send"].recipients(request)) == expected


def test_email_batch_has_one_part_per_message_even_to_the_same_reader() -> None:
    request = decode("email.send_batch", {"messages": [MAIL, MAIL]})

    parts = list(CATALOGUE["email.send_batch"].recipients(request))

    assert parts == ["0:ann@x.test", "1:ann@x.test"]


@pytest.mark.parametrize(
    ("mailbox", "expected"),
    [
        ("ann@x.test", ("", "ann@x.test")),
        ("<ann@x.test>", ("", "ann@x.test")),
        ("Ann Bee  <ann@x.test>", ("Ann Bee", "ann@x.test")),
        ('"Bee, \\"A\\"" <ann@x.test>', ('Bee, "A"', "ann@x.test")),
        ("Zoë <zoë@exämple.test>", ("Zoë", "zoë@exämple.test")),
        ("o'neil+tag@mail.x.test", ("", "o'neil+tag@mail.x.test")),
    ],
)
def test_split_mailbox_separates_name_and_address(mailbox: str, expected: tuple[str, str]) -> None:
    assert split_mailbox(mailbox) == expected


@pytest.mark.parametrize(
    "mailbox",
    [
        "",
        "ann",
        "@x.test",
        "ann@",
        "ann@x..test",
        "a..b@x.test",
        ".a@x.test",
        "ann@-x.test",
        "ann@x-.test",
        "ann@x_y.test",
        "a b@x.test",
        "a@x@y",
        "a@x>",
        "Ann <a@x> <b@x>",
        "evil@x.test]<bob@y.test>",
        "group: a@x.test;",
        f"{'a' * 65}@x.test",
        f"a@{'.'.join(['x' * 60] * 5)}",
    ],
)
def test_split_mailbox_refuses_what_is_no_address(mailbox: str) -> None:
    with pytest.raises(ValueError, match="is no e-mail address"):
        split_mailbox(mailbox)


@given(st.text(max_size=320))
def test_split_mailbox_lets_no_control_character_through(text: str) -> None:
    try:
        name, address = split_mailbox(text)
    except ValueError:
        return

    assert not set(name + address) & {"\r", "\n", "\0"}
    assert address.count("@") == 1


def test_catalogue_names_category_and_verb_of_every_contract() -> None:
    assert {contract.category for contract in CATALOGUE.values()} == {
        "billing",
        "email",
        "http",
        "payment",
        "push",
        "sms",
        "webhook",
        "whatsapp",
    }
    assert all(name == contract.operation for name, contract in CATALOGUE.items())


@pytest.mark.parametrize("operation", sorted(CATALOGUE))
def test_catalogue_structs_are_documented_and_have_a_schema(operation: str) -> None:
    contract = CATALOGUE[operation]

    assert contract.summary
    assert msgspec.json.schema(contract.request)["$defs"]
    assert msgspec.json.schema(contract.result)["$defs"]


@pytest.mark.parametrize("operation", ["sms.send", "email.send", "push.send", "whatsapp.send"])
def test_messages_of_unknown_outcome_repeat_once(operation: str) -> None:
    contract = CATALOGUE[operation]

    assert (contract.on_uncertain, contract.max_repeats) == ("repeat", 1)


def test_balance_has_no_effect() -> None:
    assert not CATALOGUE["sms.balance"].effect


def test_balance_result_is_a_decimal_and_a_currency() -> None:
    result = CATALOGUE["sms.balance"].result

    msgspec.convert({"balance": "1785.50", "currency": "KES"}, result)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"balance": 1785.5, "currency": "KES"}, result)


OWN = Contract(operation="voucher.issue", request=Request, result=Result)


def test_catalogue_refuses_two_contracts_for_one_operation() -> None:
    with pytest.raises(ValueError, match=r"two contracts for voucher\.issue"):
        catalogue_of((OWN, OWN))


def test_contract_of_prefers_the_catalogue() -> None:
    assert contract_of("sms.send").request is CATALOGUE["sms.send"].request


def test_contract_of_takes_a_plugins_own_where_the_catalogue_has_none() -> None:
    assert contract_of("voucher.issue", OWN) is OWN


@pytest.mark.parametrize(
    ("operation", "declared", "told"),
    [
        ("voucher.issue", None, "pass contract= to @operation"),
        ("voucher.cancel", OWN, "is for voucher.issue"),
        (
            "sms.send",
            Contract(operation="sms.send", request=EmailSend, result=Result),
            "leave contract= out",
        ),
    ],
)
def test_contract_of_refuses_a_contract_that_does_not_fit(
    operation: str, declared: Contract | None, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        contract_of(operation, declared)
