"""A daemon that plays back answers on a Unix socket, and a terminal whose time stands still."""

import dataclasses
import datetime as dt
import json
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import anyio
import click.testing
import pytest

from integrationd.cli import main
from integrationd.cli.terminal import Terminal
from integrationd.clock import from_datetime

CALL_ID = "0190b5f0-7c1a-7000-8000-0123456789ab"
NOW = dt.datetime(2026, 1, 31, 12, 0, tzinfo=dt.UTC)
NAIROBI = dt.timezone(dt.timedelta(hours=3), "EAT")


class StillClock:
    """A clock that moves only when a playback says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ms(self) -> int:
        return from_datetime(NOW)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def wait(self, event: anyio.Event, seconds: float | None) -> None:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request as the playback received it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass(frozen=True)
class Scripted:
    """An answer; ``raw`` replaces the whole of it, an empty one hangs up."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    raw: bytes | None = None
    text: bytes | None = None
    before: Callable[[], None] = lambda: None

    def bytes(self) -> bytes:
        return json.dumps(self.body).encode() if self.text is None else self.text


class Playback(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers requests in the order of the script and keeps what was asked."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Player)
        self.path = path
        self.asked: list[Asked] = []
        self.script: list[Scripted] = []

    def play(self, *answers: Scripted | dict[str, Any]) -> None:
        self.script += [one if isinstance(one, Scripted) else Scripted(one) for one in answers]


class Player(BaseHTTPRequestHandler):
    server: Playback

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(length)
        self.server.asked.append(Asked(self.command, self.path, headers, body))
        scripted = self.server.script.pop(0)
        scripted.before()
        if scripted.raw is not None:
            self.wfile.write(scripted.raw)
            self.close_connection = True
            return
        content = scripted.bytes()
        self.send_response(scripted.status)
        for name, value in {"Content-Type": "application/json", **scripted.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's
        pass


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name."""
    path = Path(tempfile.mkdtemp(prefix="idcli"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def daemon(short_path: Path) -> Iterator[Playback]:
    with Playback(short_path / "d.sock") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@dataclasses.dataclass
class CommandLine:
    """Runs commands in an environment of its own."""

    clock: StillClock
    environ: dict[str, str]

    def __call__(
        self, *args: str, stdin: str | bytes | None = None, color: bool = False
    ) -> click.testing.Result:
        terminal = Terminal(environ=self.environ, clock=self.clock, zone=NAIROBI)
        runner = click.testing.CliRunner()
        result = runner.invoke(
            main, args, input=stdin, obj=terminal, color=color, prog_name="integrationd"
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result


@pytest.fixture
def alone(clock: StillClock) -> CommandLine:
    """The command line where no daemon has been named."""
    return CommandLine(clock, {})


@pytest.fixture
def command(clock: StillClock, daemon: Playback) -> CommandLine:
    """The command line beside a running daemon."""
    return CommandLine(clock, {"INTEGRATIOND_SOCKET": str(daemon.path)})


def call(**changes: Any) -> dict[str, Any]:
    """Return a call as ``GET /v1/calls`` lists it."""
    return {
        "id": CALL_ID,
        "operation": "sms.send",
        "state": "completed",
        "tenant": "default",
        "connection": "console",
        "priority": "normal",
        "created_at": "2026-01-31T11:57:00.000Z",
        "next_attempt_at": None,
        "expires_at": None,
        "gives_up_at": "2026-02-03T11:57:00.000Z",
        "ask_at": None,
        "finished_at": "2026-01-31T11:57:01.000Z",
        "attempts": 1,
        "tries": 1,
        "queries": 0,
        "reason": "delivered",
        "detail": None,
        "provider_reference": "m-1",
        "reference": None,
        "delivery": None,
        "contradiction": None,
        **changes,
    }


def problem(status: int, code: str, detail: str, **more: Any) -> Scripted:
    """Return an error as the API tells it."""
    told = {"type": "about:blank", "title": "x", "status": status, "code": code, "detail": detail}
    return Scripted(
        {**told, **more}, status=status, headers={"Content-Type": "application/problem+json"}
    )
