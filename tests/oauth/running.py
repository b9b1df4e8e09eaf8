"""A real daemon with a connection behind OAuth, and a person who consents."""

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
from tests.faults.daemon import DaemonProcess, free_port
from tests.oauth.authorization_server import AuthorizationServer
from tests.oauth.world import PLUGIN

WITHIN_S = 30.0
_TABLES = """
[plugins]
paths = ["{plugins}"]

[webhooks]
listen = "127.0.0.1:{port}"

[delivery]
backoff_first = "50ms"
backoff_cap = "100ms"

[delivery.breaker]
failures = 1000

[connections.mail]
provider = "guarded"
timeout = "10s"
concurrency = 64
config = {config}
"""


class Running:
    """One daemon and its connection ``mail``.

    Args:
        directory: Where its files are.
        server: What its tokens are from.
        config: What differs from the plugin's own config.

    Attributes:
        process: The daemon.
    """

    def __init__(
        self, directory: Path, server: AuthorizationServer, config: Mapping[str, Any]
    ) -> None:
        plugins = directory / "plugins"
        plugins.mkdir()
        shutil.copy(PLUGIN, plugins / "guarded.py")
        given = {"base_url": server.url, "allow_private": True, **config}
        inline = ", ".join(f"{name} = {_toml(value)}" for name, value in given.items())
        self._server = server
        self._port = free_port()
        tables = _TABLES.format(plugins=plugins, port=self._port, config=f"{{ {inline} }}")
        self.process = DaemonProcess(directory, tables)

    async def ready(self) -> None:
        """Wait until it serves."""
        await anyio.to_thread.run_sync(self.process.wait_ready)

    async def authorise(
        self, client: httpx2.AsyncClient, connection: str = "mail"
    ) -> httpx2.Response:
        """Consent, as a person would, and return the page that ends it."""
        begun = await client.post(f"/v1/connections/{connection}/authorize")
        assert begun.status_code == 200, begun.text
        asked = parse_qs(urlsplit(begun.json()["url"]).query)
        code = f"code-{asked['state'][0]}"
        self._server.new_code(code, asked["code_challenge"][0])
        async with httpx2.AsyncClient() as browser:
            back = {"code": code, "state": asked["state"][0]}
            return await browser.get(asked["redirect_uri"][0], params=back)

    async def submit(self, client: httpx2.AsyncClient, count: int = 1) -> list[str]:
        """Hand calls over and return their ids."""
        calls = [
            {"operation": "sms.send", "payload": {"to": "+254711000111", "message": f"m {number}"}}
            for number in range(count)
        ]
        answer = await client.post("/v1/calls/batch", json={"calls": calls})
        assert answer.status_code == 202, answer.text
        return [one["id"] for one in answer.json()["items"]]

    async def call(self, client: httpx2.AsyncClient, call_id: str) -> dict[str, Any]:
        """Return a call as it is."""
        found: dict[str, Any] = (await client.get(f"/v1/calls/{call_id}")).json()
        return found

    async def problems(self, client: httpx2.AsyncClient) -> list[str]:
        """Return what ``status`` complains of."""
        found: list[str] = (await client.get("/v1/status")).json()["problems"]
        return found

    async def events(self, client: httpx2.AsyncClient, kind: str) -> list[dict[str, Any]]:
        """Return the events of a type."""
        answer = await client.get("/v1/events", params={"type": kind, "limit": "500"})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["items"]
        return found


@contextlib.asynccontextmanager
async def running(
    directory: Path, server: AuthorizationServer, **config: Any
) -> AsyncIterator[Running]:
    """Run a daemon."""
    made = Running(directory, server, config)
    with made.process as process:
        process.start()
        await made.ready()
        yield made


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """Return a directory whose sockets have short names."""
    with tempfile.TemporaryDirectory(prefix="oauth-") as directory:
        yield Path(directory)


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'
