"""The daemon in a real systemd: what systemd sees of it, and what clients see meanwhile.

Run by ``make test-systemd``, as root; the figures that count are printed.
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.systemd.container import SOCKETS, UNIT, CannotBootError, Container, reason_to_skip

pytestmark = pytest.mark.systemd

KILLS = 10
RESTARTS = 50
LIFE_S = 0.2
SERVING_AGAIN_S = 1.0
RELEASE_PYTHON = "/opt/integrationd/current/bin/python"
INSIDE = "/srv/inside.py"
CONFIG = "/etc/integrationd/integrationd.toml"
DROPIN = f"/etc/systemd/system/{UNIT}.d/test.conf"
SINK = "sink.service"
SINK_PORT = 8990

BASE = """\
[api]
socket = "/run/integrationd/integrationd.sock"
listen = "127.0.0.1:8700"
allowed_uids = [{uids}]
[journal]
path = "/var/lib/integrationd/journal.db"
[plugins]
paths = ["/etc/integrationd/plugins"]
[connections.console]
provider = "console"
[routes."sms.send"]
order = ["console"]
{more}
"""
STUCK = '''\
"""A plugin that stands still while a file says so."""

import time
from pathlib import Path

from integrationd.sdk import Context, Delivered, Outcome, Provider, SmsSend, operation


class Stuck(Provider):
    """Stand still. Source: none."""

    code = "stuck"

    @operation("sms.send", repeat_safe=True)
    async def send(self, request: SmsSend, ctx: Context) -> Outcome:
        """Wait without await, once."""
        flag = Path("/var/lib/integrationd/stuck")
        if not flag.exists():
            flag.touch()
            while True:
                time.sleep(0.1)
        return Delivered()
'''
PARTNER = f"""
[connections.partner]
provider = "http"
[connections.partner.config]
base_url = "http://127.0.0.1:{SINK_PORT}"
allow_private = true
auth = {{ kind = "bearer", token = "credential:partner-token" }}
"""


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """Return a container that has booted with the daemon in it."""
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    try:
        with Container(tmp_path_factory.mktemp("container")) as container:
            source = Path(__file__).with_name("inside.py").read_text()
            container.write(INSIDE, source)
            yield container
    except CannotBootError as error:
        pytest.skip(str(error))


@pytest.fixture
def server(booted: Container) -> Iterator[Container]:
    """Return the container with the daemon running as it was installed."""
    configure(booted)
    booted.remove(DROPIN)
    booted.run("systemctl", "daemon-reload")
    booted.run("systemctl", "stop", UNIT, *SOCKETS)
    booted.run("systemctl", "reset-failed", UNIT, *SOCKETS)
    booted.run("systemctl", "start", UNIT)
    yield booted
    configure(booted)


def configure(container: Container, more: str = "", uids: str = "") -> None:
    container.write(CONFIG, BASE.format(more=more, uids=uids))


def inside(container: Container, *words: str) -> dict[str, Any]:
    said = container.run(RELEASE_PYTHON, INSIDE, *words, timeout_s=300)
    found: dict[str, Any] = json.loads(said)
    return found


class Load:
    """Clients that send until the end of a ``with`` block; then ``came`` says what came of it."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self.came: dict[str, Any] = {}
        self.states: dict[str, int] = {}

    def __enter__(self) -> "Load":
        self._container.remove("/srv/stop")
        command = self._container.command(RELEASE_PYTHON, INSIDE, "load", "/srv/stop")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *_error: object) -> None:
        self._container.write("/srv/stop", "")
        said, _ = self._process.communicate(timeout=120)
        self.came = json.loads(said)
        self.states = inside(self._container, "check", "/srv/stop.ids")


def test_daemon_serves_after_the_boot(booted: Container) -> None:
    booted.wait_for("Started integrationd.service", since="")

    assert booted.shows("Result") == "success"
    assert booted.shows("ActiveState") == "active"
    assert booted.shows("StatusText") == "0 calls waiting"
    assert "integrationd" in booted.run("integrationd", "status")
    assert booted.run("stat", "-c", "%U:%G %a", "/run/integrationd/integrationd.sock").split() == [
        "integrationd:integrationd",
        "660",
    ]


def test_good_reload_is_told_as_done(server: Container) -> None:
    before = server.cursor()
    configure(server, '[connections.second]\nprovider = "console"')

    server.run("systemctl", "reload", UNIT)

    assert "Reloaded integrationd.service" in server.log(before)
    assert "second" in server.run("integrationd", "connections")


def test_refused_reload_is_told_as_failed_and_changes_nothing(server: Container) -> None:
    before, pid = server.cursor(), server.shows("MainPID")
    configure(server, '[connections.second]\nprovider = "nobody"')

    server.run("systemctl", "reload", UNIT, code=1)

    said = server.wait_for("Reload failed", before)
    assert "connections.second.provider" in said
    assert server.shows("ActiveState") == "active"
    assert server.shows("MainPID") == pid
    assert "config rejected: connections.second.provider" in status(server, "config rejected")


def status(container: Container, text: str) -> str:
    """Return the status once it says something; it is told every few seconds."""
    until = time.monotonic() + 10
    while text not in (told := container.shows("StatusText")) and time.monotonic() < until:
        time.sleep(0.1)
    return told


def test_syntax_error_is_told_by_the_reload(server: Container) -> None:
    before = server.cursor()
    server.write(CONFIG, "[api\n")

    server.run("systemctl", "reload", UNIT, code=1)

    assert "line 1" in server.wait_for("Reload failed", before)


def test_rejected_configuration_at_the_start_is_not_tried_for_ever(server: Container) -> None:
    server.run("systemctl", "stop", UNIT, *SOCKETS)
    configure(server, '[connections.second]\nprovider = "nobody"')

    server.run("systemctl", "start", UNIT, code=1)

    time.sleep(2)
    assert server.shows("ActiveState") == "failed"
    assert server.shows("ExecMainStatus") == "4"
    assert server.shows("NRestarts") == "0"


def test_clients_of_a_rejected_configuration_are_refused_in_the_end(server: Container) -> None:
    server.run("systemctl", "stop", UNIT, *SOCKETS)
    configure(server, '[connections.second]\nprovider = "nobody"')
    bound = "[Socket]\nTriggerLimitIntervalSec=60s\nTriggerLimitBurst=5\n"
    path = "/etc/systemd/system/integrationd.socket.d/test.conf"
    server.write(path, bound)
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "start", "integrationd.socket")

    server.run(
        "curl", "-sS", "--unix-socket", "/run/integrationd/integrationd.sock", "x", code=None
    )

    server.remove(path)
    assert server.shows("Result", "integrationd.socket") == "trigger-limit-hit"
    configure(server)
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "restart", UNIT)
    assert server.shows("ActiveState", "integrationd.socket") == "active"


def test_killed_daemon_serves_again_within_a_second(server: Container) -> None:
    took_s = [inside(server, "kill")["seconds"] for _ in range(KILLS)]

    print("kill -9 to serving again, seconds:", [round(each, 3) for each in took_s])
    assert max(took_s) < SERVING_AGAIN_S


def test_restarts_under_load_refuse_and_lose_nothing(server: Container) -> None:
    began = time.monotonic()
    with Load(server) as load:
        for _ in range(RESTARTS):
            server.run("systemctl", "restart", UNIT)
            time.sleep(LIFE_S)
    took_s = time.monotonic() - began

    print(f"{RESTARTS} restarts in {took_s:.1f} s: {load.came}, {load.states}")
    assert load.came["acknowledged"] > 10 * RESTARTS
    assert load.came["refused"] == 0
    assert load.came["other"] == 0
    assert load.states == {"completed": load.came["acknowledged"]}


def test_kills_under_load_refuse_and_lose_nothing(server: Container) -> None:
    with Load(server) as load:
        for _ in range(KILLS):
            inside(server, "kill")

    print(f"{KILLS} kills: {load.came}, {load.states}")
    assert load.came["refused"] == 0
    assert sum(load.states.values()) == load.came["acknowledged"]
    assert "missing" not in load.states


def test_stop_under_load_lets_attempts_finish(server: Container) -> None:
    with_partner(server)
    with sinking(server):
        ids = [submit(server) for _ in range(8)]
        before = server.cursor()
        server.run("systemctl", "stop", *SOCKETS, UNIT)
        assert server.shows("Result") == "success"
        assert server.shows("ExecMainStatus") == "0"
        assert "stopped" in server.log(before)
        server.run("systemctl", "start", UNIT)
        server.write("/srv/some.ids", "\n".join(ids))
        assert inside(server, "check", "/srv/some.ids") == {"completed": len(ids)}


def with_partner(container: Container) -> None:
    """Have the daemon use a connection whose secret systemd hands over."""
    container.write("/etc/integrationd/credentials/partner-token", "s3cret-token\n", 0o600)
    load = "LoadCredential=partner-token:/etc/integrationd/credentials/partner-token"
    container.write(DROPIN, f"[Service]\n{load}\n")
    configure(container, PARTNER)
    container.run("systemctl", "daemon-reload")
    container.run("systemctl", "restart", UNIT)


@contextlib.contextmanager
def sinking(container: Container) -> Iterator[None]:
    """Have a sink in the container, as long as the block lasts."""
    words = ("systemd-run", "--quiet", "--collect", f"--unit={SINK}", RELEASE_PYTHON, INSIDE)
    container.run(*words, "sink", str(SINK_PORT))
    try:
        yield
    finally:
        container.run("systemctl", "stop", SINK)


def submit(container: Container) -> str:
    words = ("http.request", "--connection", "partner", "method=POST", "path=/", "--json")
    call: dict[str, Any] = json.loads(container.run("integrationd", "send", *words))
    return str(call["id"])


def test_credential_reaches_the_provider_through_the_sandbox(server: Container) -> None:
    with_partner(server)

    with sinking(server):
        server.write("/srv/some.ids", submit(server))
        states = inside(server, "check", "/srv/some.ids")

    assert states == {"completed": 1}
    assert "Bearer s3cret-token" in server.run("journalctl", "--output=cat", f"--unit={SINK}")
    assert "s3cret-token" not in server.log()


def test_stuck_plugin_trips_the_watchdog_and_is_named(server: Container) -> None:
    server.run("rm", "-f", "/var/lib/integrationd/stuck")
    server.write("/etc/integrationd/plugins/stuck.py", STUCK)
    server.write(DROPIN, "[Service]\nWatchdogSec=3s\n")
    configure(server, '[connections.stuck]\nprovider = "stuck"')
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "restart", UNIT)
    before = server.cursor()

    words = ("sms.send", "--connection", "stuck", "to=+254711000111", "message=x")
    server.run("integrationd", "send", *words)

    said = server.wait_for("Started integrationd.service", before, 30)
    assert "Watchdog timeout" in said
    assert "event_loop_held_up" in said
    assert "plugin=stuck" in said
    assert "integrationd/plugins/stuck.py" in said.partition("Fatal Python error")[2]
    assert server.shows("NRestarts") == "1"
    server.run("integrationd", "status", code=None)
    server.remove("/etc/integrationd/plugins/stuck.py")


def test_plugin_file_is_tried_in_the_sandbox(server: Container) -> None:
    before = server.cursor()
    server.write("/etc/integrationd/plugins/broken.py", "import time\n1 / 0\n")
    said = server.wait_for("broken.py", before)
    server.write("/etc/integrationd/plugins/broken.py", STUCK)
    configure(server, '[connections.stuck]\nprovider = "stuck"')

    server.run("systemctl", "reload", UNIT)

    assert "ZeroDivisionError" in said or "division" in said
    assert "stuck" in server.run("integrationd", "plugins", "list")
    server.remove("/etc/integrationd/plugins/broken.py")


def test_daemon_binds_by_itself_where_no_socket_unit_does(server: Container) -> None:
    server.run("systemctl", "stop", UNIT, *SOCKETS)
    server.run("systemctl", "mask", "--runtime", *SOCKETS)
    try:
        server.run("systemctl", "start", UNIT)
        said = server.run("integrationd", "status")
    finally:
        server.run("systemctl", "unmask", "--runtime", *SOCKETS)

    assert "ok" in said
    server.run("systemctl", "stop", UNIT)


def test_apps_of_allowed_uids_are_known_by_who_they_are(server: Container) -> None:
    server.run("useradd", "--groups", "integrationd", "app", code=None)
    uid = server.run("id", "-u", "app").strip()
    as_app = ("runuser", "-u", "app", "--", "integrationd", "status")

    server.run(*as_app, code=1)
    configure(server, uids=uid)
    server.run("systemctl", "reload", UNIT)

    assert "ok" in server.run(*as_app)


def test_socket_that_does_not_agree_with_the_configuration_is_told(server: Container) -> None:
    before = server.cursor()
    text = BASE.format(more="", uids="").replace("127.0.0.1:8700", "127.0.0.1:8711")
    server.write(CONFIG, text)

    server.run("systemctl", "restart", UNIT, code=1)

    said = server.log(before)
    assert "systemd passes 127.0.0.1:8700 as api.listen" in said
    assert "integrationd-tcp.socket" in said
    assert server.shows("ExecMainStatus") == "4"


def test_installing_again_changes_nothing(server: Container) -> None:
    server.write("/etc/integrationd/integrationd.toml", BASE.format(more="# mine", uids=""))
    before = server.run("readlink", "/opt/integrationd/current")

    server.install()

    assert server.run("readlink", "/opt/integrationd/current") == before
    assert "# mine" in server.run("cat", "/etc/integrationd/integrationd.toml")
    server.run("test", "-e", "/opt/integrationd/previous", code=1)
