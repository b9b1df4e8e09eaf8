"""The daemon, the provider and its reports together: what became of messages, however it comes."""

import contextlib
import json
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from tests.e2e.running import look
from tests.faults.daemon import DaemonProcess
from tests.plugins.africastalking_server import (
    ANN,
    BEN,
    CAT,
    KEY,
    Gateway,
    Trouble,
    gateway,
    incoming,
    opt_out,
    report,
)
from tests.sdk.scripted_server import unused_port

from integrationd.journal import sqlite

ENDS_S = 15.0
SLOW = Trouble(after_s=0.7)
TABLES = """\
[webhooks]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
[delivery]
backoff_first = "20ms"
backoff_cap = "50ms"
timeout = "5s"
[connections.at]
provider = "africastalking"
[connections.at.config]
base_url = "{url}"
allow_private = true
username = "sandbox"
api_key = "env:AT_API_KEY"
batch_size = 2
"""


class Stage:
    """A running daemon, the gateway that it sends through, and where its reports go.

    Attributes:
        at: The gateway.
        address: The connection's own lasting address.
    """

    def __init__(
        self, daemon: DaemonProcess, at: Gateway, api: httpx2.AsyncClient, address: str
    ) -> None:
        self.at, self.address = at, address
        self._daemon, self._api = daemon, api

    async def accepted(self, numbers: list[str]) -> str:
        payload = {"recipients": numbers, "message": "No school on Friday"}
        body = {"operation": "sms.send_bulk", "payload": payload}
        answer = await self._api.post("/v1/calls", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def told(self, *bodies: bytes, path: str = "") -> list[int]:
        """Post webhooks one after the other and return how they were answered."""
        async with httpx2.AsyncClient() as client:
            kind = {"content-type": "application/x-www-form-urlencoded"}
            url = f"{self.address}{path}"
            return [
                (await client.post(url, content=body, headers=kind)).status_code for body in bodies
            ]

    async def completed(self, call_id: str) -> None:
        await self.until(lambda: self._is_completed(call_id))

    async def deliveries(self, call_id: str) -> dict[str, str | None]:
        call = await look(self._api, call_id)
        return {part["recipient"]: part["delivery"] for part in call["parts"]}

    async def parts_are(self, call_id: str, **words: str | None) -> None:
        """Wait until the parts show these words, by the recipients' names."""
        numbers = {"ann": ANN, "ben": BEN, "cat": CAT}
        wanted = {numbers[name]: word for name, word in words.items()}

        async def are() -> bool:
            return await self.deliveries(call_id) == wanted

        await self.until(are)

    async def inbox(self) -> list[str]:
        """Return the states of the webhooks, the first one first, once all are worked on."""

        async def are_worked_on() -> bool:
            return "new" not in await self._states()

        await self.until(are_worked_on)
        return await self._states()

    async def requested(self, count: int) -> None:
        """Wait until the gateway has been asked so often."""

        async def is_so() -> bool:
            return len(self.at.requests) >= count

        await self.until(is_so)

    async def until(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        with anyio.fail_after(ENDS_S):
            while not await is_so():
                await anyio.sleep(0.02)

    async def events(self, *types: str) -> list[tuple[str, dict[str, Any]]]:
        """Stop the daemon and return the events of these types, in their order."""
        assert await anyio.to_thread.run_sync(self._daemon.stop) == 0
        with contextlib.closing(sqlite.connect(self._daemon.journal, read_only=True)) as db:
            found = db.execute("SELECT type, data FROM event ORDER BY seq").fetchall()
        return [(row[0], json.loads(row[1])) for row in found if row[0] in types]

    async def _is_completed(self, call_id: str) -> bool:
        return bool((await look(self._api, call_id))["state"] == "completed")

    async def _states(self) -> list[str]:
        items = (await self._api.get("/v1/webhooks")).json()["items"]
        return [item["state"] for item in reversed(items)]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    directory = Path(tempfile.mkdtemp(prefix="ide2e"))
    async with gateway() as at:
        tables = TABLES.format(url=at.url, port=unused_port())
        with DaemonProcess(directory, tables, environ={"AT_API_KEY": KEY}) as daemon:
            daemon.start()
            await anyio.to_thread.run_sync(daemon.wait_ready)
            async with daemon.client() as api:
                listed = (await api.get("/v1/webhook-endpoints")).json()["items"]
                [address] = [one["address"] for one in listed if one["connection"] == "at"]
                yield Stage(daemon, at, api, address)
    shutil.rmtree(directory)


async def test_reports_before_the_answer_twice_and_out_of_order_come_to_their_parts(
    stage: Stage,
) -> None:
    stage.at.troubles.extend([Trouble(), SLOW])
    call_id = await stage.accepted([ANN, BEN, CAT])
    await stage.requested(2)

    early = [report(ANN), report(ANN), report(BEN, "Failed", failureReason="UserInBlackList")]
    assert await stage.told(*early) == [200, 200, 200]
    assert await stage.inbox() == ["unmatched", "unmatched"]
    await stage.completed(call_id)
    await stage.parts_are(call_id, ann="delivered", ben="failed", cat=None)
    await stage.told(report(CAT), report(CAT, "Sent"), report(CAT, "Expired"), report(ANN, "Sent"))

    await stage.parts_are(call_id, ann="delivered", ben="failed", cat="delivered")
    assert set(await stage.inbox()) == {"applied"}
    found = await stage.events("sms.delivered", "sms.failed")
    assert [(kind, data["part"]) for kind, data in found] == [
        ("sms.delivered", 0),
        ("sms.failed", 1),
        ("sms.delivered", 2),
    ]
    assert found[0][1]["provider_reference"] == "ATXid_0111"
    assert (found[1][1]["reason"], found[1][1]["failure_reason"]) == (
        "opted_out",
        "UserInBlackList",
    )


async def test_report_while_others_are_sent_to_has_nobody_sent_to_twice(stage: Stage) -> None:
    stage.at.codes[CAT] = deque([500, 101])
    stage.at.troubles.extend([Trouble(), Trouble(), SLOW])
    call_id = await stage.accepted([ANN, BEN, CAT])
    await stage.requested(3)

    await stage.told(report(ANN))
    assert await stage.inbox() == ["held"]

    await stage.completed(call_id)
    await stage.parts_are(call_id, ann="delivered", ben=None, cat=None)
    assert [number for number, _ in stage.at.sent] == [ANN, BEN, CAT]
    assert [kind for kind, _ in await stage.events("sms.delivered", "call.completed")] == [
        "call.completed",
        "sms.delivered",
    ]


async def test_what_comes_in_unasked_is_an_event_once(stage: Stage) -> None:
    await stage.told(incoming(), incoming())
    await stage.told(incoming("Second", id="7a20"), path="/incoming")
    await stage.told(opt_out(), path="/optout")

    assert await stage.inbox() == ["applied"] * 3
    found = await stage.events("sms.received", "sms.opted_out")
    assert [(kind, data.get("text", data.get("phone"))) for kind, data in found] == [
        ("sms.received", "Who owes fees?"),
        ("sms.received", "Second"),
        ("sms.opted_out", ANN),
    ]


async def test_report_to_an_address_that_is_not_ours_is_refused(stage: Stage) -> None:
    ours = stage.address
    plain = f"{ours.partition('/hooks/')[0]}/webhooks/sms/delivery"

    stage.address = plain
    unproved = await stage.told(report(ANN))
    stage.address = f"{ours[:-1]}{'0' if ours[-1] != '0' else '1'}"
    unknown = await stage.told(report(ANN))

    assert (unproved, unknown) == ([401], [404])
    assert await stage.inbox() == []
