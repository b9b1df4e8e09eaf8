"""Checks of the files that the daemon keeps: the journal, its companions and the keys."""

import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from integrationd.cli.checkup import Case, Check, Finding, ok, problem, warning
from integrationd.errors import ConfigError
from integrationd.journal.keys import read_key, read_secret

_COMPANIONS = ("", "-wal", "-shm", ".mark", ".lock", ".alarm")
_OTHERS = stat.S_IRWXO
_GROUP = stat.S_IRWXG


def check_directory(case: Case) -> Iterator[Finding]:
    """Look whether the journal's directory is there and can be used by nobody else."""
    wanted = case.journal.absolute().parent
    if wanted.exists() and not wanted.is_dir():
        yield problem("directory", f"{wanted} is not a directory", "Move it away, or name another.")
        return
    can_write = os.access(case.directory, os.W_OK | os.X_OK)
    if not wanted.is_dir():
        told = f"{wanted} does not exist; the first start makes it"
        yield (
            ok("directory", told)
            if can_write
            else problem(
                "directory",
                f"{wanted} does not exist, and {case.directory} cannot be written by {_me()}",
                f"Make it for the daemon's user: install -d -m 0750 -o USER {_quoted(wanted)}",
            )
        )
        return
    yield _judge_directory(wanted, can_write=can_write)


def _judge_directory(path: Path, *, can_write: bool) -> Finding:
    found = path.stat()
    told = f"{path} belongs to {_user(found.st_uid)}, mode {_mode(found)}"
    if not can_write:
        advice = f"Run this as the daemon's user, or run: chown USER {_quoted(path)}"
        return problem("directory", f"{told}, and cannot be written by {_me()}", advice)
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        advice = f"Run: chmod o-w {_quoted(path)}"
        return problem("directory", f"{told}: everybody can replace the journal", advice)
    if found.st_mode & _OTHERS:
        advice = f"Run: chmod o-rwx {_quoted(path)}"
        return warning("directory", f"{told}: open to every user of this machine", advice)
    return ok("directory", told)


def check_journal_files(case: Case) -> Iterator[Finding]:
    """Look who may read the journal, and whether one user owns all of it."""
    paths = [case.journal.with_name(case.journal.name + end) for end in _COMPANIONS]
    there = [path for path in paths if path.exists()]
    if not case.journal.exists():
        yield ok("journal", f"there is none at {case.journal} yet; the first start makes it")
        return
    found = [each for path in there for each in _file_faults(path, case.journal.stat().st_uid)]
    yield from found
    if not found:
        owner = _user(case.journal.stat().st_uid)
        yield ok("journal", f"{case.journal} and what belongs to it are {owner}'s alone")


def _file_faults(path: Path, owner: int) -> Iterator[Finding]:
    found = path.stat()
    told = f"{path} (mode {_mode(found)})"
    if not stat.S_ISREG(found.st_mode):
        yield problem("journal", f"{path} is not a regular file", "Move it away.")
    elif found.st_mode & _OTHERS:
        advice = f"Run: chmod 600 {_quoted(path)}"
        yield problem("journal", f"{told} is open to every user of this machine", advice)
    elif found.st_mode & _GROUP:
        advice = f"Run: chmod 600 {_quoted(path)}"
        yield warning("journal", f"{told} is open to its group", advice)
    if found.st_uid != owner:
        advice = f"Run: chown {_user(owner)} {_quoted(path)}"
        told = f"{path} belongs to {_user(found.st_uid)}, the journal to {_user(owner)}"
        yield problem("journal", f"{told}; the daemon may not be able to write it", advice)
    elif not os.access(path, os.R_OK | os.W_OK):
        yield problem(
            "journal",
            f"{told} cannot be read and written by {_me()}",
            "Run this as the daemon's user, or give that user the file.",
        )


def check_instance_key(case: Case) -> Iterator[Finding]:
    """Look whether the key that chains the event log is there, sound and private."""
    path = case.settings.instance_key_file
    try:
        read_key(path)
    except FileNotFoundError:
        if case.journal.exists():
            advice = "Restore it from a backup; with a new one the event log cannot be verified."
            yield problem("instance key", f"{path} is missing beside an existing journal", advice)
        else:
            yield ok("instance key", f"there is none at {path} yet; the first start makes it")
    except ConfigError as error:
        yield problem("instance key", str(error), error.hint)
    else:
        yield ok("instance key", f"{path} is sound and its owner's alone")


def check_api_key(case: Case) -> Iterator[Finding]:
    """Look whether the key that TCP clients show is sound and private."""
    path = case.settings.api_key_file
    try:
        read_secret(path)
    except FileNotFoundError:
        yield ok("API key", f"there is none at {path} yet; the first start makes it")
    except ConfigError as error:
        yield problem("API key", str(error), error.hint)
    else:
        yield ok("API key", f"{path} is its owner's alone")


def check_alarm(case: Case) -> Iterator[Finding]:
    """Look whether a loss was noticed that nobody has acknowledged."""
    alarm = case.journal.with_name(case.journal.name + ".alarm")
    mark = case.journal.with_name(case.journal.name + ".mark")
    text = alarm.read_text("utf-8", "replace").strip() if alarm.exists() else ""
    if text:
        yield problem(
            "alarm",
            text,
            "Find out what happened to the disk, then run: integrationd status --acknowledge",
        )
    elif case.journal.exists() and not mark.exists():
        yield warning(
            "high-water mark",
            f"{mark} is missing, so that commits lost before the next start go unnoticed",
            "Start the daemon, which makes it anew; 'integrationd verify' checks what is there.",
        )
    else:
        yield ok("alarm", "no loss of commits has been noticed")


def _me() -> str:
    return _user(os.geteuid())


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _mode(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):04o}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


FILES: tuple[Check, ...] = (
    check_directory,
    check_journal_files,
    check_instance_key,
    check_api_key,
    check_alarm,
)
"""All checks of this module, in the order in which they are told."""
