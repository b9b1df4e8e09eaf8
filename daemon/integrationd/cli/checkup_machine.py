"""Checks of the machine below the daemon: libraries, disk, clock, limits, systemd."""

import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import integrationd
from integrationd.cli.checkup import Case, Check, Finding, ok, problem, warning
from integrationd.cli.render import span
from integrationd.clock import to_datetime
from integrationd.journal import Watermarks, sqlite
from integrationd.settings.units import format_size

UNIT = "integrationd.service"
SYSTEMCTL_LIMIT_S = 5.0

_SYNC_ROUNDS = 9
_SYNC_BYTES = 4096
_SLOW_SYNC_S = 0.05
_UNBELIEVABLE_SYNC_S = 20e-6
_LEAST_BYTES = 64 << 20
_FEW_BYTES = 1 << 30
_LEAST_INODES = 1000
_FEW_INODES = 20_000
_SKEW_S = 60
_LONG_AGO_S = 366 * 86_400
# Descriptors besides one for each connection and each attempt.
_OWN_DESCRIPTORS = 64
_FILE_SYSTEMS = {
    "over a network": (
        r"9p|afs|beegfs|ceph|cifs|fuse\.sshfs|gfs2|glusterfs|lustre|nfs4?|ocfs2|smb.*|vboxsf|virtiofs",
        problem,
        "Put the journal on a disk of this machine; SQLite is not safe over a network.",
    ),
    "in memory": (
        "ramfs|tmpfs",
        problem,
        "Put the journal on a disk; a restart of the machine loses every call.",
    ),
    "a layer of a container": (
        "aufs|overlay|unionfs",
        warning,
        "Give the container a volume for the journal; it is lost with the container.",
    ),
    "outside of the kernel": (
        r"fuse.*",
        warning,
        "Put the journal on a file system of the kernel; this one may not sync.",
    ),
}
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """What is mounted where a path leads.

    Attributes:
        point: The directory.
        kind: The type of the file system.
        is_read_only: Whether nothing can be written.
    """

    point: str
    kind: str
    is_read_only: bool


def check_program(_case: Case) -> Iterator[Finding]:
    """Say which versions run."""
    python = platform.python_version()
    yield ok("program", f"integrationd {integrationd.__version__} on Python {python}")


def check_sqlite(_case: Case) -> Iterator[Finding]:
    """Look whether the SQLite library is safe with two connections."""
    version = ".".join(map(str, sqlite.VERSION))
    library = sqlite.SqliteError.__module__.partition(".")[0]
    told = f"{version}, by way of {library}"
    if sqlite.has_wal_reset_bug():
        yield warning(
            "SQLite",
            f"{told} can corrupt a journal that two connections use; the daemon uses one"
            " exclusive connection, so reads wait for writes",
            "Install pysqlite3 0.6 or newer where it has a wheel, or SQLite 3.51.3 or newer.",
        )
    else:
        yield ok("SQLite", told)


def check_file_system(case: Case) -> Iterator[Finding]:
    """Look on what kind of file system the journal stands."""
    mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    found = mount_of(case.directory.resolve(), mounts)
    yield judge_mount(case.directory, found)


def mount_of(path: Path, mountinfo: str) -> Mount | None:
    """Return what is mounted where a path leads, as ``/proc/self/mountinfo`` has it."""
    best: Mount | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 6 or not kinds:
            continue
        point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
        options = {*fields[5].split(","), *kinds[-1].split(",")}
        # A later line of the same length is mounted over the earlier one.
        if path.is_relative_to(point) and (best is None or len(point) >= len(best.point)):
            best = Mount(point, kinds[0], "ro" in options)
    return best


def judge_mount(directory: Path, mount: Mount | None) -> Finding:
    """Say whether calls are safe on a file system."""
    subject = "file system"
    if mount is None:
        advice = "Make sure that it is a local disk."
        return warning(subject, f"cannot tell what {directory} is mounted from", advice)
    told = f"{directory} is on {mount.kind}, mounted at {mount.point}"
    if mount.is_read_only:
        return problem(subject, f"{told}, read-only", "Mount it for writing.")
    for what, (kinds, tell, advice) in _FILE_SYSTEMS.items():
        if re.fullmatch(kinds, mount.kind):
            return tell(subject, f"{told}, {what}", advice)
    return ok(subject, told)


def check_disk_space(case: Case) -> Iterator[Finding]:
    """Look how much room the journal's disk has."""
    disk = os.statvfs(case.directory)
    free = disk.f_bavail * disk.f_frsize
    told = f"{format_size(free)} free at {case.directory}"
    advice = "Free space, or move [journal] path to a larger disk; a full one accepts no calls."
    marks = Watermarks(case.settings.journal.high_water, case.settings.journal.critical)
    high, critical = marks.on(disk.f_blocks * disk.f_frsize)
    if free < (critical or _LEAST_BYTES):
        yield problem("disk space", told, advice)
    elif free < max(high, _FEW_BYTES):
        yield warning("disk space", told, advice)
    else:
        yield ok("disk space", told)
    # Some file systems make inodes as they need them, and say that they have none.
    if disk.f_files and disk.f_favail < _FEW_INODES:
        tell = problem if disk.f_favail < _LEAST_INODES else warning
        yield tell(
            "inodes",
            f"{disk.f_favail} left at {case.directory}",
            "Delete small files; without inodes no file can be made, however much space is free.",
        )


def check_sync_speed(case: Case) -> Iterator[Finding]:
    """Measure how long the disk takes to make a small write durable."""
    if not os.access(case.directory, os.W_OK | os.X_OK):
        yield warning(
            "sync", "not measured: nothing can be written here", "Run this as the daemon's user."
        )
        return
    median_s = statistics.median(_sync_times(case))
    told = f"a write of 4 KiB is durable after {span_of(median_s)}"
    if median_s < _UNBELIEVABLE_SYNC_S:
        advice = "Make sure that syncs reach the disk: memory, or a VM's unsafe cache, loses calls."
        yield warning("sync", f"{told}, faster than a disk can be", advice)
    elif median_s > _SLOW_SYNC_S:
        advice = "Every accepted call waits for this at least once; use a faster or less busy disk."
        yield warning("sync", f"{told}, which is slow", advice)
    else:
        yield ok("sync", told)


def _sync_times(case: Case) -> Iterator[float]:
    with tempfile.TemporaryFile(dir=case.directory, prefix=".integrationd-doctor-") as file:
        for round_number in range(_SYNC_ROUNDS):
            os.pwrite(file.fileno(), os.urandom(_SYNC_BYTES), round_number * _SYNC_BYTES)
            began = case.clock.monotonic()
            os.fdatasync(file.fileno())
            yield case.clock.monotonic() - began


def span_of(seconds: float) -> str:
    """Return a length of time, however short."""
    return span(seconds) if seconds >= 0.01 else f"{seconds * 1000:.2f} ms"


def check_clock(case: Case) -> Iterator[Finding]:
    """Hold the clock against the program's files and the journal's last commit."""
    now_s = case.clock.now_ms() / 1000
    installed_s = Path(integrationd.__file__).stat().st_mtime
    told = f"it is {to_datetime(case.clock.now_ms()):%Y-%m-%d %H:%M:%S} UTC"
    advice = "Set the clock, and keep it right with chrony or systemd-timesyncd."
    # Written after every commit, so that its time is that of the last one.
    mark = case.journal.with_name(case.journal.name + ".mark")
    last_s = mark.stat().st_mtime if mark.exists() else None
    if now_s < installed_s - _SKEW_S:
        yield problem("clock", f"{told}, before this program was installed", advice)
    elif last_s is not None and now_s < last_s - _SKEW_S:
        yield problem("clock", f"{told}, {span(last_s - now_s)} before the last commit", advice)
    elif last_s is not None and now_s > last_s + _LONG_AGO_S:
        yield warning("clock", f"{told}, {span(now_s - last_s)} after the last commit", advice)
    else:
        yield ok("clock", told)


def check_descriptors(case: Case) -> Iterator[Finding]:
    """Look whether enough files and connections may be open at a time."""
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    settings = case.settings
    needed = settings.api.max_connections + settings.delivery.concurrency + _OWN_DESCRIPTORS
    told = f"{limit} may be open here, {needed} could be needed"
    if limit != resource.RLIM_INFINITY and limit < needed:
        advice = "Raise it (ulimit -n, or LimitNOFILE= in the service), or lower max_connections."
        yield warning("descriptors", told, advice)
    else:
        yield ok("descriptors", told)


def check_systemd(case: Case) -> Iterator[Finding]:
    """Look whether the service is installed, and how it is."""
    found = _unit_properties(case.environ)
    if not found:
        yield ok("systemd", "not in use on this machine")
        return
    yield judge_unit(found)


def _unit_properties(environ: Mapping[str, str]) -> dict[str, str]:
    program = shutil.which("systemctl", path=environ.get("PATH"))
    if program is None:
        return {}
    names = "LoadState,ActiveState,SubState,Result,UnitFileState,NRestarts,NeedDaemonReload"
    try:
        done = subprocess.run(  # noqa: S603 - the administrator's own systemctl, no shell
            [program, "show", UNIT, f"--property={names}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            timeout=SYSTEMCTL_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = (line.partition("=") for line in done.stdout.splitlines())
    return {name: value for name, _, value in lines} if done.returncode == 0 else {}


def judge_unit(found: Mapping[str, str]) -> Finding:
    """Say how the service is, from what ``systemctl show`` tells."""
    load, active = found.get("LoadState"), found.get("ActiveState")
    told = f"{UNIT} is {active} ({found.get('SubState')}), {found.get('UnitFileState')}"
    match load, active:
        case "not-found", _:
            return ok("systemd", f"{UNIT} is not installed")
        case "loaded", "failed":
            advice = f"See: journalctl -u {UNIT} -n 50"
            return problem("systemd", f"{told}: {found.get('Result')}", advice)
        case "loaded", _:
            return _judge_loaded_unit(found, told)
        case _:
            return problem("systemd", f"{UNIT} is {load}", f"See: systemctl status {UNIT}")


def _judge_loaded_unit(found: Mapping[str, str], told: str) -> Finding:
    if found.get("NeedDaemonReload") == "yes":
        advice = "Run: systemctl daemon-reload"
        return warning("systemd", f"{told}, and its file has changed", advice)
    if found.get("UnitFileState") == "disabled" and found.get("ActiveState") == "active":
        return warning("systemd", f"{told}: gone after a reboot", f"Run: systemctl enable {UNIT}")
    if found.get("NRestarts", "0") not in ("", "0"):
        advice = f"See why: journalctl -u {UNIT}"
        return warning("systemd", f"{told}, restarted {found['NRestarts']} times", advice)
    return ok("systemd", told)


WITHOUT_CONFIG: tuple[Check, ...] = (check_program, check_sqlite, check_systemd)
"""Checks that make sense without a configuration, too."""

MACHINE: tuple[Check, ...] = (
    *WITHOUT_CONFIG,
    check_clock,
    check_file_system,
    check_disk_space,
    check_sync_speed,
    check_descriptors,
)
"""All checks of this module, in the order in which they are told."""
