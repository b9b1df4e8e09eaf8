"""The console provider writes one harmless, readable line per message, or says that it cannot."""

import contextlib
import os
import resource
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integrationd.registry import builtin_plugins, load_plugin
from integrationd.sdk import Delivered, Outcome, Retryable, Uncertain
from integrationd.sdk.testing import (
    CALL_ID,
    FakeClock,
    FakeConnection,
    LocalPluginContract,
    make_context,
)

CONSOLE = builtin_plugins() / "messaging" / "console.py"
ANN = "+254711000111"
BEN = "+254711000222"
SMS = {"to": ANN, "message": "Your code is 1234", "sender": "SHULE"}
BULK = {"recipients": [ANN, BEN], "message": "Hi"}
PUSH = {"token": "t0k3n-of-a-phone", "title": "Hi"}
WHATSAPP = {"to": ANN, "text": {"body": "Hi"}}
MAIL = {"to": ["Ann <ann@x.test>", "ben@x.test"], "subject": "Fees", "text": "Due on Friday."}


class TestConsoleSms(LocalPluginContract):
    plugin = CONSOLE
    operation = "sms.send"
    payload = SMS


class TestConsoleSmsBulk(LocalPluginContract):
    plugin = CONSOLE
    operation = "sms.send_bulk"
    payload = BULK


class TestConsoleEmail(LocalPluginContract):
    plugin = CONSOLE
    operation = "email.send"
    payload = MAIL


class TestConsolePush(LocalPluginContract):
    plugin = CONSOLE
    operation = "push.send"
    payload = PUSH


class TestConsoleWhatsapp(LocalPluginContract):
    plugin = CONSOLE
    operation = "whatsapp.send"
    payload = WHATSAPP


def send(operation: str, payload: dict[str, Any], **config: str) -> Outcome:
    case = type(
        "Case",
        (LocalPluginContract,),
        {"plugin": CONSOLE, "operation": operation, "payload": payload, "config": config},
    )
    outcome: Outcome = case().send().outcome
    return outcome


def test_sms_is_one_line_with_time_call_and_text(capfd: pytest.CaptureFixture[str]) -> None:
    outcome = send("sms.send", SMS)

    expected = (
        f"2026-01-15T12:00:00.000Z {CALL_ID} "
        f'sms to="{ANN}" sender="SHULE" message="Your code is 1234"\n'
    )
    assert capfd.readouterr().out == expected
    assert outcome == Delivered(
        reference=f"console-{CALL_ID}", result={"message_id": f"console-{CALL_ID}"}
    )


def test_bulk_sms_is_a_line_and_a_part_per_recipient(capfd: pytest.CaptureFixture[str]) -> None:
    outcome = send("sms.send_bulk", BULK)

    lines = capfd.readouterr().out.splitlines()
    assert [ANN in lines[0], BEN in lines[1], len(lines)] == [True, True, 2]
    assert isinstance(outcome, Delivered)
    assert [(part.recipient, part.outcome) for part in outcome.parts] == [
        (ANN, Delivered(reference=f"console-{CALL_ID}-0")),
        (BEN, Delivered(reference=f"console-{CALL_ID}-1")),
    ]


def test_email_is_one_line_and_a_part_per_recipient(capfd: pytest.CaptureFixture[str]) -> None:
    files = [{"filename": "fees.pdf", "content": "aGk="}]

    outcome = send("email.send", MAIL | {"attachments": files})

    out = capfd.readouterr().out
    assert 'to="Ann <ann@x.test>, ben@x.test" subject="Fees" text="Due on Friday."' in out
    assert 'attachments="fees.pdf"' in out
    assert out.count("\n") == 1
    assert isinstance(outcome, Delivered)
    assert [part.recipient for part in outcome.parts] == MAIL["to"]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ({"text": {"body": "Hi"}}, 'text="Hi"'),
        ({"template": {"name": "otp", "language": "en"}}, 'template="otp" language="en"'),
        ({"media": {"type": "image", "id": "7", "caption": "Us"}}, 'image="7" caption="Us"'),
        ({"media": {"type": "audio", "link": "https://x.test/a"}}, 'audio="https://x.test/a"'),
    ],
)
def test_whatsapp_shows_what_the_reader_gets(
    capfd: pytest.CaptureFixture[str], content: dict[str, Any], shown: str
) -> None:
    send("whatsapp.send", {"to": ANN} | content)

    assert f'whatsapp to="{ANN}" {shown}\n' in capfd.readouterr().out


def test_push_token_is_shortened(capfd: pytest.CaptureFixture[str]) -> None:
    token = "abcdefghijklmnopqrstuvwxyz0123456789"

    send("push.send", {"token": token, "title": "Hi", "data": {"k": "v"}})

    out = capfd.readouterr().out
    assert 'token="abcdef… (36 characters)" title="Hi" data="k: v"' in out
    assert token[:8] not in out


def test_characters_that_steer_a_terminal_are_shown_as_escapes(
    capfd: pytest.CaptureFixture[str],
) -> None:
    message = '\x1b[2J\r\nfake line \u202e \x9b "\\n"\x00 é 🎉'

    send("sms.send", SMS | {"message": message})

    out = capfd.readouterr().out
    assert r"\x1b[2J\r\nfake line \u202e \x9b \"\\n\"\x00 é 🎉" in out
    assert out.count("\n") == 1
    assert out.removesuffix("\n").isprintable()


def test_long_texts_are_shortened(capfd: pytest.CaptureFixture[str]) -> None:
    send("email.send", MAIL | {"text": "x" * 100_000})

    assert f"{'x' * 160}… (+99840)" in capfd.readouterr().out


def test_line_never_outgrows_what_a_pipe_takes_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    wide = "\U000e0001" * 5000
    send("email.send", MAIL | {"subject": wide[:900], "text": wide, "html": wide})

    data = capfd.readouterr().out.encode()
    assert len(data) <= select.PIPE_BUF
    assert data.endswith(b"\n")


def test_stream_may_be_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    send("sms.send", SMS, stream="stderr")

    captured = capfd.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)


@contextlib.contextmanager
def stdout_is_a_pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        yield reader, writer


def fill(writer: int) -> None:
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * select.PIPE_BUF)
    os.set_blocking(writer, True)


def test_reader_that_has_gone_is_retryable(monkeypatch: pytest.MonkeyPatch) -> None:
    with stdout_is_a_pipe(monkeypatch) as (reader, _):
        os.close(reader)

        outcome = send("sms.send", SMS)

    assert isinstance(outcome, Retryable)
    assert (outcome.reason, outcome.sent) == ("stream_closed", False)
    assert "Broken pipe" in outcome.detail


@pytest.mark.timeout(10)
def test_reader_that_does_not_read_is_retryable_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with stdout_is_a_pipe(monkeypatch) as (reader, writer):
        fill(writer)

        outcome = send("sms.send_bulk", BULK)

        os.close(reader)
    assert isinstance(outcome, Retryable)
    assert (outcome.reason, outcome.sent) == ("stream_busy", False)


@pytest.mark.timeout(10)
def test_bulk_sms_keeps_for_later_whom_the_stream_did_not_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with stdout_is_a_pipe(monkeypatch) as (reader, writer):
        fill(writer)
        os.read(reader, select.PIPE_BUF)
        many = [f"+25471100{n:04}" for n in range(1000)]

        outcome = send("sms.send_bulk", {"recipients": many, "message": "x" * 1600})

        os.close(reader)
    assert isinstance(outcome, Delivered)
    kinds = [type(part.outcome) for part in outcome.parts]
    assert len(kinds) == 1000
    assert set(kinds) == {Delivered, Retryable}
    assert kinds == sorted(kinds, key=[Delivered, Retryable].index)


def test_stream_closed_before_the_start_is_retryable(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", None)

        outcome = send("sms.send", SMS)

    assert isinstance(outcome, Retryable)
    assert not outcome.sent


def test_half_a_line_is_uncertain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (tmp_path / "out").open("w") as stream, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
        try:
            outcome = send("sms.send", SMS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert isinstance(outcome, Uncertain)
    assert outcome.reason == "stream_full"


async def try_out(**config: str) -> str:
    provider = load_plugin(CONSOLE, FakeClock()).provider
    connection: Any = FakeConnection()
    made = provider(provider.Config.model_validate(config), connection)
    said: str = await made.test_connection(make_context("sms.send"))
    return said


async def test_connection_test_says_where_lines_go_and_writes_none(
    capfd: pytest.CaptureFixture[str],
) -> None:
    said = await try_out(stream="stderr")

    assert said == "lines go to stderr of the daemon"
    assert capfd.readouterr().err == ""


async def test_connection_test_says_that_the_stream_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout", None)

    with pytest.raises(ConnectionError, match="stdout of the daemon cannot be written"):
        await try_out()
