"""A school's own app against the real daemon: every path of document 004, section 2.4, in a row."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.e2e.running import REHEARSAL
from tests.faults.daemon import DaemonProcess, free_port
from tests.plugins.mpesa_callbacks import Prompt, customer_body, prompt_body

from integrationd.api.users.prefix import PREFIX

PHONE = "+254711000111"
SECRET = "sk_test_abcdef"
WITHIN_S = 15.0
TABLES = """\
{rehearsal}
[webhooks]
listen = "127.0.0.1:{port}"
[connections.console]
provider = "console"
[connections.fees]
provider = "mpesa"
config = {{ consumer_key = "key", consumer_secret = "secret", shortcode = "174379" }}
webhook = {{ allow_from = ["127.0.0.0/8"] }}
[connections.at]
provider = "africastalking"
enabled = true
config = {{ username = "sandbox", api_key = "key" }}
webhook = {{ allow_from = ["127.0.0.0/8"] }}
[connections.cards]
provider = "paystack"
config = {{ secret_key = "{secret}" }}
[routes."sms.send"]
order = ["console"]
"""


class School:
    """The daemon, and what the school's app and its providers ask of it."""

    def __init__(self, directory: Path) -> None:
        self._hooks = free_port()
        tables = TABLES.format(rehearsal=REHEARSAL, port=self._hooks, secret=SECRET)
        self.daemon = DaemonProcess(directory, tables)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Return what a path of the users' answers."""
        async with self.daemon.client() as client:
            answer = await client.request(method, PREFIX + path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    async def send(self, path: str, body: Any) -> Any:
        """Give an operation and return its item once it has left the queue."""
        return await self.ask("POST", path, body, Prefer="wait=10")

    async def told(self, path: str, body: bytes, **headers: str) -> int:
        """Post what a provider posts and return the status that it gets."""
        url = f"http://127.0.0.1:{self._hooks}{path}"
        async with httpx2.AsyncClient(timeout=20) as client:
            return (await client.post(url, content=body, headers=headers)).status_code


@pytest.fixture
def school(short_path: Path) -> Iterator[School]:
    made = School(short_path)
    with made.daemon as daemon:
        daemon.start()
        daemon.wait_ready()
        yield made


async def test_school_configures_sends_and_looks(school: School) -> None:
    providers = await school.ask("GET", "providers")
    payments = await school.ask("GET", "providers/payment")
    config = {"provider": "rehearsal", "environment": "sandbox", "is_primary": True, "id": "own"}
    made = await school.ask("POST", "configs", config)
    off = await school.ask("PUT", "configs/own", {"is_enabled": False})
    configs = await school.ask("GET", "configs")
    tested = await school.ask("POST", "configs/stage/test")
    sms = await school.send("sms/send", {"phoneNumber": PHONE, "message": "No school today"})
    mail = {"to": "ann@x.test", "subject": "Fees", "htmlContent": "<p>Due</p>"}
    email = await school.send("email/send", mail)
    push = await school.send("push/send", {"token": "t" * 20, "title": "Fees"})

    assert {"mpesa", "africastalking", "smtp"} <= {one["code"] for one in providers["items"]}
    assert {one["category"] for one in payments["items"]} == {"payment"}
    assert (made["is_enabled"], made["is_primary"], off["is_enabled"]) == (True, True, False)
    assert {"own", "fees", "console"} <= {one["id"] for one in configs["items"]}
    assert tested["last_test_status"] == "failed"
    assert [one["status"] for one in (sms, email, push)] == ["completed"] * 3
    queue = (await school.ask("GET", "queue"))["items"]
    assert [one["id"] for one in queue] == [push["id"], email["id"], sms["id"]]
    logs = (await school.ask("GET", "logs?direction=outbound&status=success"))["items"]
    assert [one["queue_id"] for one in logs] == [one["id"] for one in queue]
    assert (await school.ask("GET", f"logs/{logs[0]['id']}"))["operation"] == "push.send"


async def test_school_mends_its_queue_and_finds_it_so_after_a_kill(school: School) -> None:
    step = {"script": ["rejected"]}
    failed = await school.send("rehearsal/hold?connection=stage", step)
    late = await school.ask(
        "POST", "sms/send?not_before=2035-01-01T00:00:00Z", {"to": PHONE, "message": "x"}
    )

    school.daemon.kill()
    school.daemon.start()
    school.daemon.wait_ready()
    retried = await school.ask("POST", f"queue/{failed['id']}/retry")
    cancelled = await school.ask("DELETE", f"queue/{late['id']}")
    after = await school.ask("GET", f"queue/{failed['id']}", None, Prefer="wait=10")

    assert (failed["status"], retried["status"], cancelled["status"]) == (
        "failed",
        "pending",
        "cancelled",
    )
    assert (after["status"], after["attempts"]) == ("failed", 1)
    assert [one["code"] for one in after["error_log"]] == ["refused", "refused"]


async def test_providers_reach_the_paths_of_the_documents(school: School) -> None:
    prompt = Prompt(
        checkout_id="ws_CO_1",
        phone="254711000111",
        amount=2500,
        account="ADM1042",
        callback="",
        code="0",
        receipt="SAB12CD345",
    )
    paid = json.dumps({"event": "charge.success", "data": {"id": 1, "reference": "TKT-1"}}).encode()
    signature = hmac.new(SECRET.encode(), paid, hashlib.sha512).hexdigest()
    form = {"content-type": "application/x-www-form-urlencoded"}

    answers = {
        "callback": await school.told("/webhooks/mpesa/callback", prompt_body(prompt)),
        "validation": await school.told(
            "/webhooks/mpesa/validation", customer_body("SAB12CD346", 150)
        ),
        "delivery": await school.told(
            "/webhooks/sms/delivery",
            b"id=ATXid_1&status=Success&phoneNumber=%2B254711000111",
            **form,
        ),
        "signed": await school.told(
            "/api/v1/webhooks/paystack", paid, **{"x-paystack-signature": signature}
        ),
        "forged": await school.told(
            "/webhooks/paystack", paid + b" ", **{"x-paystack-signature": signature}
        ),
        "nobody": await school.told("/webhooks/flutterwave", b"{}"),
    }

    assert answers == {
        "callback": 200,
        "validation": 200,
        "delivery": 200,
        "signed": 200,
        "forged": 401,
        "nobody": 404,
    }
    inbound: list[Any] = []
    with anyio.fail_after(WITHIN_S):
        while len(inbound) < 4:
            inbound = (await school.ask("GET", "logs?direction=inbound"))["items"]
            await anyio.sleep(0.05)
    assert sorted(one["provider"] for one in inbound) == [
        "africastalking",
        "mpesa",
        "mpesa",
        "paystack",
    ]
    assert {one["ip_address"] for one in inbound} == {"127.0.0.1"}
    addresses = {one["id"]: one for one in (await school.ask("GET", "webhooks"))["items"]}
    assert {name: one["receive_count"] for name, one in addresses.items()} == {
        "fees": 2,
        "at": 1,
        "cards": 1,
    }
    assert addresses["cards"]["events"] == ["charge.success"]
