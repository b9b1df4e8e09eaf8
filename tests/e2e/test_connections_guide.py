"""docs/connections.md as a new user goes through it, against the real daemon."""

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.faults.daemon import DaemonProcess
from tests.plugins.africastalking_server import KEY, gateway

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "connections.md").read_text()
BLOCKS: list[str] = re.findall(r"^```sh\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
ATTENTION = 7
WITHIN_S = 60


def block_with(word: str) -> str:
    (found,) = [block for block in BLOCKS if word in block]
    return found


class Shell:
    """A terminal beside the daemon, in which a 401 comes from a gateway of our own."""

    def __init__(self, daemon: DaemonProcess, directory: Path, gateway_url: str) -> None:
        path = f"{directory / 'bin'}:{os.environ['PATH']}"
        self._environ = {**os.environ, "INTEGRATIOND_SOCKET": str(daemon.socket), "PATH": path}
        self._directory = directory
        self._sandbox = f"username=sandbox base_url={gateway_url} allow_private:=true"
        program = directory / "bin" / "integrationd"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m integrationd "$@"\n')
        program.chmod(0o755)

    async def type(self, text: str, code: int = 0) -> str:
        """Type commands, check how the last one ended, and return what they printed."""
        process = await asyncio.create_subprocess_exec(
            *("sh", "-e", "-c", text.replace("username=sandbox", self._sandbox)),
            cwd=self._directory,
            env=self._environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
        assert process.returncode == code, f"{text}\n{printed.decode()}"
        return printed.decode()


async def test_connections_guide_is_true(short_path: Path) -> None:
    async with gateway() as at:
        daemon = DaemonProcess(short_path, "")
        with daemon:
            daemon.start()
            await asyncio.to_thread(daemon.wait_ready)
            shell = Shell(daemon, short_path, at.url)

            assert "Uhuru Primary School" in await shell.type(block_with("tenants add"))
            assert "is made" in await shell.type(block_with("connections add"))
            shown = await shell.type(block_with("connections show"))
            assert "api_key: a secret, set" in shown
            assert "atsk_not-the-real-key" not in shown

            failed = await shell.type("integrationd connections test uhuru-sms", code=ATTENTION)
            assert "Check username and api_key" in failed
            assert "Compare the credentials" in failed

            (short_path / "real-key.txt").write_text(f"{KEY}\n")
            assert "ok: the account holds" in await shell.type(block_with("real-key.txt"))
            assert "completed" in await shell.type(block_with("sms.send"))
            told = await shell.type(block_with("--drain"))

            assert "is removed" in told
            assert at.forms[-1]["message"] == "School opens on Monday"
            assert KEY not in daemon.output() + told
            assert await asyncio.to_thread(daemon.stop) == 0
