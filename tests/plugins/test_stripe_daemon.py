"""Stripe through a real daemon: asked for, paid, told by webhook, and found again when lost."""

import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from starlette.requests import Request
from tests.e2e.running import look, submit
from tests.faults.daemon import DaemonProcess, free_port
from tests.plugins.stripe_account import SECRET
from tests.plugins.stripe_provider import Running, stripe
from tests.plugins.stripe_server import KEY, DroppedError, undisturbed

PAYMENT = {
    "amount": "2500.00",
    "currency": "KES",
    "reference": "ord-7781",
    "return_url": "https://ex.test/ok",
}
TABLES = """\
[webhooks]
listen = "127.0.0.1:{port}"
public_url = "https://hooks.example.com"
[connections.cards]
provider = "stripe"
config = {{ secret_key = "{key}", webhook_secret = "{secret}", base_url = "{url}", {private} }}
query = {{ first = "200ms", cap = "500ms" }}
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="idstripe"))
    yield path
    shutil.rmtree(path)


class World:
    """A daemon that pays through Stripe, and Stripe."""

    def __init__(self, at: Running, client: httpx2.AsyncClient, hooks: str) -> None:
        self.at, self.client, self._hooks = at, client, hooks

    async def deliver(self) -> list[int]:
        """Deliver all webhooks that are on their way; return how they were answered."""
        callbacks = self.at.fake.callbacks
        answered = []
        async with httpx2.AsyncClient() as client:
            while callbacks:
                one = callbacks.popleft()
                url = f"{self._hooks}/webhooks/stripe/cards"
                reply = await client.post(url, content=one.body, headers=one.headers)
                answered.append(reply.status_code)
        return answered

    async def until(self, call_id: str, state: str) -> dict[str, Any]:
        """Return the call once it is in a state."""
        with anyio.fail_after(15):
            while (call := await look(self.client, call_id))["state"] != state:
                await anyio.sleep(0.05)
        return call


@pytest.fixture
async def world(directory: Path) -> AsyncIterator[World]:
    async with stripe() as at:
        at.clock.advance(time.time() - at.clock.now_ms() / 1000)
        port = free_port()
        private = "allow_private = true"
        tables = TABLES.format(port=port, key=KEY, secret=SECRET, url=at.url, private=private)
        with DaemonProcess(directory, tables) as daemon:
            daemon.start()
            await anyio.to_thread.run_sync(daemon.wait_ready)
            async with daemon.client() as client:
                yield World(at, client, f"http://127.0.0.1:{port}")
            assert await anyio.to_thread.run_sync(daemon.stop) == 0


async def test_payment_is_completed_by_its_webhook_and_confirmed_by_the_other(
    world: World,
) -> None:
    call = await submit(world.client, "payment.initiate", PAYMENT)
    assert call["state"] == "waiting"
    assert call["result"]["redirect_url"].startswith("https://checkout.stripe.com/")

    world.at.fake.pay(call["result"]["provider_reference"])
    assert await world.deliver() == [200, 200]

    call = await world.until(call["id"], "completed")
    assert call["result"]["status"] == "paid"
    assert call["result"]["receipt"].startswith("pi_")
    assert call["result"]["provider_reference"].startswith("cs_")
    assert not call.get("contradiction")


async def test_payment_is_completed_by_a_query_where_webhooks_are_lost(world: World) -> None:
    call = await submit(world.client, "payment.initiate", PAYMENT)

    world.at.fake.pay(call["result"]["provider_reference"])

    call = await world.until(call["id"], "completed")
    assert call["result"]["status"] == "paid"
    assert world.at.fake.charged == {"ord-7781": 250000}


async def test_lost_answer_leads_to_the_same_page(world: World) -> None:
    async def drop_once(_request: Request) -> None:
        world.at.fake.before_reply = undisturbed
        raise DroppedError

    world.at.fake.before_reply = drop_once

    call = await submit(world.client, "payment.initiate", PAYMENT)
    call = await world.until(call["id"], "waiting")

    assert list(world.at.fake.payments) == [call["result"]["provider_reference"]]


async def test_forged_webhook_changes_nothing(world: World) -> None:
    call = await submit(world.client, "payment.initiate", PAYMENT)
    session = world.at.fake.payments[call["result"]["provider_reference"]]
    paid = session | {"payment_status": "paid", "status": "complete"}

    world.at.fake.tell("checkout.session.completed", paid, "whsec_another")

    assert await world.deliver() == [401]
    assert (await look(world.client, call["id"]))["state"] == "waiting"


async def test_other_amount_is_never_called_paid(world: World) -> None:
    call = await submit(world.client, "payment.initiate", PAYMENT)
    session = world.at.fake.payments[call["result"]["provider_reference"]]
    paid = session | {"payment_status": "paid", "status": "complete", "amount_total": 100}

    world.at.fake.tell("checkout.session.completed", paid)

    assert await world.deliver() == [200]
    call = await world.until(call["id"], "unknown")
    assert "KES 2500.00 was asked for, but KES 1.00 was paid" in json.dumps(call)


async def test_secret_of_an_intent_reaches_the_app_and_no_log(
    world: World, directory: Path
) -> None:
    call = await submit(world.client, "payment.initiate", PAYMENT | {"channel": "intent"})

    [intent] = world.at.fake.payments.values()
    assert call["result"]["client_secret"] == intent["client_secret"]
    assert intent["client_secret"] not in json.dumps(call["attempts"])
    assert intent["client_secret"] not in (directory / "daemon.log").read_text()
