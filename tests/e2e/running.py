"""What the end-to-end tests do to a running daemon besides talking to it."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from tests import program
from tests.faults.daemon import DaemonProcess

PLUGIN_FILES = Path(__file__).parent.parent / "plugin_files"
REHEARSAL = f"""\
[plugins]
paths = [{json.dumps(str(PLUGIN_FILES))}]
[connections.stage]
provider = "rehearsal"
"""


async def command(daemon: DaemonProcess, *words: str, code: int = 0) -> str:
    """Run a command of the CLI beside the daemon, check its exit code and return what it printed.

    Raises:
        AssertionError: It ended with another code; the message is what it said.
    """
    environ = {"INTEGRATIOND_SOCKET": str(daemon.socket)}
    done = await asyncio.to_thread(
        program.run, *words, directory=Path.cwd(), environ=environ, within_s=30.0
    )
    assert done.returncode == code, f"{done.returncode}: {done.stderr}"
    return done.stdout


async def submit(
    client: httpx2.AsyncClient,
    operation: str,
    payload: Mapping[str, Any],
    *,
    wait_s: int = 10,
    **options: Any,
) -> dict[str, Any]:
    """Submit a call, wait until it has left the open states, and return it with its attempts."""
    body = {"operation": operation, "payload": payload, **options}
    answer = await client.post("/v1/calls", json=body, headers={"Prefer": f"wait={wait_s}"})
    assert answer.status_code in (200, 202), answer.text
    return await look(client, answer.json()["id"])


async def look(client: httpx2.AsyncClient, call_id: str, wait_s: int = 0) -> dict[str, Any]:
    """Return a call with its attempts."""
    answer = await client.get(f"/v1/calls/{call_id}", headers={"Prefer": f"wait={wait_s}"})
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown
