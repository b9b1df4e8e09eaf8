"""A daemon whose secrets are all canaries, and a world that tells them back to it.

``Aviary`` puts canaries in wherever a secret can be, has them told in every way, and collects
what the daemon keeps, writes and answers.
"""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
from tests import program
from tests.faults.daemon import DaemonProcess, free_port
from tests.faults.leaks import canary, encoded
from tests.sdk.scripted_server import Peer, Received

from integrationd.clock import SystemClock
from integrationd.settings import load
from integrationd.settings.tenants import SHARED_SECRETS_OF
from integrationd.supervisor.secrets import standalone

PLUGINS = Path(__file__).with_name("canary_plugins")
SIMPLE = "+/=."
HOWS = (
    *("result", "refusal", "cut", "retry", "reference", "token"),
    *("raise", "chain", "print", "log", "warn"),
)
KINDS = ("env", "file", "credential", "vault", "inline", "api")
COMMANDS = (
    *(
        "status",
        "calls --limit 100",
        "events --limit 200",
        "connections",
        "webhooks",
        "subscriptions",
    ),
    *(
        "keys list",
        "vault list",
        "vault status",
        "plugins",
        "tenants",
        "config check",
        "config diff",
    ),
    *("doctor", "verify", "audit verify", "connections --json", "calls --json --limit 100"),
)
PATHS = (
    *("status", "config", "connections", "providers", "tenants", "keys", "vault", "vault/secrets"),
    *("calls?limit=100", "attempts?limit=100", "events?limit=500", "webhooks", "subscriptions"),
    *("webhook-endpoints", "ledger", "openapi.json"),
)
_TABLES = """
[log]
level = "debug"
format = "{form}"

[plugins]
paths = ["{plugins}"]

[webhooks]
listen = "127.0.0.1:{port}"

[delivery]
attempts = 2
backoff_first = "10ms"
backoff_cap = "20ms"

[delivery.breaker]
failures = 1000
"""


class Aviary:
    """One daemon and its canaries.

    Args:
        directory: Where its files are; of a short path.
        url: Where the providers are.
        count: How many canaries there are to be.
        form: Of the log.

    Attributes:
        daemon: The daemon.
        made: Secrets that the daemon has made by itself, which are no canaries.
        answers: What it has answered and printed, by what was asked.
        count: How many canaries there are.
    """

    def __init__(self, directory: Path, url: str, count: int, form: str = "json") -> None:
        self._rng = random.Random(20261121)
        self._directory = directory
        self._url = url
        self._given = directory / "given"
        self._given.mkdir()
        self._port = free_port()
        self.count = 0
        self.made: list[str] = []
        self.answers: dict[str, bytes] = {}
        self.api_secrets: dict[str, str] = {}
        self._vault: dict[str, str] = {}
        self._environ = {"CREDENTIALS_DIRECTORY": str(self._given)}
        # As many of each kind and of those that nobody refers to; what is told besides is on top.
        share = range(-(-count // (len(KINDS) + 1)))
        self._names = {kind: [f"{kind}{at}" for at in share] for kind in KINDS}
        tables = _TABLES.format(form=form, plugins=PLUGINS, port=self._port)
        for kind in KINDS[:-1]:
            tables += self._connections(kind)
        self._inline = tables
        self.daemon = DaemonProcess(directory, tables, environ=self._environ)
        self._loose = [f"loose{at}" for at in share]

    def canary(self, name: str, marks: str = SIMPLE) -> str:
        """Return a new canary."""
        self.count += 1
        return canary(name, self._rng, marks)

    def _connections(self, kind: str) -> str:
        """Return a parrot that knows all secrets of a kind, and an API that is shown one."""
        secrets = {name: self._given_as(kind, name) for name in self._names[kind]}
        inline = ", ".join(f"{name} = {json.dumps(value)}" for name, value in secrets.items())
        shown = json.dumps(self._given_as(kind, f"{kind}-http", SIMPLE))
        at = f'base_url = "{self._url}", allow_private = true'
        return f"""
[connections.{kind}]
provider = "parrot"
config = {{ {at}, secrets = {{ {inline} }} }}

[connections.{kind}-http]
provider = "http"
config = {{ {at}, test_path = "/echo/400", auth = {{ kind = "header", name = "X-Api-Key", value = {shown} }} }}
"""  # noqa: E501 - an inline table is one line

    def _given_as(self, kind: str, name: str, marks: str | None = None) -> str:
        value = self.canary(name) if marks is None else self.canary(name, marks)
        match kind:
            case "env":
                variable = f"CANARY_{name.upper().replace('-', '_')}"
                self._environ[variable] = value
                return f"env:{variable}"
            case "vault":
                self._vault[name] = value
                return f"vault:{name}"
            case "inline":
                return value
            case _:
                self._write(name, value)
                return f"file:given/{name}" if kind == "file" else f"credential:{name}"

    def _write(self, name: str, value: str) -> None:
        path = self._given / name
        path.write_text(value)
        path.chmod(0o600)

    async def fill(self) -> None:
        """Keep the secrets of the vault, of which some are what nobody refers to."""
        settings = load(self._directory / "integrationd.toml", {})
        async with standalone(settings, {}, SystemClock()) as vault:
            for name, value in self._vault.items():
                await vault.set(SHARED_SECRETS_OF, name, value, "uid:0")
            for name in self._loose:
                self._vault[name] = self.canary(name)
                await vault.set(SHARED_SECRETS_OF, name, self._vault[name], "uid:0")

    async def start(self) -> None:
        """Start the daemon and wait until it serves."""
        self.daemon.start()
        await asyncio.to_thread(self.daemon.wait_ready, 60.0)

    async def hand_over(self, client: httpx2.AsyncClient) -> None:
        """Give secrets to the API, which it never shows again."""
        secrets = {name: self.canary(name) for name in self._names["api"]}
        config = {"base_url": self._url, "allow_private": True, "secrets": secrets}
        body = {"id": "api", "provider": "parrot", "config": config}
        await self._ask(client, "POST", "connections", body, 201)
        auth = {"kind": "bearer", "token": self.canary("api-http")}
        config = {"base_url": self._url, "allow_private": True, "auth": auth}
        body = {"id": "api-http", "provider": "http", "config": config}
        await self._ask(client, "POST", "connections", body, 201)
        await self._spoil(client, body)
        value = {"value": self.canary("set")}
        await self._ask(client, "PUT", "vault/secrets/set", value, 200)
        await self._subscribe(client)
        made = await client.post("/v1/keys", json={"name": "shop", "role": "staff"})
        assert made.status_code == 201, made.text
        self.made.append(made.json()["key"])

    async def _spoil(self, client: httpx2.AsyncClient, body: dict[str, Any]) -> None:
        """Give secrets in ways that are refused."""
        wrong = [
            {**body, "id": "w1", "config": {**body["config"], "auth": [self.canary("wrong1")]}},
            {**body, "id": "w2", "config": {**body["config"], "max_body": self.canary("wrong2")}},
            {**body, "id": "w3", "config": {**body["config"], "base_url": self.canary("wrong3")}},
            {**body, "id": "w4", "provider": "parrot", "config": {"secrets": self.canary("w4")}},
            {**body, "id": "w5", "config": {"auth": {"kind": "basic", "password": 5}}},
        ]
        for one in wrong:
            await self._ask(client, "POST", "connections", one, 422)
        for broken in (f'{{"value": "{self.canary("cut")}', f'["{self.canary("list")}"]'):
            answer = await client.put("/v1/vault/secrets/x", content=broken.encode())
            assert answer.status_code in (400, 422), answer.text
            self._note("PUT vault/secrets/x", answer)

    async def _subscribe(self, client: httpx2.AsyncClient) -> None:
        for scheme in ("standard", "simple"):
            wish = {
                "url": f"{self._url}/echo/{400 if scheme == 'simple' else 500}",
                "allow_private": True,
                "events": ["call.*"],
                "schedule": [0, 0.05],
                "scheme": scheme,
                "headers": {"X-Api-Key": self.canary(scheme), "X-Whatever": self.canary("any")},
            }
            if scheme == "simple":
                wish["secret"] = self.canary("signing")
            made = await client.post("/v1/subscriptions", json=wish)
            assert made.status_code == 201, made.text
            if scheme == "standard":
                self.made.append(made.json()["secret"].removeprefix("whsec_"))

    async def tell(self, client: httpx2.AsyncClient) -> None:
        """Have every secret of a connection told, each in another way, and wait for the end."""
        wanted = []
        for kind in KINDS:
            for at, name in enumerate(self._names[kind]):
                payload = {"which": name, "how": HOWS[(at + len(kind)) % len(HOWS)]}
                wanted.append(
                    {"operation": "parrot.squawk", "connection": kind, "payload": payload}
                )
            for how in HOWS:
                payload = {"which": self._names[kind][0], "how": how}
                wanted.append(
                    {"operation": "parrot.squawk", "connection": kind, "payload": payload}
                )
            for path in ("200", "400", "500", "200/text", "400/wide", "400/wide-be", "400/head"):
                payload = {"method": "GET", "path": f"/echo/{path}"}
                wanted.append(
                    {"operation": "http.request", "connection": f"{kind}-http", "payload": payload}
                )
        for begin in range(0, len(wanted), 500):
            calls = {"calls": wanted[begin : begin + 500]}
            await self._ask(client, "POST", "calls/batch", calls, 202)
        async with asyncio.timeout(900):
            while await self._is_busy(client):
                await asyncio.sleep(0.05)

    async def _is_busy(self, client: httpx2.AsyncClient) -> bool:
        found = [
            (await client.get("/v1/calls", params={"state": state, "limit": "1"})).json()["items"]
            for state in ("pending", "processing")
        ]
        return any(found)

    async def test_and_hook(self, client: httpx2.AsyncClient) -> None:
        """Have connections tested, and webhooks come in with secrets in them."""
        for kind in KINDS:
            for name in (kind, f"{kind}-http"):
                self._note(f"test {name}", await client.post(f"/v1/connections/{name}/test"))
        secret = self._environ["CANARY_ENV0"]
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self._port}") as provider:
            for given in (secret, self.canary("guess")):
                headers = {"X-Hook-Secret": given, "Authorization": given, "X-Odd": secret}
                for name, form in encoded(secret).items():
                    answer = await provider.post(
                        f"/webhooks/parrot/env?key={name}&secret={secret[:10]}x",
                        content=b'{"said":"' + form.replace(b'"', b"") + b'"}',
                        headers=headers,
                    )
                    self._note("webhook", answer)
        async with self.daemon.client("tcp") as stranger:
            key = self.canary("key")
            for path in (f"/v1/status?api_key={key}", f"/v1/{key}", "/v1/calls"):
                answer = await stranger.get(path, headers={"Authorization": f"Bearer {key}"})
                assert answer.status_code in (400, 401, 404), answer.text
                self._note("stranger", answer)
            self.made.append(stranger.headers["authorization"].removeprefix("Bearer "))

    async def look(self, client: httpx2.AsyncClient) -> None:
        """Read everything that the API shows, and that the commands print."""
        for path in PATHS:
            self._note(path, await client.get(f"/v1/{path}"))
        self._note("metrics", await client.get("/metrics"))
        for path in ("calls", "attempts", "webhooks"):
            listed = (await client.get(f"/v1/{path}", params={"limit": "100"})).json()["items"]
            for one in listed:
                self._note(path, await client.get(f"/v1/{path}/{one['id']}"))
        subscriptions = (await client.get("/v1/subscriptions")).json()["items"]
        for one in subscriptions:
            at = f"subscriptions/{one['id']}/deliveries"
            self._note(at, await client.get(f"/v1/{at}"))
        failed = (await client.get("/v1/calls", params={"state": "failed", "limit": "1"})).json()
        backup = self._directory / "backup.db"
        commands = [
            *COMMANDS,
            f"explain {failed['items'][0]['id']}",
            f"backup {backup} --overwrite",
        ]
        for command in commands:
            self.answers[command] = await asyncio.to_thread(self._run, command.split())

    def _run(self, command: Sequence[str]) -> bytes:
        """Run one command of the CLI and return what it printed."""
        environ = {
            **self._environ,
            "INTEGRATIOND_CONFIG": str(self._directory / "integrationd.toml"),
            "INTEGRATIOND_SOCKET": str(self.daemon.socket),
        }
        done = program.run(*command, directory=Path.cwd(), environ=environ)
        assert done.returncode != 2, (command, done.stderr)
        return (done.stdout + done.stderr).encode("utf-8", "surrogateescape")

    async def reject(self, client: httpx2.AsyncClient) -> None:
        """Spoil the configuration, with secrets in the lines that are wrong."""
        file = self._directory / "integrationd.toml"
        sound = file.read_text()
        lines = (
            f'config = "{self.canary("bad")}"',
            f'config = {{ secrets = {{ a = {{ b = "{self.canary("bad")}" }} }} }}',
            f'config = {{ token = "{self.canary("bad")}',
        )
        for line in lines:
            file.write_text(f'{sound}[connections.bad]\nprovider = "parrot"\n{line}\n')
            self._note("reload", await client.post("/v1/config/reload"))
            self.answers["check"] = await asyncio.to_thread(self._run, ["config", "check"])
            self.answers["diff"] = await asyncio.to_thread(self._run, ["config", "diff"])
        file.write_text(sound)

    def places(self) -> Mapping[str, bytes]:
        """Return everything that the daemon keeps and has written or answered."""
        known = {"integrationd.toml", "master.key", "api.key"}
        files = {
            path.name: path.read_bytes()
            for path in self._directory.iterdir()
            if path.is_file() and path.name not in known
        }
        return {**files, **{f"answer to {name}": text for name, text in self.answers.items()}}

    async def _ask(
        self, client: httpx2.AsyncClient, method: str, path: str, body: Any, status: int
    ) -> None:
        answer = await client.request(method, f"/v1/{path}", json=body)
        assert answer.status_code == status, answer.text[:2000]
        self._note(f"{method} {path}", answer)

    def _note(self, name: str, answer: httpx2.Response) -> None:
        told = b"\n".join([*(value for _, value in answer.headers.raw), answer.content])
        self.answers[name] = self.answers.get(name, b"") + told


async def talk(peer: Peer) -> None:
    """Be every provider: hand out tokens, and tell back whatever is secret in a request."""
    while True:
        request = await peer.request()
        if request.target == "/token":
            given = {"access_token": request.body.decode()[:30] + "hY4jRv8Tn2", "refresh_token": ""}
            await peer.send(_reply(200, json.dumps(given).encode()))
        else:
            await peer.send(_echo(request))


def _echo(request: Received) -> bytes:
    status, *form = request.target.removeprefix("/").removeprefix("echo/").split("/")
    names = ("x-api-key", "authorization", "x-whatever", "x-signature")
    secrets = [request.headers[name] for name in names if name in request.headers]
    secret = " ".join(secrets).removeprefix("Bearer ")
    forms = {name: text.decode("utf-8", "replace") for name, text in encoded(secret).items()}
    match form:
        case ["text"]:
            body = "\n".join(forms.values()).encode()
        case ["wide"]:
            body = f"no: {secret}".encode("utf-16-le")
        case ["wide-be"]:
            body = f"no: {secret}".encode("utf-16-be")
        case ["head"]:
            return _reply(
                int(status), b"", f"X-Echo: {secret}\r\nX-Hex: {secret.encode().hex()}\r\n"
            )
        case _:
            body = json.dumps({"message": secret, "forms": forms, secret: 1}).encode()
    return _reply(int(status or 401), body)


def _reply(status: int, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
