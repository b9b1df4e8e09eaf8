"""The unit files: systemd reads them without a word, and gives them a good mark."""

import configparser
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from integrationd.cli.exits import Exit
from integrationd.settings import load
from integrationd.supervisor.listeners import TCP_NAME, UNIX_NAME

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
SERVICE = UNITS / "integrationd.service"
PREFIX = "/opt/integrationd"
HIGHEST_EXPOSURE = 1.5

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


class Unit(configparser.RawConfigParser):
    """A unit file whose keys may stand more than once; the last one is kept."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#",))
        self.optionxform = str  # type: ignore[assignment,method-assign] # the documented way
        self.read_string(path.read_text())


def verified(directory: Path, *more: str) -> str:
    """Have systemd read the units, with a program where they name one, and return what it says."""
    program = directory / "current" / "bin" / "integrationd"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    names = []
    for unit in sorted([*UNITS.glob("*.service"), *UNITS.glob("*.socket")]):
        text = unit.read_text().replace(PREFIX, str(directory))
        names.append(directory / unit.name)
        names[-1].write_text(text + "".join(more) if unit == SERVICE else text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *names],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


@needs_analyze
def test_systemd_reads_the_units_without_a_word(tmp_path: Path) -> None:
    assert verified(tmp_path) == ""


@needs_analyze
@pytest.mark.parametrize("line", ["[Service]\nRestartSoon=yes\n", "[Service]\nWatchdogSec=often\n"])
def test_a_word_is_said_about_a_mistake(tmp_path: Path, line: str) -> None:
    assert verified(tmp_path, line)


@needs_analyze
def test_exposure_is_low() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", SERVICE],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= HIGHEST_EXPOSURE


def test_service_does_not_try_again_what_only_a_person_mends() -> None:
    codes = Unit(SERVICE)["Service"]["RestartPreventExitStatus"].split()

    assert {int(each) for each in codes} == {Exit.USAGE, Exit.CONFIG}


def test_sockets_are_those_of_the_shipped_configuration() -> None:
    api = load(UNITS / "integrationd.toml", {}).api
    unix, tcp = (Unit(UNITS / name)["Socket"] for name in ("integrationd.socket", TCP_UNIT))

    assert (unix["ListenStream"], unix["FileDescriptorName"]) == (str(api.socket), UNIX_NAME)
    assert int(unix["SocketMode"], 8) == api.socket_permissions
    assert (tcp["ListenStream"], tcp["FileDescriptorName"]) == (api.listen, TCP_NAME)


TCP_UNIT = "integrationd-tcp.socket"


def test_state_is_where_the_shipped_configuration_keeps_it() -> None:
    service = Unit(SERVICE)["Service"]
    shipped = tomllib.loads((UNITS / "integrationd.toml").read_text())

    assert shipped["journal"]["path"] == f"/var/lib/{service['StateDirectory']}/journal.db"
    assert service["Environment"] == "INTEGRATIOND_CONFIG=/etc/integrationd/integrationd.toml"


def test_install_script_is_sound_and_executable() -> None:
    script = UNITS / "install"

    subprocess.run(["sh", "-n", script], check=True, timeout=10)

    assert script.stat().st_mode & 0o111
    installed = {
        f"systemd/{path.name}"
        for path in UNITS.iterdir()
        if path.suffix not in ("", ".service", ".socket")
    }
    assert {name for name in installed if name not in script.read_text()} == set()


def test_user_of_the_service_is_the_one_that_is_made() -> None:
    service = Unit(SERVICE)["Service"]
    lines = [
        line.split()
        for line in (UNITS / "integrationd.sysusers").read_text().splitlines()
        if not line.startswith("#")
    ]

    assert [(kind, name) for kind, name, *_rest in lines] == [("u", service["User"])]
    assert json.dumps(service["Group"]) == json.dumps(service["User"])


def test_drop_in_for_newer_systemd_keeps_only_the_command_that_answers() -> None:
    def reloads(path: Path) -> list[str]:
        lines = path.read_text().splitlines()
        return [line.partition("=")[2] for line in lines if line.startswith("ExecReload=")]

    signal, command = reloads(SERVICE)

    assert signal == "/bin/kill -HUP $MAINPID"
    assert reloads(UNITS / "notify-reload.conf") == ["", command]
