"""Checks of what the configuration says: secrets, plugins, connections and listeners."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import integrationd
from integrationd.cli.check import check
from integrationd.cli.checkup import Case, Check, Finding, ok, problem, warning
from integrationd.cli.glance import glance_url
from integrationd.registry import builtin_plugins, load_plugins, plugin_files
from integrationd.registry.examination import LIMIT_S, examined
from integrationd.settings import RejectedConfigError, resolve_all
from integrationd.supervisor.secrets import reader_here

ANSWER_TIMEOUT_S = 2.0

_CONFIG_ADVICE = "Mend it, then run: integrationd config check"


def check_references(case: Case) -> Iterator[Finding]:
    """Look whether every secret that the configuration refers to can be read."""
    vault, unread = reader_here(case.settings, case.environ)
    try:
        found = resolve_all(case.settings, case.config, case.environ, vault=vault)
    except RejectedConfigError as error:
        # A running daemon has them; this process may have another environment or user.
        tell = problem if case.status is None else warning
        advice = "To be sure, run this as the daemon's user and in the daemon's environment."
        yield from (tell("secrets", str(each), advice) for each in error.problems)
        return
    if unread:
        advice = "Run this as the daemon's user and in the daemon's environment to be sure."
        yield warning("secrets", f"those in the vault were not opened: {unread}", advice)
    count = sum(len(one.origins) for one in found.values())
    yield ok("secrets", f"{count} reference{'s' * (count != 1)} can be read")


def check_plugins(case: Case) -> Iterator[Finding]:
    """Run the operator's plugin files in processes of their own, then make every connection."""
    builtin = load_plugins(plugin_files([builtin_plugins()]), case.clock)
    codes, is_sound = set(builtin.versions), True
    for one in examined(plugin_files(case.settings.plugins.paths), case.clock, LIMIT_S):
        advice = f"Mend it, then run: integrationd plugins check {one.file}"
        yield from (warning("plugin", f"{one.file}: {each}", advice) for each in one.warnings)
        yield from (problem("plugin", f"{one.file}: {each}", advice) for each in one.problems)
        is_sound = is_sound and one.is_ok
        if one.is_ok and one.code is not None:
            codes.add(one.code)
            yield ok("plugin", f"{one.file}: {one.code}")
    # Only files that did no harm there are run in this process.
    yield from _connections(case) if is_sound else _without_provider(case, codes)


def _without_provider(case: Case, codes: set[str]) -> Iterator[Finding]:
    for name, connection in case.settings.connections.items():
        if connection.provider not in codes:
            told = f"connections.{name}.provider: no sound plugin has the code"
            yield problem("connections", f"{told} {connection.provider!r}", _CONFIG_ADVICE)
    told = "their configs were not looked at, since a plugin is not sound"
    yield warning("connections", told, "Mend the plugin first.")


def _connections(case: Case) -> Iterator[Finding]:
    report = check(case.config, case.environ, case.clock)
    missing = _unresolved(case)
    for each in report.problems:
        if str(each) not in missing:
            yield problem("connections", str(each), _CONFIG_ADVICE)
    for each in report.warnings:
        yield warning("connections", str(each), _CONFIG_ADVICE)
    if report.is_ok:
        names = ", ".join(one.id for one in report.connections)
        yield ok("connections", names or "there are none: nothing can be sent")


def _unresolved(case: Case) -> set[str]:
    """Return the problems that are told about secrets already."""
    try:
        vault, _ = reader_here(case.settings, case.environ)
        resolve_all(case.settings, case.config, case.environ, vault=vault)
    except RejectedConfigError as error:
        return set(map(str, error.problems))
    return set()


def check_socket(case: Case) -> Iterator[Finding]:
    """Look what stands where the daemon's Unix socket belongs."""
    path = case.settings.api.socket
    if path is None:
        yield ok("socket", "switched off")
        return
    above = path.parent
    if above.is_dir() and _is_free_for_all(above):
        advice = f"Run: chmod o-w {above}"
        yield problem("socket", f"everybody can replace files in {above}", advice)
    if not path.exists() and not path.is_symlink():
        yield ok("socket", f"{path} is free")
    elif not stat.S_ISSOCK(path.lstat().st_mode):
        advice = "Move it away, or name another path in [api] socket."
        yield problem("socket", f"{path} is not a socket", advice)
    else:
        yield _judge_socket(case, path)


def _judge_socket(case: Case, path: Path) -> Finding:
    if case.status is not None:
        return ok("socket", f"{path} is served by the running daemon")
    number = _knock(path)
    if number == errno.ECONNREFUSED:
        told = f"{path} was left over by a daemon that is gone"
        return warning("socket", told, "Nothing to do: the next start takes its place.")
    if number in (errno.EACCES, errno.EPERM):
        advice = "Run this as the daemon's user, or join the group of the socket."
        return warning("socket", f"{path} may not be used by this user", advice)
    advice = "If that is the daemon, see its log; else stop it, or name another path."
    return problem("socket", f"{path} is held by something that does not answer", advice)


def _knock(path: Path) -> int:
    """Try to connect, and return the system's error number; 0 where it works."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
        knocking.settimeout(ANSWER_TIMEOUT_S)
        return knocking.connect_ex(str(path))


def check_listener(case: Case) -> Iterator[Finding]:
    """Look whether the TCP address is free, or served by a daemon."""
    address, listen = case.settings.api.address, case.settings.api.listen
    if address is None:
        yield ok("TCP", "switched off")
        return
    number = _bind_error(*address)
    if number == 0:
        yield _judge_free(case, listen)
    elif number != errno.EADDRINUSE:
        advice = "Choose an address and a port of this machine in [api] listen."
        yield problem("TCP", f"{listen} cannot be used: {os.strerror(number).lower()}", advice)
    elif glance_url(f"http://{listen}", "/healthz", ANSWER_TIMEOUT_S, None) != {"status": "ok"}:
        advice = "Stop what listens there ('ss -lntp' shows it), or choose another port."
        yield problem("TCP", f"{listen} is taken by another program", advice)
    elif case.status is None and case.settings.api.socket is not None:
        advice = "Stop that daemon, or choose another port in [api] listen."
        yield warning("TCP", f"{listen} is served by a daemon of another configuration", advice)
    else:
        yield ok("TCP", f"{listen} is served by the running daemon")


def _judge_free(case: Case, listen: str) -> Finding:
    if case.status is None or listen.endswith(":0"):
        return ok("TCP", f"{listen} is free")
    told = f"the running daemon does not listen on {listen}"
    return warning("TCP", told, "It was started with another [api] listen: restart it.")


def _bind_error(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trying:
        # As the daemon does, so that connections of an earlier run do not look like a listener.
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trying.bind((host, port))
        except OSError as error:
            return error.errno or errno.EIO
    return 0


def check_daemon(case: Case) -> Iterator[Finding]:
    """Say what a running daemon says of itself."""
    status = case.status
    if status is None:
        yield ok("daemon", "none answers on the socket")
        return
    version = status.get("version")
    told = f"integrationd {version} runs; it says: {status.get('status')}"
    problems = [str(each) for each in status.get("problems") or []]
    yield from (warning("daemon", each, "See: integrationd status") for each in problems)
    if version != integrationd.__version__:
        installed = f"{told}, but {integrationd.__version__} is installed"
        yield warning("daemon", installed, "Restart it to run what is installed.")
    elif not problems:
        yield ok("daemon", told)


def _is_free_for_all(directory: Path) -> bool:
    mode = directory.stat().st_mode
    return bool(mode & stat.S_IWOTH and not mode & stat.S_ISVTX)


SET_UP: tuple[Check, ...] = (
    check_references,
    check_plugins,
    check_daemon,
    check_socket,
    check_listener,
)
"""All checks of this module, in the order in which they are told."""
