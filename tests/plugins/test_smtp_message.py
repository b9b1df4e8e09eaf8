"""What a message looks like on the wire: its parts, its headers, and nothing that escapes them."""

import email.utils
from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Any

import anyio
import hypothesis
import msgspec
import pydantic
import pytest
from hypothesis import strategies as st
from tests.plugins.smtp_server import (
    ANN,
    BEN,
    MAIL,
    PASSWORD,
    Mailbox,
    Smtp,
    Taken,
    decoded,
    mail_server,
    provider,
    send,
)

from integrationd.clock import SystemClock
from integrationd.sdk import Delivered
from integrationd.sdk.testing import CALL_ID, FakeConnection

FROM: dict[str, Any] = {"from": "Shule <fees@shule.test>"}
PNG = "iVBORw0KGgo="
PDF = {"filename": "fees.pdf", "content": "JVBERi0xLjc="}


@pytest.fixture
async def box() -> AsyncIterator[Mailbox]:
    async with mail_server() as running:
        yield running


async def taken(box: Mailbox, **members: Any) -> Taken:
    """Send a message with these members and return it as the server took it."""
    result = await send(box.port, MAIL | members)
    assert isinstance(result.outcome, Delivered), result.outcome
    [received] = box.taken
    assert max(map(len, received.content.split(b"\r\n"))) <= 998
    assert received.content.count(b"\n") == received.content.count(b"\r\n")
    assert received.content.count(b"\r") == received.content.count(b"\r\n")
    return received


def tree(part: EmailMessage) -> Any:
    """Return the media types of a message's parts, nested as they are."""
    inner = [tree(one) for one in part.iter_parts() if isinstance(one, EmailMessage)]
    return {part.get_content_type(): inner} if inner else part.get_content_type()


def body(message: EmailMessage, kind: str) -> str:
    """Return the text of the one part of that kind."""
    part = message.get_body((kind,))
    assert part is not None
    text: str = part.get_content()
    return text


async def test_plain_text_is_one_part(box: Mailbox) -> None:
    message = (await taken(box)).message

    assert tree(message) == "text/plain"
    assert message.get_content().rstrip() == MAIL["text"]
    assert (message["From"], message["To"]) == (MAIL["from"], MAIL["to"])
    assert message["Subject"] == "Fees"


async def test_html_alone_is_one_part(box: Mailbox) -> None:
    message = (await taken(box, text=None, html="<p>Hi</p>")).message

    assert tree(message) == "text/html"


async def test_text_and_html_are_alternatives_with_the_text_first(box: Mailbox) -> None:
    message = (await taken(box, html="<p>Due</p>")).message

    assert tree(message) == {"multipart/alternative": ["text/plain", "text/html"]}


async def test_files_are_attached_and_pictures_of_the_page_are_inline(box: Mailbox) -> None:
    logo = {"filename": "logo.png", "content": PNG, "content_id": "logo@shule.test"}

    message = (
        await taken(box, html='<img src="cid:logo@shule.test">', attachments=[logo, PDF])
    ).message

    related = {"multipart/related": ["text/html", "image/png"]}
    assert tree(message) == {
        "multipart/mixed": [
            {"multipart/alternative": ["text/plain", related]},
            "application/pdf",
        ]
    }
    files = {part.get_filename(): part for part in message.walk() if part.get_filename()}
    assert files["logo.png"]["Content-ID"] == "<logo@shule.test>"
    assert files["logo.png"].get_content_disposition() == "inline"
    assert files["fees.pdf"].get_content_disposition() == "attachment"
    assert files["fees.pdf"].get_payload(decode=True) == b"%PDF-1.7"


@pytest.mark.parametrize(
    ("file", "content_type"),
    [
        ({"filename": "a.csv"}, "text/csv"),
        ({"filename": "a.tar.gz"}, "application/octet-stream"),
        ({"filename": "a"}, "application/octet-stream"),
        ({"filename": "a", "content_type": "image/webp"}, "image/webp"),
        ({"filename": "a", "content_type": "multipart/mixed"}, "application/octet-stream"),
        ({"filename": "a.eml", "content_type": "message/rfc822"}, "application/octet-stream"),
        ({"filename": "Gebühren, Übersicht.txt"}, "text/plain"),
        ({"filename": 'a"b;c=d.pdf'}, "application/pdf"),
    ],
)
async def test_file_keeps_name_type_and_bytes(
    box: Mailbox, file: dict[str, str], content_type: str
) -> None:
    message = (await taken(box, attachments=[file | {"content": "AP+A"}])).message

    [attached] = message.iter_attachments()
    assert attached.get_filename() == file["filename"]
    assert attached.get_content_type() == content_type
    assert attached.get_payload(decode=True) == b"\x00\xff\x80"


async def test_answers_go_where_the_call_says(box: Mailbox) -> None:
    message = (await taken(box, reply_to=["Office <office@shule.test>", ANN])).message

    assert message["Reply-To"] == f"Office <office@shule.test>, {ANN}"


async def test_message_is_dated_in_our_time(box: Mailbox) -> None:
    message = (await taken(box)).message

    age_s = (
        SystemClock().now_ms() / 1000
        - email.utils.parsedate_to_datetime(message["Date"]).timestamp()
    )
    assert -1 < age_s < 60


async def test_other_languages_arrive_as_written(box: Mailbox) -> None:
    received = await taken(
        box,
        **{"from": '"Bée, Ann" <no-reply@shule.test>'},
        subject="Karo ya shule & ada ya muhula " * 8,
        text="Habari & leo\n" * 3,
        html="<p>Ñandú 🎉</p>",
        headers={"X-Note": "été"},
    )

    assert received.content.isascii()
    message = received.message
    assert message["From"].addresses[0].display_name == "Bée, Ann"
    assert message["Subject"].rstrip() == ("Karo ya shule & ada ya muhula " * 8).rstrip()
    assert message["X-Note"] == "été"
    assert body(message, "plain").splitlines() == ["Habari & leo"] * 3
    assert "Ñandú 🎉" in body(message, "html")


async def test_long_address_of_the_web_is_not_turned_into_code_words(box: Mailbox) -> None:
    link = f"<https://shule.test/{'a' * 200}>"

    received = await taken(box, headers={"List-Unsubscribe": link})

    assert f"List-Unsubscribe: {link}\r\n".encode() in received.content


async def test_longest_subject_and_most_recipients_keep_within_the_line(box: Mailbox) -> None:
    people = [f"Person number {number} <a{number}@{'d' * 40}.test>" for number in range(50)]

    received = await taken(box, to=people, subject="s" * 900)

    assert received.message["Subject"] == "s" * 900
    assert len(received.message["To"].addresses) == 50
    assert len(received.recipients) == 50


async def test_leading_dots_and_odd_line_ends_survive(box: Mailbox) -> None:
    text = ".\n..\n.\r\nMAIL FROM:<eve@x.test>\rX\n.\n"

    message = (await taken(box, text=text)).message

    assert len(box.taken) == 1
    assert message.get_content().splitlines() == [
        ".", "..", ".", "MAIL FROM:<eve@x.test>", "X", "."
    ]  # fmt: skip


async def test_domain_of_another_script_is_written_in_ascii(box: Mailbox) -> None:
    received = await taken(box, **{"from": "ann@schüle.test"}, to="Ben <ben@bücher.test>")

    assert received.sender == "ann@xn--schle-mva.test"
    assert received.recipients == ("ben@xn--bcher-kva.test",)
    assert received.message["Message-ID"] == f"<{CALL_ID}.1@xn--schle-mva.test>"
    assert "SMTPUTF8" not in received.options


async def test_local_part_of_another_script_goes_where_smtputf8_is_spoken(box: Mailbox) -> None:
    received = await taken(box, to=["zoë@x.test", BEN])

    assert received.recipients == ("zoë@x.test", "ben@x.test")
    assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(received.options)
    assert "To: zoë@x.test, Ben <ben@x.test>\r\n".encode() in received.content


async def test_connection_has_a_sender_for_messages_without_one(box: Mailbox) -> None:
    payload = {name: value for name, value in MAIL.items() if name != "from"}

    result = await send(box.port, payload, **FROM)

    assert isinstance(result.outcome, Delivered)
    assert box.taken[0].sender == "fees@shule.test"
    assert box.taken[0].message["From"] == "Shule <fees@shule.test>"


WORDS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=120)


@hypothesis.given(name=WORDS, subject=WORDS.filter(bool), text=st.text(min_size=1), value=WORDS)
@hypothesis.settings(max_examples=60)
def test_no_text_breaks_out_of_where_it_belongs(
    name: str, subject: str, text: str, value: str
) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    try:
        payload = MAIL | {
            "to": f'"{quoted}" <ann@x.test>',
            "subject": subject,
            "text": text,
            "headers": {"X-Note": value},
        }
        decoded("email.send", payload)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return

    async def once() -> Taken:
        async with mail_server() as box:
            return await taken(box, **payload)

    received = anyio.run(once)

    assert received.recipients == (ANN,)
    assert [one.lower() for one in received.message] == [
        "from", "to", "subject", "date", "message-id", "x-note", "content-type",
        "content-transfer-encoding", "mime-version",
    ]  # fmt: skip


def test_sender_must_come_from_somewhere() -> None:
    payload = {name: value for name, value in MAIL.items() if name != "from"}
    batch = {"messages": [MAIL, payload]}

    for operation, given in (("email.send", payload), ("email.send_batch", batch)):
        request = decoded(operation, given)
        said = provider(25).unsupported(operation, request)
        assert said is not None
        assert "'from'" in said
        assert provider(25, **FROM).unsupported(operation, request) is None


def test_files_kept_elsewhere_are_refused_before_acceptance() -> None:
    file = {"filename": "a.pdf", "url": "https://shule.test/a.pdf"}
    request = decoded("email.send", MAIL | {"attachments": [file]})

    said = provider(25).unsupported("email.send", request)

    assert said is not None
    assert "content instead of a url" in said


@pytest.mark.parametrize(
    "to", ["Bob bob@x.test", "bob @x.test", "nodomain", "", "<>", "bob@x.test>\r\nRCPT TO:<eve@x>"]
)
def test_what_the_library_would_mend_is_refused_before_acceptance(to: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded("email.send", MAIL | {"to": to})


@pytest.mark.parametrize(
    ("security", "port"), [("starttls", 587), ("tls", 465), ("none", 25), (None, 587)]
)
def test_port_follows_from_the_security(security: str | None, port: int) -> None:
    config = {"host": "mail.test"} | ({"security": security} if security else {})

    made: Any = Smtp(Smtp.Config.model_validate(config), FakeConnection())

    assert made.port == port


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ({}, "host"),
        ({"host": "smtp://mail.test"}, "host"),
        ({"port": 0}, "port"),
        ({"security": "ssl"}, "security"),
        ({"username": "ann"}, "go together"),
        ({"password": PASSWORD}, "go together"),
        ({"username": "ann", "password": PASSWORD, "security": "none"}, "allow_plain_auth"),
        ({"from": "nobody"}, "from"),
        ({"from": "ann@x.test\nBcc: eve@x.test"}, "from"),
        ({"local_hostname": "a b"}, "local_hostname"),
        ({"ca_file": "/nowhere/ca.pem"}, "ca_file"),
        ({"read_timeout_s": 0}, "read_timeout_s"),
        ({"verify": False}, "verify"),
    ],
)
def test_config_that_cannot_work_is_refused_without_its_secrets(
    config: dict[str, Any], where: str
) -> None:
    base = {"host": "mail.test"} if config else {}

    with pytest.raises(pydantic.ValidationError) as caught:
        Smtp.Config.model_validate(base | config)

    assert where in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"security": "none", "host": "localhost"},
        {"security": "none", "allow_plain_auth": True},
        {"security": "starttls"},
    ],
)
def test_password_may_go_where_nobody_listens(config: dict[str, Any]) -> None:
    base = {"host": "mail.test", "username": "ann", "password": PASSWORD}

    made: Any = Smtp.Config.model_validate(base | config)

    assert made.username == "ann"
