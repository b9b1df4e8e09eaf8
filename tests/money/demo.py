"""``make demo``: an M-Pesa sandbox of its own, with customers, and the daemon beside it.

Customers read the prompt on their phones and answer after a moment. The last digit of the phone
says what happens. Everything is kept below ``./var/demo``.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
from tests.plugins.mpesa_callbacks import CANCELS, NO_FUNDS, PAYS, Callback, Prompt
from tests.plugins.mpesa_server import (
    CREDENTIAL,
    INITIATOR,
    KEY,
    PASSKEY,
    PUSH,
    SECRET,
    Dropped,
    FakeDaraja,
    daraja,
)
from tests.sdk.scripted_server import Received

THINKS_S = 3.0
# What the last digit of a phone brings about; every other pays, and all goes well.
NO_MONEY, SAYS_NO, NO_CALLBACK, NO_REPLY, NEITHER, TWICE = "123456"
PROGRAM = Path(sys.executable).with_name("integrationd")
CONFIG = """\
[api]
listen = ""
socket = "./integrationd.sock"

[journal]
path = "./journal.db"

[webhooks]
listen = "127.0.0.1:{hooks}"
public_url = "http://127.0.0.1:{hooks}"

[connections.till]
provider = "mpesa"

[connections.till.config]
base_url = "{url}"
allow_private = true
shortcode = "174379"
consumer_key = "{key}"
consumer_secret = "{secret}"
passkey = "{passkey}"
initiator_name = "{initiator}"
security_credential = "{credential}"

# A customer takes a while; the sandbox's are quick.
[connections.till.query]
first = "5s"
factor = 1.5
cap = "30s"
"""


class Sandbox:
    """M-Pesa with customers who take their time, and a line that loses what it is told to lose.

    Args:
        tell: Shows a line to whoever watches.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.fake = FakeDaraja(at_once=False)
        self.fake.behaviour = _Phones()
        self.fake.before_reply = self._before_reply
        self._tell = tell
        self._under_way: set[asyncio.Task[None]] = set()
        self._prompted: set[str] = set()

    async def _before_reply(self, request: Received) -> None:
        if request.target != PUSH:
            return
        for prompt in list(self.fake.payments.values()):
            if prompt.checkout_id not in self._prompted:
                self._prompted.add(prompt.checkout_id)
                self._start(self._serve(prompt))
                if prompt.phone.endswith((NO_REPLY, NEITHER)):
                    self._tell(f"{prompt.phone} is prompted; the reply about it is lost")
                    raise Dropped
                self._tell(f"{prompt.phone} is prompted for KES {prompt.amount}")

    async def _serve(self, prompt: Prompt) -> None:
        """Let one customer answer, and bring the callback."""
        await asyncio.sleep(THINKS_S)
        self.fake.answer(prompt.checkout_id)
        done = f"pays, receipt {prompt.receipt}" if prompt.receipt else f"fails with {prompt.code}"
        self._tell(f"{prompt.phone} {done}")
        while self.fake.callbacks:
            callback = self.fake.callbacks.popleft()
            if prompt.phone.endswith((NO_CALLBACK, NEITHER)):
                self._tell(f"{prompt.phone}: the callback is lost")
                continue
            for _ in range(2 if prompt.phone.endswith(TWICE) else 1):
                await self._bring(prompt.phone, callback)

    async def _bring(self, phone: str, callback: Callback) -> None:
        try:
            async with httpx2.AsyncClient() as client:
                reply = await client.post(
                    callback.url, content=callback.body, headers=dict(callback.headers)
                )
            self._tell(f"{phone}: callback answered with {reply.status_code} {reply.text}")
        except httpx2.HTTPError as error:
            self._tell(f"{phone}: callback not taken ({type(error).__name__})")

    def _start(self, work: "Awaitable[None]") -> None:
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


class _Phones(dict[str, str | None]):
    """What each phone does with a prompt, by its last digit."""

    def get(self, phone: str, default: str | None = None) -> str | None:  # type: ignore[override] # narrower
        """Return the result code of a phone's answer."""
        return {NO_MONEY: NO_FUNDS, SAYS_NO: CANCELS}.get(phone[-1], default or PAYS)


async def run(directory: Path, hooks_port: int) -> int:
    """Run sandbox and daemon until either ends or Ctrl-C; return the daemon's exit code."""
    directory.mkdir(parents=True, exist_ok=True)
    sandbox = Sandbox(lambda line: print(f"[m-pesa] {line}", flush=True))
    async with daraja(sandbox.fake) as server:
        config = directory / "integrationd.toml"
        config.write_text(
            CONFIG.format(
                url=server.url,
                hooks=hooks_port,
                key=f"literal:{KEY}",
                secret=f"literal:{SECRET}",
                passkey=f"literal:{PASSKEY}",
                initiator=INITIATOR,
                credential=f"literal:{CREDENTIAL}",
            )
        )
        daemon = await asyncio.create_subprocess_exec(
            PROGRAM, "run", "--config", config, start_new_session=True
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _end, daemon)
        return await daemon.wait()


def _end(daemon: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        daemon.terminate()


if __name__ == "__main__":
    sys.exit(asyncio.run(run(Path("var/demo"), int(os.environ.get("DEMO_HOOKS_PORT", "8701")))))
