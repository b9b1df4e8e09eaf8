"""The programs in examples/, each run as its reader would run it, against a real daemon."""

import asyncio
import base64
import contextlib
import datetime as dt
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from standardwebhooks import Webhook
from tests.faults.daemon import DaemonProcess, free_port
from tests.plugins.mpesa_server import (
    CREDENTIAL,
    INITIATOR,
    KEY,
    PASSKEY,
    SECRET,
    FakeDaraja,
    daraja,
)

EXAMPLES = Path(__file__).parents[2] / "examples"
PHONE = "+254711000111"
WITHIN_S = 30
TABLES = """\
[webhooks]
listen = "127.0.0.1:{hooks}"
public_url = "http://127.0.0.1:{hooks}"
[connections.console]
provider = "console"
[connections.till]
provider = "mpesa"
[connections.till.config]
base_url = "{url}"
allow_private = true
shortcode = "174379"
consumer_key = "literal:{key}"
consumer_secret = "literal:{secret}"
passkey = "literal:{passkey}"
initiator_name = "{initiator}"
security_credential = "literal:{credential}"
[connections.till.query]
first = "1s"
"""


def interpreter(name: str, *words: str) -> Any:
    """Return a parameter: how a language runs a program; it is skipped where that is missing."""
    program = sys.executable if name == "python" else shutil.which(words[0])
    missing = pytest.mark.skipif(program is None, reason=f"{words[0]} is not installed here")
    return pytest.param(name, [program, *words[1:]], id=name, marks=missing)


CURL = interpreter("curl", "curl")
PYTHON = interpreter("python", "python")
PHP = interpreter("php", "php", "-d", "display_errors=stderr")
NODE = interpreter("node", "node")
EACH = pytest.mark.parametrize(("language", "program"), [CURL, PYTHON, PHP, NODE])
FOLLOWING = pytest.mark.parametrize(("language", "program"), [CURL, PYTHON])
RECEIVING = pytest.mark.parametrize(("language", "program"), [PHP, NODE])
SUFFIXES = {"curl": ".sh", "python": ".py", "php": ".php", "node": ".mjs"}


class Desk:
    """A daemon with an SMS console and a till, and somebody who runs programs beside it.

    Args:
        daemon: The daemon.
        till: M-Pesa behind the till.
        client: A client of the daemon.
        key: A key of the role staff.
    """

    def __init__(
        self, daemon: DaemonProcess, till: FakeDaraja, client: httpx2.AsyncClient, key: str
    ) -> None:
        self.daemon = daemon
        self.till = till
        self.client = client
        self._environ = {
            **os.environ,
            "INTEGRATIOND_SOCKET": str(daemon.socket),
            "INTEGRATIOND_URL": daemon.url,
            "INTEGRATIOND_KEY": key,
            "NO_PROXY": "127.0.0.1",
        }

    @contextlib.asynccontextmanager
    async def begun(
        self, words: Sequence[str | Path], **environ: str
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run a program, and end it at the end if it has not ended by itself."""
        process = await asyncio.create_subprocess_exec(
            *map(str, words),
            env={**self._environ, **environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # Not wait: it would leave the pipe open.
            await process.communicate()

    async def printed(self, words: Sequence[str | Path]) -> str:
        """Run a program to its end, and return what it printed."""
        async with self.begun(words) as process:
            printed, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
            text = printed.decode()
            assert process.returncode == 0, text
        return text

    async def calls(self, operation: str) -> list[dict[str, Any]]:
        """Return the calls of an operation."""
        answer = await self.client.get("/v1/calls", params={"operation": operation})
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


@pytest.fixture
async def desk(short_path: Path) -> AsyncIterator[Desk]:
    till = FakeDaraja()
    async with daraja(till) as server:
        tables = TABLES.format(
            url=server.url,
            hooks=free_port(),
            key=KEY,
            secret=SECRET,
            passkey=PASSKEY,
            initiator=INITIATOR,
            credential=CREDENTIAL,
        )
        with DaemonProcess(short_path, tables) as daemon:
            daemon.start()
            await asyncio.to_thread(daemon.wait_ready)
            async with daemon.client() as client:
                made = await client.post("/v1/keys", json={"name": "shop", "role": "staff"})
                yield Desk(daemon, till, client, made.json()["key"])


def command(program: Sequence[str], language: str, task: str, *words: str) -> list[str | Path]:
    """Return the command line of an example; what is written for the shell runs by itself."""
    file = EXAMPLES / language / f"{task}{SUFFIXES[language]}"
    return [file, *words] if language == "curl" else [*program, file, *words]


async def line_with(process: asyncio.subprocess.Process, word: str) -> str:
    """Return the next line that a program prints with a word in it."""
    assert process.stdout is not None
    read = ""
    async with asyncio.timeout(WITHIN_S):
        while line := (await process.stdout.readline()).decode():
            read += line
            if word in line:
                return line
    raise AssertionError(f"it has ended without {word!r}: {read}")


@EACH
async def test_sms_is_sent_once_however_often_the_program_is_run(
    desk: Desk, language: str, program: list[str]
) -> None:
    words = command(program, language, "send_sms", "4711", PHONE, "Your order is ready")

    printed = [await desk.printed(words) for _ in range(2)]

    (call,) = await desk.calls("sms.send")
    assert (call["state"], call["reference"]) == ("completed", {"type": "order", "id": "4711"})
    assert all(call["id"] in text and "completed" in text for text in printed)
    assert desk.daemon.output().count("Your order is ready") == 1


@EACH
async def test_sms_is_sent_though_the_daemon_is_away_at_first(
    desk: Desk, language: str, program: list[str]
) -> None:
    words = command(program, language, "send_sms", "4712", PHONE, "Your order is late")
    await asyncio.to_thread(desk.daemon.stop)

    async with desk.begun(words) as process:
        await asyncio.sleep(0.5)
        desk.daemon.start()
        await asyncio.to_thread(desk.daemon.wait_ready)
        printed, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)

    assert b"completed" in printed, printed.decode()


@EACH
async def test_payment_is_asked_for_once_and_says_what_to_do(
    desk: Desk, language: str, program: list[str]
) -> None:
    words = command(program, language, "ask_for_payment", "4713", "2500.00", PHONE)

    printed = [await desk.printed(words) for _ in range(2)]

    (call,) = await desk.calls("payment.initiate")
    assert "PIN" in printed[0]
    assert all(call["id"] in text for text in printed)
    assert sum(desk.till.prompted.values()) == 1


@FOLLOWING
async def test_events_are_followed_from_the_number_that_was_seen(
    desk: Desk, language: str, program: list[str]
) -> None:
    sent = await desk.client.post(
        "/v1/sms/send",
        json={"to": PHONE, "message": "Before"},
        headers={"Prefer": "wait=10"},
    )
    assert sent.json()["state"] == "completed"

    async with desk.begun(command(program, language, "follow_events", "0")) as process:
        await line_with(process, sent.json()["id"])
        later = await desk.client.post("/v1/sms/send", json={"to": PHONE, "message": "After"})
        told = await line_with(process, later.json()["id"])

    assert "completed" in told or "call" in told


@RECEIVING
async def test_signed_events_are_received_and_forged_ones_are_not(
    desk: Desk, language: str, program: list[str]
) -> None:
    port = free_port()
    wanted = {"url": f"http://127.0.0.1:{port}/", "events": ["shop.*"], "allow_private": True}
    made = (await desk.client.post("/v1/subscriptions", json=wanted)).json()
    words = command(program, language, "receive_events", str(port))
    if language == "php":
        words = [*program, "-S", f"127.0.0.1:{port}", EXAMPLES / "php" / "receive_events.php"]

    async with desk.begun(words, WEBHOOK_SECRET=made["secret"]) as process:
        await listening(port)
        event = {"type": "shop.opened", "data": {"in": "Nairobi"}}
        await desk.client.post("/v1/events", json=event)
        told = await line_with(process, "shop.opened")
        statuses = [await forged(port, made["secret"], how) for how in ("", "body", "time", "key")]

    assert '{"in":"Nairobi"}' in told
    assert statuses == [204, 401, 401, 401]
    deliveries = await desk.client.get(f"/v1/subscriptions/{made['id']}/deliveries")
    assert [one["state"] for one in deliveries.json()["items"]] == ["completed"]


async def listening(port: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.05)


async def forged(port: int, secret: str, how: str) -> int:
    """Send an event of our own and return the answer's status; ``how`` says what is wrong."""
    at = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=10 if how == "time" else 0)
    key = "whsec_" + base64.b64encode(b"another secret, of nobody").decode()
    body = '{"type": "shop.closed", "data": {}}'
    signed = Webhook(key if how == "key" else secret).sign("evt_1", at, body)
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": f"v1,xyz v9 {signed}",
    }
    async with httpx2.AsyncClient() as client:
        sent = body.replace("closed", "burned") if how == "body" else body
        answer = await client.post(f"http://127.0.0.1:{port}/", content=sent, headers=headers)
    return answer.status_code
