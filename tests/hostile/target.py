"""The daemon under attack: a real process, and what it must still be like afterwards."""

import dataclasses
import json
import re
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults.daemon import DaemonProcess
from tests.hostile.catalogue import Attack
from tests.hostile.wire import Answer, Over, Wire, request

PLUGIN_FILES = Path(__file__).parent.parent / "plugin_files"
GROWTH_BYTES = 24 * 1024 * 1024
QUICK_S = 1.0
DEADLINE_S = 1.0
# More than all idle connections of a flood, so that they are held and not merely turned away.
CONNECTIONS = 1100

_TROUBLE = re.compile(
    r"Traceback|Exception|request_failed|request_unanswered|\[(?:error|critical) *\]",
)
_TABLES = """\
[plugins]
paths = [{plugins}]
[connections.stage]
provider = "rehearsal"
[connections.text]
provider = "console"
[connections.shop]
provider = "http"
config = {{ base_url = "http://127.0.0.1:{sink_port}/api", allow_private = true }}
"""
_API = f"""\
header_timeout = "{DEADLINE_S:g}s"
body_timeout = "{DEADLINE_S:g}s"
max_connections = {CONNECTIONS}
"""


@dataclasses.dataclass(frozen=True)
class Mark:
    """How the daemon stood at a moment.

    Attributes:
        resident_bytes: Its memory.
        log_bytes: The length of its log.
        accepted: Calls that its ledger knows.
        told: Calls that clients had been told are accepted.
    """

    resident_bytes: int
    log_bytes: int
    accepted: int
    told: int


class Target:
    """A running daemon with short deadlines.

    Args:
        directory: Where its files are; of a short path.
        sink_port: Where its connection ``shop`` sends; by default, nobody listens there.
    """

    def __init__(self, directory: Path, sink_port: int = 9) -> None:
        tables = _TABLES.format(plugins=json.dumps(str(PLUGIN_FILES)), sink_port=sink_port)
        # Its memory is measured, and is not to be another process's.
        self.daemon = DaemonProcess(directory, tables, api=_API, anew=True)
        self.told: set[str] = set()

    def __enter__(self) -> "Target":
        self.daemon.start()
        self.daemon.wait_ready()
        self.get("/v1/status")
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.kill()

    def stop(self) -> None:
        """Stop it in good order."""
        assert self.daemon.stop() == 0, self.daemon.output()

    def get(self, path: str, over: Over = "unix") -> Any:
        """Return what an honest client reads at a path."""
        with Wire(self.daemon, over) as wire:
            wire.send(request(b"GET", path.encode(), None, b"connection: close"))
            answer = wire.answer()
        assert answer is not None
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def post(self, body: bytes, *lines: bytes, over: Over = "unix") -> Answer:
        """Return the answer to an honest client that posts a call."""
        with Wire(self.daemon, over) as wire:
            wire.send(request(b"POST", b"/v1/calls", body, *lines, b"connection: close"))
            answer = wire.answer()
        assert answer is not None
        self.note([answer])
        return answer

    def note(self, answers: Sequence[Answer]) -> None:
        """Remember which calls clients were told of."""
        accepted = [json.loads(one.body) for one in answers if one.status == 202]
        self.told.update(call["id"] for call in accepted if "id" in call)

    def strike(self, attack: Attack, over: Over) -> str:
        """Attack, and return what is wrong with the answer; nothing if it is as it should be."""
        try:
            with Wire(self.daemon, over) as wire:
                wire.send(attack.sent)
                answer = wire.last_answer()
        except (AssertionError, OSError) as error:
            return f"{attack.name}: {error!r}"
        if answer is None:
            return f"{attack.name}: no answer"
        self.note([answer])
        return "" if _fits(answer, attack, over) else f"{attack.name}: {answer}"

    def mark(self) -> Mark:
        """Return how the daemon stands."""
        ledger = self.get("/v1/ledger")
        return Mark(
            resident_bytes=self.resident_bytes(),
            log_bytes=self.daemon.log_file.stat().st_size,
            accepted=ledger["total"]["accepted"],
            told=len(self.told),
        )

    def resident_bytes(self) -> int:
        """Return the memory that the daemon holds."""
        process = self.daemon._process
        assert process is not None
        pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    def log_since(self, before: Mark) -> str:
        """Return what was logged since."""
        return self.daemon.log_file.read_bytes()[before.log_bytes :].decode("utf-8", "replace")

    def check_unharmed(self, before: Mark) -> None:
        """Check that the daemon serves, has grown little, is quiet, and kept just what it said."""
        assert self.daemon.is_running, self.daemon.output()
        sockets: tuple[Over, ...] = ("tcp", "unix")
        for over in sockets:
            began = time.monotonic()
            assert self.get("/healthz", over) == {"status": "ok"}
            assert time.monotonic() - began < QUICK_S
        growth = self.resident_bytes() - before.resident_bytes
        assert growth < GROWTH_BYTES, f"grown by {growth / 1024 / 1024:.1f} MiB"
        trouble = [line for line in self.log_since(before).splitlines() if _TROUBLE.search(line)]
        assert not trouble, trouble[:5]
        ledger = self.get("/v1/ledger")
        assert ledger["balances"]
        kept = ledger["total"]["accepted"] - before.accepted
        assert kept == len(self.told) - before.told, "calls were kept that nobody was told of"


def _fits(answer: Answer, attack: Attack, over: Over) -> bool:
    """Say whether an answer is one of those expected, and if it is a problem, a short one."""
    is_other = bool(attack.unix) and over == "unix"
    if answer.status not in (attack.unix if is_other else attack.statuses):
        return False
    if answer.status < 400:
        return True
    return answer.code in attack.codes if attack.codes and not is_other else answer.code != ""
