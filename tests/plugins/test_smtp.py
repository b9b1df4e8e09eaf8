"""E-mail through a real SMTP server: who gets it, over what, and that nothing secret shows."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.plugins.smtp_server import (
    ANN,
    BEN,
    CAT,
    MAIL,
    PASSWORD,
    SMTP_PLUGIN,
    USER,
    Authority,
    Mailbox,
    mail_server,
    make_authority,
    plain_credentials,
    provider,
    send,
)

from integrationd.sdk import Delivered, Part, Rejected, Retryable
from integrationd.sdk.testing import (
    CALL_ID,
    FakeClock,
    LocalPluginContract,
    make_context,
)
from integrationd.sdk.testing.suite import Sent as SentOnce

MESSAGE_ID = f"<{CALL_ID}.1@shule.test>"
SIGN_IN: dict[str, Any] = {"username": USER, "password": PASSWORD}
NO_SUCH_USER = "550 5.1.1 no such user"
GREYLISTED = "450 4.2.0 greylisted"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def box() -> AsyncIterator[Mailbox]:
    async with mail_server() as running:
        yield running


class SmtpContract(LocalPluginContract):
    """The suite, with a server of its own for each send."""

    plugin = SMTP_PLUGIN
    port = 1025

    def provider(self) -> Any:
        return provider(self.port, **self.config)

    async def send_async(self, handler: Any, attempt: int, clock: FakeClock) -> SentOnce:
        async with mail_server(auth_require_tls=False) as box:
            self.port = box.port
            return await super().send_async(handler, attempt, clock)


class TestSmtpSend(SmtpContract):
    operation = "email.send"
    config = SIGN_IN
    payload = MAIL | {"to": [ANN, BEN]}


class TestSmtpSendBatch(SmtpContract):
    operation = "email.send_batch"
    config = {"from": "no-reply@shule.test"}  # noqa: RUF012 - never changed
    payload = {"messages": [MAIL, MAIL | {"to": [BEN, CAT]}]}  # noqa: RUF012 - never changed


async def test_message_is_delivered_under_a_message_id_of_our_own(box: Mailbox) -> None:
    result = await send(box.port)

    assert result.outcome == Delivered(reference=MESSAGE_ID, result={"message_id": MESSAGE_ID})
    [taken] = box.taken
    assert (taken.sender, taken.recipients) == ("no-reply@shule.test", (ANN,))
    assert taken.message["Message-ID"] == MESSAGE_ID
    assert taken.options == (f"SIZE={len(taken.content) + 3}",)


async def test_repeat_goes_out_under_the_same_message_id(box: Mailbox) -> None:
    await send(box.port, attempt=1)
    await send(box.port, attempt=2)

    assert {taken.message["Message-ID"] for taken in box.taken} == {MESSAGE_ID}


async def test_every_attempt_has_a_connection_of_its_own(box: Mailbox) -> None:
    await send(box.port)
    await send(box.port)

    assert box.connections == 2


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_mail_goes_over_starttls_with_a_sign_in(authority: Authority, mechanism: str) -> None:
    others = {"PLAIN", "LOGIN"} - {mechanism}
    async with mail_server(
        tls_context=authority.server(),
        require_starttls=True,
        auth_required=True,
        auth_exclude_mechanism=others,
    ) as box:
        result = await send(box.port, security="starttls", ca_file=str(authority.file), **SIGN_IN)

    assert isinstance(result.outcome, Delivered)
    assert (box.sign_ins, len(box.taken)) == ([mechanism], 1)


# aiosmtpd looks for TLS that it began itself only, so it believes the sign-in to be in the clear.
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
async def test_mail_goes_over_tls_from_the_first_byte_with_a_sign_in(authority: Authority) -> None:
    async with mail_server(
        implicit_tls=authority.server(), auth_required=True, auth_require_tls=False
    ) as box:
        result = await send(box.port, security="tls", ca_file=str(authority.file), **SIGN_IN)

    assert isinstance(result.outcome, Delivered)
    assert (box.sign_ins, len(box.taken)) == (["PLAIN"], 1)


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_certificate_must_bear_the_name_that_was_asked_for(
    authority: Authority, security: str
) -> None:
    tls = authority.server("localhost")
    options: Any = {"implicit_tls": tls} if security == "tls" else {"tls_context": tls}
    async with mail_server(**options) as box:
        by_name = await send(
            box.port, host="localhost", security=security, ca_file=str(authority.file)
        )
        by_address = await send(box.port, security=security, ca_file=str(authority.file))

    assert isinstance(by_name.outcome, Delivered)
    assert isinstance(by_address.outcome, Retryable)
    assert by_address.outcome.reason == "bad_certificate"
    assert len(box.taken) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_certificate_of_an_unknown_authority_is_not_trusted(
    authority: Authority, security: str
) -> None:
    tls = authority.server()
    options: Any = {"implicit_tls": tls} if security == "tls" else {"tls_context": tls}
    async with mail_server(**options) as box:
        result = await send(box.port, security=security, **SIGN_IN)

    # As the design has it: failed TLS never left, so a wrong clock or a portal loses no mail.
    assert isinstance(result.outcome, Retryable)
    assert (result.outcome.reason, result.outcome.sent) == ("bad_certificate", False)
    assert "name that in ca_file" in result.outcome.detail
    assert (box.sign_ins, box.taken) == ([], [])


async def test_wrong_password_is_rejected_after_one_try(authority: Authority) -> None:
    async with mail_server(tls_context=authority.server()) as box:
        result = await send(
            box.port,
            security="starttls",
            ca_file=str(authority.file),
            username=USER,
            password="not-the-password",
        )

    assert isinstance(result.outcome, Rejected)
    assert result.outcome.reason == "smtp_535"
    assert "Check username and password" in result.outcome.detail
    assert box.sign_ins == ["PLAIN"]
    assert result.sent is False


async def test_hidden_copy_is_in_the_envelope_and_not_in_the_message(box: Mailbox) -> None:
    await send(box.port, MAIL | {"cc": [BEN], "bcc": [CAT]})

    [taken] = box.taken
    assert taken.recipients == (ANN, "ben@x.test", CAT)
    assert taken.message["Cc"] == BEN
    assert taken.message["Bcc"] is None
    assert CAT.encode() not in taken.content


async def test_every_recipient_is_a_part(box: Mailbox) -> None:
    result = await send(box.port, MAIL | {"to": [ANN, BEN]})

    assert isinstance(result.outcome, Delivered)
    assert result.outcome.parts == (
        Part(recipient=ANN, outcome=Delivered(reference=MESSAGE_ID)),
        Part(recipient=BEN, outcome=Delivered(reference=MESSAGE_ID)),
    )
    assert len(box.taken) == 1


async def test_partial_refusal_tells_each_recipient_apart() -> None:
    async with mail_server(Mailbox({"ben@x.test": NO_SUCH_USER, CAT: GREYLISTED})) as box:
        result = await send(box.port, MAIL | {"to": [ANN, BEN, CAT]})

    assert isinstance(result.outcome, Delivered)
    assert result.outcome.result == {"message_id": MESSAGE_ID}
    ann, ben, cat = (part.outcome for part in result.outcome.parts)
    assert ann == Delivered(reference=MESSAGE_ID)
    assert ben == Rejected(
        reason="smtp_550", detail="The server refused ben@x.test: 550 5.1.1 no such user."
    )
    assert isinstance(cat, Retryable)
    assert (cat.reason, cat.sent) == ("smtp_450", True)
    assert [taken.recipients for taken in box.taken] == [(ANN,)]


async def test_only_those_still_open_get_it_again_under_the_same_message_id(box: Mailbox) -> None:
    result = await send(box.port, MAIL | {"to": [ANN, BEN, CAT]}, still_open=[CAT], attempt=2)

    assert isinstance(result.outcome, Delivered)
    assert [part.recipient for part in result.outcome.parts] == [CAT]
    [taken] = box.taken
    assert taken.recipients == (CAT,)
    assert taken.message["Message-ID"] == MESSAGE_ID
    assert taken.message["To"] == f"{ANN}, {BEN}, {CAT}"


@pytest.mark.parametrize("full", ["452 4.5.3 Too many recipients", "552 Too many recipients"])
async def test_those_who_are_too_many_go_in_another_transaction(full: str) -> None:
    people = [f"a{number}@x.test" for number in range(7)]
    async with mail_server(Mailbox({"limit": "3", "full": full})) as box:
        result = await send(box.port, MAIL | {"to": people})

    assert isinstance(result.outcome, Delivered)
    assert [part.outcome for part in result.outcome.parts] == [Delivered(reference=MESSAGE_ID)] * 7
    assert [len(taken.recipients) for taken in box.taken] == [3, 3, 1]
    assert [to for taken in box.taken for to in taken.recipients] == people
    assert {taken.message["Message-ID"] for taken in box.taken} == {MESSAGE_ID}
    assert box.connections == 1


async def test_full_mailbox_delays_nobody_else() -> None:
    async with mail_server(Mailbox({"ben@x.test": "452 4.2.2 Mailbox full"})) as box:
        result = await send(box.port, MAIL | {"to": [ANN, BEN, CAT]})

    assert isinstance(result.outcome, Delivered)
    kinds = {part.recipient: type(part.outcome) for part in result.outcome.parts}
    assert kinds == {ANN: Delivered, BEN: Retryable, CAT: Delivered}
    assert [taken.recipients for taken in box.taken] == [(ANN,), (CAT,)]


async def test_batch_goes_over_one_connection_with_a_part_and_an_id_for_each(box: Mailbox) -> None:
    messages = [MAIL, MAIL | {"to": [BEN, CAT], "subject": "Trip"}]

    result = await send(box.port, {"messages": messages}, operation="email.send_batch")

    assert isinstance(result.outcome, Delivered)
    ids = [f"<{CALL_ID}.{number}@shule.test>" for number in (1, 2)]
    assert result.outcome.parts == (
        Part(recipient=f"0:{ANN}", outcome=Delivered(reference=ids[0])),
        Part(recipient=f"1:{BEN}", outcome=Delivered(reference=ids[1])),
    )
    assert [taken.message["Message-ID"] for taken in box.taken] == ids
    assert [taken.recipients for taken in box.taken] == [(ANN,), ("ben@x.test", CAT)]
    assert box.connections == 1


async def test_batch_repeats_only_what_is_open_under_the_same_ids(box: Mailbox) -> None:
    messages = [MAIL, MAIL | {"to": BEN}, MAIL | {"to": CAT}]

    result = await send(
        box.port,
        {"messages": messages},
        operation="email.send_batch",
        still_open=[f"2:{CAT}"],
        attempt=2,
    )

    assert isinstance(result.outcome, Delivered)
    assert [part.recipient for part in result.outcome.parts] == [f"2:{CAT}"]
    assert [taken.message["Message-ID"] for taken in box.taken] == [f"<{CALL_ID}.3@shule.test>"]


async def test_message_of_a_batch_goes_to_all_of_its_recipients_or_to_none() -> None:
    messages = [MAIL | {"to": [ANN, CAT]}, MAIL | {"to": [ANN, BEN]}, MAIL]
    async with mail_server(Mailbox({"ben@x.test": NO_SUCH_USER, CAT: GREYLISTED})) as box:
        result = await send(box.port, {"messages": messages}, operation="email.send_batch")

    assert isinstance(result.outcome, Delivered)
    kinds = [type(part.outcome) for part in result.outcome.parts]
    assert kinds == [Retryable, Rejected, Delivered]
    assert [taken.recipients for taken in box.taken] == [(ANN,)]


async def test_attempt_keeps_address_size_and_answer_but_no_body_and_no_sign_in(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with mail_server(tls_context=authority.server()) as box:
        result = await send(box.port, security="starttls", ca_file=str(authority.file), **SIGN_IN)

    [kept] = result.exchanges
    assert (kept.method, kept.url) == ("SMTP", f"smtp://127.0.0.1:{box.port}")
    assert (kept.status, kept.response_body) == (250, b"250 2.0.0 queued as Q1")
    assert (kept.request_bytes, kept.sent) == (len(box.taken[0].content) + 3, True)
    assert kept.request_headers == (("Message-ID", MESSAGE_ID),)
    for secret in (PASSWORD, plain_credentials(), MAIL["text"]):
        assert secret not in f"{result}{caplog.text}"


async def test_private_address_is_refused_without_a_connection(box: Mailbox) -> None:
    result = await send(box.port, allow_private=False)

    assert isinstance(result.outcome, Rejected)
    assert result.outcome.reason == "target_refused"
    assert "allow_private = true" in result.outcome.detail
    assert box.connections == 0


async def connection_test(port: int, **config: Any) -> str:
    said: str = await provider(port, **config).test_connection(make_context("email.send"))
    return said


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_connection_test_signs_in_and_sends_nothing(
    authority: Authority, security: str
) -> None:
    tls = authority.server()
    options: Any = {"implicit_tls": tls} if security == "tls" else {"tls_context": tls}
    async with mail_server(**options, auth_require_tls=False) as box:
        said = await connection_test(
            box.port, security=security, ca_file=str(authority.file), **SIGN_IN
        )

    assert said == f"127.0.0.1:{box.port} answered and let {USER} in"
    assert (box.sign_ins, box.taken) == (["PLAIN"], [])


async def test_connection_test_says_what_to_do_about_a_wrong_password(
    authority: Authority,
) -> None:
    async with mail_server(tls_context=authority.server()) as box:
        with pytest.raises(ConnectionError, match=r"535.*Check username and password"):
            await connection_test(
                box.port,
                security="starttls",
                ca_file=str(authority.file),
                username=USER,
                password="wrong-password",
            )
