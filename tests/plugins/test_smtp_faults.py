"""Each way in which a mail server fails has one meaning, decided by what it can have received."""

import asyncio
import ssl
import time
from typing import Any

import pytest
from tests.plugins.smtp_server import (
    ANN,
    BEN,
    CAT,
    CLOSE,
    MAIL,
    PASSWORD,
    RESET,
    SILENCE,
    USER,
    Authority,
    Dialogue,
    Mailbox,
    mail_server,
    make_authority,
    provider,
    scripted,
    send,
)
from tests.sdk.scripted_server import unused_port

from integrationd.sdk import Delivered, Rejected, Retryable, Uncertain
from integrationd.sdk.testing import CALL_ID, make_context

SIGN_IN: dict[str, Any] = {"username": USER, "password": PASSWORD}
QUICK: dict[str, Any] = {
    "read_timeout_s": 0.2,
    "final_reply_timeout_s": 0.2,
    "connect_timeout_s": 2.0,
}
WITH_AUTH = "250-mail.test\r\n250 AUTH PLAIN LOGIN CRAM-MD5"
DROPS = [CLOSE, RESET, SILENCE]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize("how", DROPS)
@pytest.mark.parametrize("where", ["greeting", "ehlo", "mail", "rcpt", "data"])
async def test_loss_before_the_message_is_retryable_and_spends_nothing(
    where: str, how: str
) -> None:
    dialogue = Dialogue(**{where: how})
    async with scripted(dialogue) as server:
        result = await send(server.port, MAIL | {"to": [ANN, BEN]}, **QUICK)

    assert isinstance(result.outcome, Retryable)
    assert result.outcome.sent is False
    assert result.outcome.reason == ("timeout" if how == SILENCE else "connection_lost")
    assert result.sent is False
    assert (dialogue.messages, server.connections) == ([], 1)


@pytest.mark.parametrize("how", DROPS)
async def test_loss_after_the_message_is_uncertain(how: str) -> None:
    dialogue = Dialogue(message=how)
    async with scripted(dialogue) as server:
        result = await send(server.port, **QUICK)

    assert isinstance(result.outcome, Uncertain)
    assert result.outcome.reason == ("timeout" if how == SILENCE else "connection_lost")
    assert result.outcome.reference == f"<{CALL_ID}.1@shule.test>"
    assert result.outcome.reference in result.outcome.detail
    assert result.sent is True
    assert (len(dialogue.messages), server.connections) == (1, 1)


@pytest.mark.parametrize("how", [*DROPS, "421 4.3.2 shutting down", "500 what", "nonsense"])
async def test_what_becomes_of_the_goodbye_changes_nothing(how: str) -> None:
    dialogue = Dialogue(quit=how)
    async with scripted(dialogue) as server:
        result = await send(server.port, **QUICK)

    assert isinstance(result.outcome, Delivered)
    assert (len(dialogue.messages), server.connections) == (1, 1)


@pytest.mark.parametrize("where", ["greeting", "mail", "rcpt", "data", "message", "rset"])
async def test_dropping_server_sees_one_connection_per_send(where: str) -> None:
    messages = [MAIL | {"to": to} for to in (ANN, BEN, CAT)]
    dialogue = Dialogue(**({where: CLOSE} | ({"rcpt": "550 no"} if where == "rset" else {})))
    async with scripted(dialogue) as server:
        await send(server.port, {"messages": messages}, operation="email.send_batch")

    assert server.connections == 1
    assert len(dialogue.messages) <= 1


@pytest.mark.parametrize(
    ("where", "reply", "kind"),
    [
        ("mail", "451 4.3.0 busy", Retryable),
        ("mail", "550 5.7.1 sender refused", Rejected),
        ("mail", "552 5.3.4 message too big", Rejected),
        ("mail", "530 5.7.0 authentication required", Rejected),
        ("rcpt", "450 4.2.0 greylisted", Retryable),
        ("rcpt", "452 4.5.3 too many", Retryable),
        ("rcpt", "550 5.1.1 no such user", Rejected),
        ("data", "451 4.3.0 busy", Retryable),
        ("data", "554 5.5.1 no valid recipients", Rejected),
        ("message", "452 4.3.1 no space", Retryable),
        ("message", "554 5.7.1 spam", Rejected),
    ],
)
async def test_reply_decides_by_its_first_digit(where: str, reply: str, kind: type) -> None:
    async with scripted(Dialogue(**{where: reply})) as server:
        result = await send(server.port)

    assert isinstance(result.outcome, kind)
    assert isinstance(result.outcome, Retryable | Rejected)
    assert result.outcome.reason == f"smtp_{reply[:3]}"
    assert reply in result.outcome.detail
    if isinstance(result.outcome, Retryable):
        assert (result.outcome.sent, result.sent) == (True, True)
    assert result.exchanges[-1].status == int(reply[:3])


@pytest.mark.parametrize("where", ["greeting", "mail", "rcpt", "data", "message"])
async def test_server_that_is_closing_is_retried(where: str) -> None:
    async with scripted(Dialogue(**{where: "421 4.3.2 shutting down"})) as server:
        result = await send(server.port, MAIL | {"to": [ANN, BEN]})

    assert isinstance(result.outcome, Retryable)
    assert result.outcome.reason == "smtp_421"
    assert result.outcome.sent is (where != "greeting")
    assert server.connections == 1


async def test_recipients_told_before_the_server_closed_keep_their_answer() -> None:
    dialogue = Dialogue(rcpt=["550 5.1.1 no such user", "250 OK", "421 closing"])
    async with scripted(dialogue) as server:
        result = await send(server.port, MAIL | {"to": [ANN, BEN, CAT]})

    assert isinstance(result.outcome, Delivered)
    kinds = [type(part.outcome) for part in result.outcome.parts]
    assert kinds == [Rejected, Retryable, Retryable]
    assert dialogue.messages == []


async def test_all_refused_for_good_is_rejected_and_tells_each() -> None:
    dialogue = Dialogue(rcpt=["550 5.1.1 no such user", "554 5.7.1 policy"])
    async with scripted(dialogue) as server:
        result = await send(server.port, MAIL | {"to": [ANN, BEN]})

    assert isinstance(result.outcome, Rejected)
    assert f"{ANN}: 550 5.1.1 no such user" in result.outcome.detail
    assert "ben@x.test: 554 5.7.1 policy" in result.outcome.detail
    assert "DATA" not in dialogue.heard


async def test_all_refused_and_some_for_now_are_told_apart() -> None:
    dialogue = Dialogue(rcpt=["550 5.1.1 no such user", "450 4.2.0 greylisted"])
    async with scripted(dialogue) as server:
        result = await send(server.port, MAIL | {"to": [ANN, BEN]})

    assert isinstance(result.outcome, Delivered)
    assert [type(part.outcome) for part in result.outcome.parts] == [Rejected, Retryable]
    assert "DATA" not in dialogue.heard


async def test_refusal_of_the_rest_does_not_hide_whom_it_reached_before() -> None:
    async with scripted(Dialogue(rcpt="550 5.1.1 no such user")) as server:
        result = await send(server.port, MAIL | {"to": [ANN, BEN]}, still_open=[BEN], attempt=2)

    assert isinstance(result.outcome, Delivered)
    assert [(part.recipient, type(part.outcome)) for part in result.outcome.parts] == [
        (BEN, Rejected)
    ]


@pytest.mark.parametrize(("attempt", "wait_s"), [(1, 15), (2, 60), (3, 300), (4, 900), (9, 900)])
async def test_wait_grows_until_greylisting_is_over(attempt: int, wait_s: float) -> None:
    async with scripted(Dialogue(rcpt="450 4.2.0 greylisted")) as server:
        result = await send(server.port, attempt=attempt)

    assert isinstance(result.outcome, Retryable)
    assert result.outcome.wait_s == wait_s


async def test_greeting_that_refuses_is_retried_as_often_as_the_daemon_allows() -> None:
    async with scripted(Dialogue(greeting="554 5.3.2 no service")) as server:
        result = await send(server.port)

    assert isinstance(result.outcome, Retryable)
    assert (result.outcome.reason, result.outcome.sent) == ("smtp_554", True)


async def test_refused_connection_never_left() -> None:
    result = await send(unused_port())

    assert isinstance(result.outcome, Retryable)
    assert (result.outcome.reason, result.outcome.sent) == ("connection_refused", False)


async def test_name_without_an_address_never_left() -> None:
    result = await send(25, host="mail.invalid")

    assert isinstance(result.outcome, Retryable)
    assert (result.outcome.reason, result.outcome.sent) == ("dns_failure", False)


async def test_starttls_that_is_not_offered_is_rejected_and_nothing_is_said() -> None:
    dialogue = Dialogue(ehlo=WITH_AUTH)
    async with scripted(dialogue) as server:
        result = await send(server.port, security="starttls", **SIGN_IN)

    assert isinstance(result.outcome, Rejected)
    assert result.outcome.reason == "starttls_missing"
    assert [line.partition(" ")[0] for line in dialogue.heard] in (["EHLO"], ["EHLO", "QUIT"])


async def test_starttls_refused_for_now_is_retryable() -> None:
    ehlo = "250-mail.test\r\n250 STARTTLS"
    async with scripted(Dialogue(ehlo=ehlo, starttls="454 4.7.0 not now")) as server:
        result = await send(server.port, security="starttls")

    assert isinstance(result.outcome, Retryable)
    assert (result.outcome.reason, result.outcome.sent) == ("smtp_454", False)


@pytest.mark.parametrize(
    ("ehlo", "auth", "kind", "reason"),
    [
        ("250 mail.test", "", Rejected, "auth_missing"),
        ("250-mail.test\r\n250 AUTH NTLM", "", Rejected, "auth_missing"),
        (WITH_AUTH, "535 5.7.8 bad credentials", Rejected, "smtp_535"),
        (WITH_AUTH, "454 4.7.0 try later", Retryable, "smtp_454"),
    ],
)
async def test_sign_in_fails_for_good_or_for_now(
    ehlo: str, auth: str, kind: type, reason: str
) -> None:
    dialogue = Dialogue(ehlo=ehlo, auth=auth)
    async with scripted(dialogue) as server:
        result = await send(server.port, **SIGN_IN)

    assert isinstance(result.outcome, kind)
    assert isinstance(result.outcome, Retryable | Rejected)
    assert result.outcome.reason == reason
    assert sum(line.startswith("AUTH") for line in dialogue.heard) == bool(auth)
    assert result.sent is False


async def test_cram_md5_is_spoken_where_nothing_else_is_offered() -> None:
    dialogue = Dialogue(ehlo="250-mail.test\r\n250 AUTH CRAM-MD5", auth="334 PDFAbWFpbC50ZXN0Pg==")
    async with scripted(dialogue) as server:
        await send(server.port, **QUICK, **SIGN_IN)

    assert "AUTH CRAM-MD5" in dialogue.heard


async def test_server_that_speaks_tls_at_once_is_found_out(authority: Authority) -> None:
    async with mail_server(implicit_tls=authority.server()) as box:
        result = await send(
            box.port, security="starttls", read_timeout_s=0.3, ca_file=str(authority.file)
        )

    assert isinstance(result.outcome, Retryable)
    assert result.outcome.reason == "timeout"
    assert "as on port 465, set security = 'tls'" in result.outcome.detail


async def test_server_that_begins_in_plain_text_is_found_out(authority: Authority) -> None:
    async with mail_server() as box:
        result = await send(box.port, security="tls", ca_file=str(authority.file))
        with pytest.raises(ConnectionError, match="as on port 587, set security = 'starttls'"):
            await provider(box.port, security="tls", ca_file=str(authority.file)).test_connection(
                make_context("email.send")
            )

    assert isinstance(result.outcome, Retryable)
    assert (result.outcome.reason, result.outcome.sent) == ("tls_failure", False)


async def test_garbled_reply_before_the_message_is_retryable() -> None:
    async with scripted(Dialogue(mail="nonsense")) as server:
        result = await send(server.port)

    assert isinstance(result.outcome, Retryable)
    assert result.outcome.sent is False


@pytest.mark.parametrize("reply", ["nonsense", "354 Go on", "150 hm"])
async def test_garbled_reply_to_the_message_is_uncertain(reply: str) -> None:
    async with scripted(Dialogue(message=reply)) as server:
        result = await send(server.port)

    assert isinstance(result.outcome, Uncertain)


async def test_any_good_reply_to_the_message_is_a_delivery() -> None:
    async with scripted(Dialogue(message="251 2.0.0 taken")) as server:
        result = await send(server.port)

    assert isinstance(result.outcome, Delivered)


async def test_local_part_that_needs_smtputf8_is_rejected_where_it_is_not_spoken() -> None:
    dialogue = Dialogue()
    async with scripted(dialogue) as server:
        result = await send(server.port, MAIL | {"to": "zoë@x.test"})

    assert isinstance(result.outcome, Rejected)
    assert "SMTPUTF8" in result.outcome.detail
    assert not any(line.startswith("MAIL") for line in dialogue.heard)


async def test_address_that_cannot_be_written_is_rejected() -> None:
    async with mail_server() as box:
        result = await send(box.port, MAIL | {"to": f"ann@{'ü' * 60}.test"})

    assert isinstance(result.outcome, Rejected)
    assert result.outcome.reason == "invalid_message"
    assert box.taken == []


async def test_batch_tells_what_was_taken_before_the_server_closed() -> None:
    messages = [MAIL | {"to": to} for to in (ANN, BEN, CAT)]
    dialogue = Dialogue(message=["250 2.0.0 queued", CLOSE])
    async with scripted(dialogue) as server:
        result = await send(server.port, {"messages": messages}, operation="email.send_batch")

    assert isinstance(result.outcome, Delivered)
    kinds = [type(part.outcome) for part in result.outcome.parts]
    assert kinds == [Delivered, Uncertain, Retryable]
    assert len(dialogue.messages) == 2


async def test_batch_clears_the_table_after_a_refusal() -> None:
    messages = [MAIL | {"to": to} for to in (ANN, BEN)]
    dialogue = Dialogue(rcpt=["550 5.1.1 no such user", "250 OK"])
    async with scripted(dialogue) as server:
        result = await send(server.port, {"messages": messages}, operation="email.send_batch")

    assert isinstance(result.outcome, Delivered)
    refused, delivered = (part.outcome for part in result.outcome.parts)
    assert isinstance(refused, Rejected)
    assert refused.detail == "The server refused ann@x.test: 550 5.1.1 no such user."
    assert isinstance(delivered, Delivered)
    verbs = [line.partition(" ")[0] for line in dialogue.heard]
    assert verbs == ["EHLO", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "DATA", "QUIT"]


async def test_attempt_ends_before_its_own_deadline_with_what_is_known() -> None:
    messages = [MAIL | {"to": to} for to in (ANN, BEN, CAT)]
    dialogue = Dialogue(message=["250 2.0.0 queued", SILENCE])
    began = time.monotonic()
    async with scripted(dialogue) as server:
        result = await send(
            server.port, {"messages": messages}, operation="email.send_batch", timeout_s=1.0
        )

    assert time.monotonic() - began < 1.0
    assert isinstance(result.outcome, Delivered)
    kinds = [type(part.outcome) for part in result.outcome.parts]
    assert kinds == [Delivered, Uncertain, Retryable]


async def test_server_that_dribbles_is_cut_off_by_the_attempts_time() -> None:
    people = [f"a{number}@x.test" for number in range(40)]
    async with mail_server(Slow()) as box:
        result = await send(box.port, MAIL | {"to": people}, timeout_s=0.5)

    assert isinstance(result.outcome, Retryable)
    assert (result.outcome.reason, result.outcome.sent) == ("timeout", False)


class Slow(Mailbox):
    async def handle_RCPT(self, *given: Any) -> str:  # noqa: N802 - aiosmtpd looks it up by this name
        await asyncio.sleep(0.05)
        return await super().handle_RCPT(*given)


async def test_connection_test_fails_where_the_server_does_not_listen() -> None:
    async with scripted(Dialogue(noop="500 what")) as server:
        with pytest.raises(Exception, match="what"):
            await provider(server.port).test_connection(make_context("email.send"))


def test_no_tls_context_accepts_what_it_cannot_verify() -> None:
    for security in ("starttls", "tls"):
        tls = provider(25, security=security).tls
        assert tls.verify_mode is ssl.CERT_REQUIRED
        assert tls.check_hostname
