"""The daemon, the provider and Daraja together: every payment ends as it truly did."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.faults.daemon import DaemonProcess
from tests.plugins.mpesa_callbacks import CANCELS, NO_FUNDS, Callback, customer_body
from tests.plugins.mpesa_provider import PAYMENT, PAYOUT
from tests.plugins.mpesa_server import (
    CREDENTIAL,
    INITIATOR,
    KEY,
    PASSKEY,
    PUSH,
    SECRET,
    Dropped,
    FakeDaraja,
)
from tests.plugins.mpesa_server import daraja as serving
from tests.sdk.scripted_server import Received, unused_port

ENDS_S = 15.0
TABLES = """\
[webhooks]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
[delivery]
backoff_first = "20ms"
backoff_cap = "50ms"
timeout = "3s"
[connections.shule]
provider = "mpesa"
[connections.shule.webhook]
allow_from = ["127.0.0.0/8"]
[connections.shule.query]
first = "{first}"
factor = 1.0
cap = "{first}"
[connections.shule.config]
base_url = "{url}"
allow_private = true
shortcode = "174379"
consumer_key = "env:MPESA_KEY"
consumer_secret = "env:MPESA_SECRET"
passkey = "env:MPESA_PASSKEY"
initiator_name = "{initiator}"
security_credential = "env:MPESA_CREDENTIAL"
validation_default = "reject"
"""
ENVIRON = {
    "MPESA_KEY": KEY,
    "MPESA_SECRET": SECRET,
    "MPESA_PASSKEY": PASSKEY,
    "MPESA_CREDENTIAL": CREDENTIAL,
}


class Stage:
    """A running daemon, the fake that it speaks to, and a client of its API."""

    def __init__(self, daemon: DaemonProcess, fake: FakeDaraja, api: httpx2.AsyncClient) -> None:
        self.daemon, self.fake, self.api = daemon, fake, api
        self.hooks = httpx2.AsyncClient()

    async def accepted(self, operation: str, payload: dict[str, Any]) -> str:
        answer = await self.api.post("/v1/calls", json={"operation": operation, "payload": payload})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def call(self, call_id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.api.get(f"/v1/calls/{call_id}")).json()
        return found

    async def reaches(self, call_id: str, *states: str) -> dict[str, Any]:
        with anyio.fail_after(ENDS_S):
            while True:
                call = await self.call(call_id)
                if call["state"] in states:
                    return call
                await anyio.sleep(0.02)

    async def inbox(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.api.get("/v1/webhooks")).json()["items"]
        return found

    async def deliver(self, callback: Callback) -> httpx2.Response:
        return await self.hooks.post(callback.url, content=callback.body, headers=callback.headers)

    async def deliver_all(self) -> None:
        """Bring every callback to where it belongs, those that come of it as well."""
        while self.fake.callbacks:
            assert (await self.deliver(self.fake.callbacks.popleft())).status_code == 200
            await anyio.sleep(0.05)


@pytest.fixture(params=["1s"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    directory, fake = Path(tempfile.mkdtemp(prefix="ide2e")), FakeDaraja()
    async with serving(fake) as server:
        tables = TABLES.format(
            port=unused_port(), url=server.url, first=request.param, initiator=INITIATOR
        )
        with DaemonProcess(directory, tables, environ=ENVIRON) as daemon:
            daemon.start()
            daemon.wait_ready()
            async with daemon.client() as api:
                made = Stage(daemon, fake, api)
                yield made
                await made.hooks.aclose()
            assert daemon.stop() == 0
    shutil.rmtree(directory)


async def test_payment_completes_by_its_callback_and_one_query(stage: Stage) -> None:
    call_id = await stage.accepted("payment.initiate", PAYMENT)
    waiting = await stage.reaches(call_id, "waiting")
    assert waiting["result"]["status"] == "pending"

    await stage.deliver_all()

    call = await stage.reaches(call_id, "completed")
    assert call["result"]["status"] == "paid"
    assert call["result"]["receipt"] == "SAB0000002"
    assert stage.fake.effects.total() == 1
    assert PASSKEY not in f"{call}{stage.daemon.output()}"


async def test_payment_ends_without_any_callback(stage: Stage) -> None:
    stage.fake.queries_before = 1

    paid = await stage.accepted("payment.initiate", PAYMENT)
    await stage.reaches(paid, "completed")
    stage.fake.default = CANCELS
    cancelled = await stage.accepted("payment.initiate", PAYMENT)

    assert (await stage.reaches(cancelled, "failed"))["reason"] == "cancelled"


async def test_prompt_whose_reply_was_lost_is_not_repeated(stage: Stage) -> None:
    async def drop(request: Received) -> None:
        if request.target == PUSH:
            raise Dropped

    stage.fake.before_reply = drop
    call_id = await stage.accepted("payment.initiate", PAYMENT)
    await stage.reaches(call_id, "unknown")

    await stage.deliver_all()

    with anyio.fail_after(ENDS_S):
        while "receipt" not in ((await stage.call(call_id))["result"] or {}):
            await anyio.sleep(0.02)
    assert stage.fake.prompted.total() == 1


@pytest.mark.parametrize("stage", ["60s"], indirect=True)
async def test_forged_callbacks_end_nothing_wrongly(stage: Stage) -> None:
    stage.fake.default = CANCELS
    call_id = await stage.accepted("payment.initiate", PAYMENT)
    await stage.reaches(call_id, "waiting")
    real = stage.fake.callbacks.popleft()
    forged = real.body.replace(b'"ResultCode": 1032', b'"ResultCode": 0')

    elsewhere = await stage.deliver(Callback(url=f"{real.url[:-1]}x", body=forged))
    await stage.deliver(Callback(url=real.url, body=forged))

    assert elsewhere.status_code == 404
    assert (await stage.reaches(call_id, "failed"))["reason"] == "cancelled"


@pytest.mark.parametrize("stage", ["60s"], indirect=True)
async def test_other_sum_is_never_called_paid(stage: Stage) -> None:
    call_id = await stage.accepted("payment.initiate", PAYMENT)
    await stage.reaches(call_id, "waiting")
    real = stage.fake.callbacks.popleft()

    await stage.deliver(Callback(url=real.url, body=real.body.replace(b"2500.0", b"25.0")))

    assert (await stage.reaches(call_id, "unknown"))["reason"] == "amount_differs"


async def test_payout_completes_by_the_answer_to_a_query(stage: Stage) -> None:
    call_id = await stage.accepted("payment.payout", PAYOUT)
    await stage.reaches(call_id, "waiting")

    with anyio.fail_after(ENDS_S):
        while (call := await stage.reaches(call_id, "waiting", "completed"))["state"] == "waiting":
            await stage.deliver_all()

    assert call["result"]["receipt"] == "SAB0000001"
    assert stage.fake.payouts.total() == 1


async def test_failed_payout_fails(stage: Stage) -> None:
    stage.fake.behaviour["254712345678"] = NO_FUNDS
    call_id = await stage.accepted("payment.payout", PAYOUT)

    with anyio.fail_after(ENDS_S):
        while (await stage.call(call_id))["state"] != "failed":
            await stage.deliver_all()
            await anyio.sleep(0.05)


async def test_customer_who_pays_unasked_is_an_event(stage: Stage) -> None:
    listed = (await stage.api.get("/v1/webhook-endpoints")).json()["items"]
    [address] = [one["address"] for one in listed if one["connection"] == "shule"]

    for _ in range(2):
        callback = Callback(url=f"{address}/confirmation", body=customer_body("SAB1", 150))
        assert (await stage.deliver(callback)).status_code == 200

    with anyio.fail_after(ENDS_S):
        while (kept := await stage.inbox())[0]["state"] == "new":
            await anyio.sleep(0.02)
    assert [(one["state"], one["note"]) for one in kept] == [
        ("applied", "payment.received: nobody had asked for it.")
    ]


async def test_validation_is_answered_by_the_default_of_the_connection(stage: Stage) -> None:
    listed = (await stage.api.get("/v1/webhook-endpoints")).json()["items"]
    [address] = [one["address"] for one in listed if one["connection"] == "shule"]

    answer = await stage.deliver(
        Callback(url=f"{address}/validation", body=customer_body("SAB1", 150))
    )

    assert answer.json() == {"ResultCode": "C2B00016", "ResultDesc": "Rejected"}
