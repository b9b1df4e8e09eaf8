"""The daemon, the provider and Paystack together: nobody is charged, paid or refunded twice."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.e2e.running import look, submit
from tests.faults.daemon import DaemonProcess, free_port
from tests.plugins.paystack_account import KEY, Callback
from tests.plugins.paystack_provider import PAYMENT, PAYOUT, Line, line

TABLES = """\
[webhooks]
listen = "127.0.0.1:{port}"
[delivery]
backoff_first = "20ms"
backoff_cap = "50ms"
timeout = "2s"
[delivery.breaker]
failures = 1000
[connections.pay]
provider = "paystack"
[connections.pay.config]
base_url = "{url}"
allow_private = true
secret_key = "env:PAYSTACK_KEY"
[connections.pay.query]
first = "200ms"
cap = "500ms"
"""


class Stage:
    """A running daemon, the Paystack that it speaks to, and the way back."""

    def __init__(self, daemon: DaemonProcess, at: Line, hooks: str) -> None:
        self.daemon = daemon
        self.at = at
        self.hooks = hooks

    async def tell(self, callback: Callback, headers: dict[str, str] | None = None) -> int:
        """Deliver a webhook and return the status of the answer."""
        async with httpx2.AsyncClient() as client:
            answer = await client.post(
                f"{self.hooks}/webhooks/paystack",
                content=callback.body,
                headers={**callback.headers, **(headers or {})},
            )
        return answer.status_code


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    directory, port = Path(tempfile.mkdtemp(prefix="ide2e")), free_port()
    async with line() as at:
        tables = TABLES.format(url=at.url, port=port)
        with DaemonProcess(directory, tables, environ={"PAYSTACK_KEY": KEY}) as daemon:
            daemon.start()
            daemon.wait_ready()
            yield Stage(daemon, at, f"http://127.0.0.1:{port}")
            assert daemon.stop() == 0
    shutil.rmtree(directory)


@pytest.fixture
async def client(stage: Stage) -> AsyncIterator[httpx2.AsyncClient]:
    stage.at.mend()
    stage.at.fake.callbacks.clear()
    async with stage.daemon.client() as opened:
        yield opened


async def ended(client: httpx2.AsyncClient, call: dict[str, Any]) -> dict[str, Any]:
    """Return a call as soon as it is final, or for a person to look at."""
    with anyio.fail_after(10):
        while True:
            found = await look(client, call["id"])
            if found["state"] not in ("pending", "processing", "waiting") and (
                found["state"] != "unknown" or found["reason"] == "amount_differs"
            ):
                return found
            await anyio.sleep(0.05)


async def page_of(client: httpx2.AsyncClient, **changes: Any) -> tuple[dict[str, Any], str]:
    call = await submit(client, "payment.initiate", PAYMENT | changes)
    assert call["state"] == "waiting", call
    return call, call["result"]["redirect_url"]


async def test_payment_is_completed_by_its_webhook_however_often_it_comes(
    stage: Stage, client: httpx2.AsyncClient
) -> None:
    call, url = await page_of(client)
    stage.at.fake.pay(url)
    callback = stage.at.fake.callbacks.pop()

    forged = await stage.tell(callback, {"x-paystack-signature": "0" * 128})
    told = [await stage.tell(callback) for _ in range(3)]

    found = await ended(client, call)
    assert (forged, told) == (401, [200, 200, 200])
    assert found["state"] == "completed"
    assert found["result"]["status"] == "paid"
    assert found["result"]["redirect_url"] == url


async def test_payment_is_completed_without_any_webhook(
    stage: Stage, client: httpx2.AsyncClient
) -> None:
    call, url = await page_of(client)
    stage.at.fake.pay(url)

    assert (await ended(client, call))["state"] == "completed"


async def test_another_sum_is_never_called_paid(stage: Stage, client: httpx2.AsyncClient) -> None:
    call, url = await page_of(client)
    stage.at.fake.pay(url, amount=100000)
    await stage.tell(stage.at.fake.callbacks.pop())

    found = await ended(client, call)

    assert (found["state"], found["reason"]) == ("unknown", "amount_differs")


async def test_page_lost_with_the_reply_fails_and_nobody_is_charged(
    stage: Stage, client: httpx2.AsyncClient
) -> None:
    stage.at.drop_next_effect()

    call = await submit(client, "payment.initiate", PAYMENT)

    found = await ended(client, call)
    assert (found["state"], found["reason"]) == ("failed", "page_lost")
    assert ("charge", call["id"]) not in stage.at.fake.effects


async def test_payout_without_an_answer_is_asked_about_and_paid_once(
    stage: Stage, client: httpx2.AsyncClient
) -> None:
    await submit(client, "payment.payout", PAYOUT)
    stage.at.drop_next_effect()
    call = await submit(client, "payment.payout", PAYOUT)
    stage.at.fake.end_transfer(call["id"], "success")

    found = await ended(client, call)

    assert found["state"] == "completed"
    assert stage.at.fake.effects["transfer", call["id"]] == 1
    assert [body["reference"] for body in stage.at.posted("/transfer")].count(call["id"]) == 1


async def test_reversal_after_success_contradicts(stage: Stage, client: httpx2.AsyncClient) -> None:
    call = await submit(client, "payment.payout", PAYOUT)
    for status in ("success", "reversed"):
        stage.at.fake.end_transfer(call["id"], status)
        await stage.tell(stage.at.fake.callbacks.pop())
        found = await ended(client, call)

    while not found["contradiction"]:
        await anyio.sleep(0.05)
        found = await look(client, call["id"])
    assert found["state"] == "completed"
    assert "reversed" in found["contradiction"]


async def test_refund_is_completed_by_a_query_since_its_webhook_does_not_name_it(
    stage: Stage, client: httpx2.AsyncClient
) -> None:
    call, url = await page_of(client)
    stage.at.fake.pay(url)
    await ended(client, call)

    back = await submit(client, "payment.refund", {"payment": call["id"]})
    stage.at.fake.end_refund(back["provider_reference"], "processed")

    found = await ended(client, back)
    assert (found["state"], found["result"]["status"]) == ("completed", "refunded")
    assert stage.at.fake.effects["refund", call["id"]] == 1


async def test_charge_that_nobody_asked_for_is_an_event(
    stage: Stage, client: httpx2.AsyncClient
) -> None:
    charge = {"id": 1, "reference": "T1", "status": "success", "amount": 500, "currency": "NGN"}
    stage.at.fake.tell("charge.success", charge)

    assert await stage.tell(stage.at.fake.callbacks.pop()) == 200

    note = ""
    with anyio.fail_after(10):
        while "payment.received" not in note:
            answer = await client.get("/v1/webhooks")
            note = answer.json()["items"][0]["note"] or ""
            await anyio.sleep(0.05)
    assert note == "payment.received: nobody had asked for it."
