"""Two tenants with different credentials for one provider: each call carries its own."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.e2e.provider import Provider, providing
from tests.e2e.running import command, look
from tests.faults.daemon import DaemonProcess

SECRETS = {"acme": "credential-of-acme", "bolt": "credential-of-bolt"}
CALLS = 20


def config(directory: Path, provider: Provider) -> str:
    """Return a configuration in which each tenant has its own account with the provider."""
    tables = ['[connections.console]\nprovider = "console"\n']
    for tenant, secret in SECRETS.items():
        file = directory / f"{tenant}.secret"
        file.touch(mode=0o600)
        file.write_text(secret)
        tables.append(
            f"[tenants.{tenant}]\n"
            f"[connections.{tenant}-partner]\n"
            f'provider = "http"\n'
            f"tenant = {json.dumps(tenant)}\n"
            f"[connections.{tenant}-partner.config]\n"
            f"base_url = {json.dumps(provider.url)}\n"
            f"allow_private = true\n"
            f'allowed_methods = ["POST"]\n'
            f'auth = {{ kind = "bearer", token = {json.dumps(f"file:{file}")} }}\n'
        )
    return "".join(tables)


@pytest.fixture
async def provider() -> Any:
    async with providing() as running:
        yield running


@pytest.fixture
def daemon(short_path: Path, provider: Provider) -> Iterator[DaemonProcess]:
    with DaemonProcess(short_path, config(short_path, provider)) as daemon:
        daemon.start()
        daemon.wait_ready()
        yield daemon


async def holder(daemon: DaemonProcess, tenant: str) -> httpx2.AsyncClient:
    words = ("keys", "create", f"{tenant}-app", "--role", "staff", "--tenant", tenant)
    key = (await command(daemon, *words)).strip()
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.AsyncClient(base_url=daemon.url, headers=headers, timeout=30)


async def order(client: httpx2.AsyncClient, number: int) -> str:
    body = {
        "operation": "http.request",
        "payload": {"method": "POST", "path": "/ok", "json": {"number": number}},
    }
    answer = await client.post("/v1/calls", json=body)
    assert answer.status_code == 202, answer.text
    call_id: str = answer.json()["id"]
    return call_id


async def test_each_call_carries_the_credentials_of_its_tenant(
    daemon: DaemonProcess, provider: Provider
) -> None:
    clients = {tenant: await holder(daemon, tenant) for tenant in SECRETS}
    calls: dict[str, list[str]] = {tenant: [] for tenant in SECRETS}
    async with anyio.create_task_group() as group:
        for tenant, client in clients.items():

            async def order_all(tenant: str = tenant, client: httpx2.AsyncClient = client) -> None:
                calls[tenant] = [await order(client, number) for number in range(CALLS)]

            group.start_soon(order_all)
    done = [
        await look(client, call_id, wait_s=20)
        for tenant, client in clients.items()
        for call_id in calls[tenant]
    ]
    foreign = await clients["acme"].get(f"/v1/calls/{calls['bolt'][0]}")
    listed = (await clients["acme"].get("/v1/calls?limit=500")).json()["items"]

    assert {one["state"] for one in done} == {"completed"}
    assert {(one["tenant"], one["connection"]) for one in done} == {
        ("acme", "acme-partner"),
        ("bolt", "bolt-partner"),
    }
    sent = Counter(one.headers["authorization"] for one in provider.requests("/ok"))
    assert sent == {f"Bearer {secret}": CALLS for secret in SECRETS.values()}
    assert foreign.status_code == 404
    assert {one["id"] for one in listed} == set(calls["acme"])
    for client in clients.values():
        await client.aclose()


async def test_quota_and_suspension_are_taken_over_by_a_reload(
    daemon: DaemonProcess, short_path: Path, provider: Provider
) -> None:
    acme, bolt = await holder(daemon, "acme"), await holder(daemon, "bolt")
    await order(acme, 1)
    file = short_path / "integrationd.toml"
    text = file.read_text()
    limited = text.replace("[tenants.acme]\n", "[tenants.acme]\ndaily_quota = 2\n")
    limited = limited.replace("[tenants.bolt]\n", '[tenants.bolt]\nstatus = "suspended"\n')
    file.write_text(limited)
    await command(daemon, "reload")
    await order(acme, 2)
    body = {"operation": "http.request", "payload": {"method": "POST", "path": "/ok"}}
    beyond = await acme.post("/v1/calls", json=body)
    daemon.kill()
    daemon.start()
    daemon.wait_ready()
    after = await acme.post("/v1/calls", json=body)
    suspended = await bolt.post("/v1/calls", json=body)

    assert [one.json()["code"] for one in (beyond, after)] == ["tenant_quota"] * 2
    assert 0 < int(after.headers["retry-after"]) <= 86_400
    assert (suspended.status_code, suspended.json()["code"]) == (403, "tenant_suspended")
    shown = await command(daemon, "calls", "--tenant", "acme", "--json")
    assert len(json.loads(shown)["items"]) == 2
    await acme.aclose()
    await bolt.aclose()
