"""``doctor`` about the machine: what it makes of what the system tells."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from integrationd.cli.checkup import Case, Finding, Level
from integrationd.cli.checkup_machine import (
    MACHINE,
    Mount,
    check_clock,
    check_descriptors,
    check_disk_space,
    check_sync_speed,
    check_systemd,
    judge_mount,
    judge_unit,
    mount_of,
)
from integrationd.clock import SystemClock
from integrationd.settings import ApiSettings, JournalSettings, Settings

DAY_MS = 86_400_000
MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 22 0:25 / /dev/shm rw,nosuid - tmpfs tmpfs rw
40 22 0:30 / /mnt/school\\040share rw - nfs4 server:/export rw,vers=4.2
41 22 0:31 / /mnt/school\\040share/fast rw - xfs /dev/sdb1 rw
50 22 8:2 / /srv rw - ext4 /dev/sda2 rw
51 50 0:40 / /srv rw - overlay overlay rw,lowerdir=/a
60 22 8:3 / /media/cd ro - iso9660 /dev/sr0 ro
torn line
"""
RUNNING = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "Result": "success",
    "UnitFileState": "enabled",
    "NRestarts": "0",
    "NeedDaemonReload": "no",
}


class SetClock:
    """A clock that stands where it is set; each look at the stopwatch takes a fixed time."""

    def __init__(self, now_ms: int, step_s: float = 0.0) -> None:
        self._now_ms = now_ms
        self._step_s = step_s
        self._elapsed_s = 0.0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        self._elapsed_s += self._step_s
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def wait(self, event: anyio.Event, seconds: float | None) -> None:
        raise NotImplementedError


def case_in(directory: Path, **known: Any) -> Case:
    settings = Settings(journal=JournalSettings(path=directory / "journal.db"))
    known = {"settings": settings, "environ": {}, "clock": SystemClock(), **known}
    return Case(config=directory / "integrationd.toml", **known)


def only(findings: Iterator[Finding]) -> Finding:
    (found,) = findings
    return found


def test_every_check_of_the_machine_says_something_and_changes_nothing(tmp_path: Path) -> None:
    for check in MACHINE:
        assert list(check(case_in(tmp_path)))

    assert not list(tmp_path.iterdir())


# File systems


@pytest.mark.parametrize(
    ("path", "point", "kind"),
    [
        ("/var/lib/integrationd", "/", "ext4"),
        ("/dev/shm/x", "/dev/shm", "tmpfs"),
        ("/dev/shmx", "/", "ext4"),
        ("/mnt/school share/x", "/mnt/school share", "nfs4"),
        ("/mnt/school share/fast/x", "/mnt/school share/fast", "xfs"),
        ("/srv/x", "/srv", "overlay"),
    ],
)
def test_mount_of_a_path_is_the_nearest_and_the_last(path: str, point: str, kind: str) -> None:
    assert mount_of(Path(path), MOUNTS) == Mount(point, kind, is_read_only=False)


def test_mount_is_none_where_nothing_is_told() -> None:
    assert mount_of(Path("/x"), "") is None
    assert judge_mount(Path("/x"), None).level is Level.WARNING


@pytest.mark.parametrize(
    ("kind", "level", "word"),
    [
        ("ext4", Level.OK, "ext4"),
        ("btrfs", Level.OK, "btrfs"),
        ("nfs", Level.PROBLEM, "over a network"),
        ("nfs4", Level.PROBLEM, "over a network"),
        ("cifs", Level.PROBLEM, "over a network"),
        ("fuse.sshfs", Level.PROBLEM, "over a network"),
        ("tmpfs", Level.PROBLEM, "in memory"),
        ("overlay", Level.WARNING, "a layer of a container"),
        ("fuse.other", Level.WARNING, "outside of the kernel"),
    ],
)
def test_file_system_is_judged_by_its_kind(kind: str, level: Level, word: str) -> None:
    found = judge_mount(Path("/x"), Mount("/", kind, is_read_only=False))

    assert found.level is level
    assert word in found.found
    assert bool(found.advice) == (level is not Level.OK)


def test_read_only_file_system_is_a_problem() -> None:
    mount = mount_of(Path("/media/cd/x"), MOUNTS)

    assert judge_mount(Path("/media/cd/x"), mount).found.endswith("read-only")


# Disk and clock


@pytest.mark.parametrize(
    ("marks", "level"),
    [
        ({"high_water": 2**49, "critical": 0}, Level.WARNING),
        ({"high_water": 2**49, "critical": 2**49}, Level.PROBLEM),
    ],
)
def test_disk_is_judged_by_the_marks_of_its_journal(
    tmp_path: Path, marks: dict[str, int], level: Level
) -> None:
    settings = Settings(journal=JournalSettings(path=tmp_path / "journal.db", **marks))

    found, *_inodes = check_disk_space(case_in(tmp_path, settings=settings))

    assert (found.subject, found.level) == ("disk space", level)


@pytest.mark.parametrize(
    ("step_s", "level"),
    [(0.000_001, Level.WARNING), (0.004, Level.OK), (0.3, Level.WARNING)],
)
def test_sync_is_judged_by_its_median(tmp_path: Path, step_s: float, level: Level) -> None:
    found = only(check_sync_speed(case_in(tmp_path, clock=SetClock(0, step_s))))

    assert found.level is level


def write_mark(directory: Path, at_ms: int) -> None:
    mark = directory / "journal.db.mark"
    mark.touch()
    os.utime(mark, ns=(at_ms * 1_000_000, at_ms * 1_000_000))


@pytest.mark.parametrize(
    ("ahead_ms", "level", "word"),
    [
        (1000, Level.OK, ""),
        (-DAY_MS, Level.PROBLEM, "24 h before the last commit"),
        (400 * DAY_MS, Level.WARNING, "400 d after the last commit"),
    ],
)
def test_clock_is_held_against_the_last_commit(
    tmp_path: Path, ahead_ms: int, level: Level, word: str
) -> None:
    committed_ms = SystemClock().now_ms() + 100 * DAY_MS
    write_mark(tmp_path, committed_ms)

    found = only(check_clock(case_in(tmp_path, clock=SetClock(committed_ms + ahead_ms))))

    assert found.level is level
    assert word in found.found


def test_clock_before_the_program_was_installed_is_a_problem(tmp_path: Path) -> None:
    found = only(check_clock(case_in(tmp_path, clock=SetClock(0))))

    assert found.level is Level.PROBLEM
    assert "it is 1970-01-01 00:00:00 UTC, before this program" in found.found


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """A limit of so many open files for the time of a test."""
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, hard))
    yield 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


@pytest.mark.parametrize(("connections", "level"), [(100, Level.OK), (512, Level.WARNING)])
def test_descriptors_are_held_against_what_the_settings_need(
    tmp_path: Path, few_descriptors: int, connections: int, level: Level
) -> None:
    settings = Settings(api=ApiSettings(max_connections=connections))

    found = only(check_descriptors(case_in(tmp_path, settings=settings)))

    assert found.level is level
    assert found.found.startswith(f"{few_descriptors} may be open here")


# systemd


@pytest.mark.parametrize(
    ("changes", "level", "word"),
    [
        ({}, Level.OK, "is active (running), enabled"),
        ({"LoadState": "not-found"}, Level.OK, "is not installed"),
        ({"LoadState": "bad-setting"}, Level.PROBLEM, "is bad-setting"),
        (
            {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"},
            Level.PROBLEM,
            "exit-code",
        ),
        ({"NeedDaemonReload": "yes"}, Level.WARNING, "its file has changed"),
        ({"UnitFileState": "disabled"}, Level.WARNING, "gone after a reboot"),
        ({"NRestarts": "3"}, Level.WARNING, "restarted 3 times"),
    ],
)
def test_unit_is_judged_by_its_state(changes: dict[str, str], level: Level, word: str) -> None:
    found = judge_unit(RUNNING | changes)

    assert found.level is level
    assert word in found.found


def systemctl(directory: Path, script: str) -> dict[str, str]:
    path = directory / "systemctl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": str(directory)}


def test_systemctl_is_asked_for_the_unit(tmp_path: Path) -> None:
    told = "\n".join(f"echo {name}={value}" for name, value in RUNNING.items())
    environ = systemctl(tmp_path, f'test "$2" = integrationd.service || exit 1\n{told}')

    found = only(check_systemd(case_in(tmp_path, environ=environ)))

    assert found.found == "integrationd.service is active (running), enabled"


@pytest.mark.parametrize("script", [None, "echo LoadState=loaded; exit 1"])
def test_machine_without_systemd_is_no_problem(tmp_path: Path, script: str | None) -> None:
    environ = {"PATH": str(tmp_path)} if script is None else systemctl(tmp_path, script)

    found = only(check_systemd(case_in(tmp_path, environ=environ)))

    assert (found.level, found.found) == (Level.OK, "not in use on this machine")
