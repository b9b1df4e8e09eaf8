"""The daemon, the provider and the gateway together: nobody is sent to who has the message."""

import shutil
import tempfile
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.e2e.running import command, submit
from tests.faults.daemon import DaemonProcess
from tests.plugins.africastalking_server import (
    ANN,
    BEN,
    CAT,
    DROP,
    KEY,
    Gateway,
    Trouble,
    gateway,
)

ALL = [ANN, BEN, CAT]
TABLES = """\
[delivery]
backoff_first = "20ms"
backoff_cap = "50ms"
timeout = "800ms"
[delivery.breaker]
failures = 1000
[connections.at]
provider = "africastalking"
[connections.at.config]
base_url = "{url}"
allow_private = true
username = "sandbox"
api_key = "env:AT_API_KEY"
batch_size = 2
"""


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[tuple[DaemonProcess, Gateway]]:
    directory = Path(tempfile.mkdtemp(prefix="ide2e"))
    async with gateway() as at:
        tables = TABLES.format(url=at.url)
        with DaemonProcess(directory, tables, environ={"AT_API_KEY": KEY}) as daemon:
            daemon.start()
            daemon.wait_ready()
            yield daemon, at
            assert daemon.stop() == 0
    shutil.rmtree(directory)


@pytest.fixture
async def at(stage: tuple[DaemonProcess, Gateway]) -> Gateway:
    gateway = stage[1]
    gateway.requests.clear()
    gateway.sent.clear()
    gateway.codes.clear()
    gateway.troubles.clear()
    return gateway


@pytest.fixture
async def client(stage: tuple[DaemonProcess, Gateway]) -> AsyncIterator[httpx2.AsyncClient]:
    async with stage[0].client() as opened:
        yield opened


async def bulk(client: httpx2.AsyncClient, numbers: list[str], **options: Any) -> dict[str, Any]:
    return await submit(
        client, "sms.send_bulk", {"recipients": numbers, "message": "Hi"}, **options
    )


def states(call: Mapping[str, Any]) -> dict[str, str]:
    return {part["recipient"]: part["state"] for part in call["parts"]}


async def test_only_open_recipients_are_sent_to_again(
    at: Gateway, client: httpx2.AsyncClient
) -> None:
    at.codes |= {BEN: deque([406]), CAT: deque([500, 501, 101])}

    call = await bulk(client, ALL)

    assert call["state"] == "completed"
    assert [form["to"] for form in at.forms] == [f"{ANN},{BEN}", CAT, CAT, CAT]
    assert states(call) == {ANN: "done", BEN: "failed", CAT: "done"}
    assert Counter(number for number, _ in at.sent) == {ANN: 1, CAT: 1}


async def test_bulk_to_one_that_is_refused_fails(at: Gateway, client: httpx2.AsyncClient) -> None:
    at.codes[ANN] = deque([403])

    call = await bulk(client, [ANN])

    assert (call["state"], call["attempt_log"][0]["reason"]) == ("failed", "invalid_recipient")


async def test_batch_in_doubt_is_not_repeated_where_the_call_says_hold(
    at: Gateway, client: httpx2.AsyncClient
) -> None:
    at.troubles.extend([Trouble(), DROP])

    call = await bulk(client, [*ALL, "+254711000444"], on_uncertain="hold")

    assert call["state"] == "unknown"
    assert list(states(call).values()) == ["done", "done", "unknown", "unknown"]
    assert len(at.requests) == 2


@pytest.mark.parametrize("trouble", [DROP, Trouble(after_s=5.0)])
async def test_message_in_doubt_is_repeated_once_with_one_request_for_each_attempt(
    at: Gateway, client: httpx2.AsyncClient, trouble: Trouble
) -> None:
    at.troubles.extend([trouble] * 9)

    call = await submit(client, "sms.send", {"to": ANN, "message": "Hi"})

    assert [one["outcome"] for one in call["attempt_log"]] == ["uncertain", "uncertain"]
    assert call["state"] == "unknown"
    assert len(at.requests) == 2


async def test_balance_is_answered_at_once(at: Gateway, client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/sms/balance")

    assert answer.status_code == 200
    assert answer.json()["result"] == {"currency": "KES", "balance": "1785.50"}


async def test_number_that_is_not_e164_is_refused_at_once(
    at: Gateway, client: httpx2.AsyncClient
) -> None:
    answer = await client.post("/v1/sms/send", json={"to": "+254000", "message": "Hi"})

    assert answer.status_code == 422
    assert "E.164" in answer.json()["detail"]
    assert at.requests == []


async def test_key_is_shown_nowhere(
    stage: tuple[DaemonProcess, Gateway], at: Gateway, client: httpx2.AsyncClient
) -> None:
    call = await submit(client, "sms.send", {"to": ANN, "message": "Hi"})

    explained = await command(stage[0], "explain", call["id"])
    assert KEY not in f"{call}{explained}{stage[0].output()}"
