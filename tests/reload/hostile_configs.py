"""Configurations that cannot be used, each with where and why in words."""

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.reload.rig import put


@dataclass(frozen=True)
class HostileConfig:
    """One configuration that must be refused.

    Attributes:
        name: What is wrong with it.
        where: What the place that is named must begin with; ``FILE`` for the file itself.
        reason: Words that must be in what is said.
        place: Puts it in the place of the file; given the file and the text of a good one.
    """

    name: str
    where: str
    reason: str
    place: Callable[[Path, str], object]


FILE = "FILE"
SECRET = "canary-of-the-secret"


def more(name: str, where: str, reason: str, tables: str) -> HostileConfig:
    """Return a good configuration with more at its end."""
    return HostileConfig(name, where, reason, lambda path, good: put(path, f"{good}\n{tables}\n"))


def raw(name: str, where: str, reason: str, content: bytes) -> HostileConfig:
    """Return a configuration of these bytes, in which ``GOOD`` stands for a good one."""

    def place(path: Path, good: str) -> None:
        put(path, content.replace(b"GOOD", good.encode()))

    return HostileConfig(name, where, reason, place)


def special(name: str, reason: str, make: Callable[[Path], object]) -> HostileConfig:
    """Return something else in the place of the file."""

    def place(path: Path, _good: str) -> None:
        remove(path)
        make(path)

    return HostileConfig(name, FILE, reason, place)


def changed(name: str, where: str, reason: str, old: str, new: str) -> HostileConfig:
    """Return a good configuration with something in it replaced."""

    def place(path: Path, good: str) -> None:
        assert old in good, old
        put(path, good.replace(old, new, 1))

    return HostileConfig(name, where, reason, place)


def secret(name: str, reason: str, make: Callable[[Path], object]) -> HostileConfig:
    """Return a configuration with a connection whose secret file cannot be used."""

    def place(path: Path, good: str) -> None:
        file = path.with_name("hostile-key")
        remove(file)
        make(file)
        told = f'[connections.h]\nprovider = "echo"\nconfig = {{ key = "file:{file.name}" }}'
        put(path, f"{good}\n{told}\n")

    return HostileConfig(name, "connections.h.config.key", reason, place)


def remove(path: Path) -> None:
    """Remove whatever is in a place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def _written(content: bytes, mode: int = 0o600) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(content)
        path.chmod(mode)

    return make


def connection(lines: str) -> str:
    """Return a connection with these lines."""
    return f'[connections.h]\nprovider = "echo"\n{lines}'


NOT_A_FILE = [
    special("gone", "does not exist", lambda path: None),
    special("directory", "is a directory", Path.mkdir),
    special("FIFO", "is a named pipe", os.mkfifo),
    special("socket", "is a socket", _socket),
    special("device", "is a device", lambda path: path.symlink_to("/dev/zero")),
    special(
        "dangling link",
        "link to a file that does not exist",
        lambda path: path.symlink_to("nowhere"),
    ),
    special("looping link", "leads back to itself", lambda path: path.symlink_to(path.name)),
    special("1 GiB", "is larger than", _huge),
]
NOT_TOML = [
    raw("empty", "api.listen", "needs a restart", b""),
    raw(
        "duplicate key",
        "line 14",
        "Cannot overwrite a value",
        b"GOOD\n[log]\nlevel = 'info'\nlevel = 'info'\n",
    ),
    raw("duplicate table", "line 13", "Cannot declare", b"GOOD\n[log]\n[log]\n"),
    raw("open table", "line 12", "Expected ']' at the end of a table", b"GOOD\n[connections.h\n"),
    raw("open string", "line 13", "Illegal character", b'GOOD\n[log]\nlevel = "info\n'),
    raw("half written", "line 13", "Invalid value", b"GOOD\n[connections.h]\nprovider = "),
    raw(
        "YAML",
        "line 1",
        "Expected '=' after a key",
        b"connections:\n  h: !!python/object/apply:os.system ['true']\n",
    ),
    raw("JSON", "line 1", "Invalid statement", b'{"connections": {}}\n'),
    raw("NUL", "line ", "NUL character", b"GOOD\n\0\n"),
    raw("BOM", "line 1", "byte order mark", b"\xef\xbb\xbfGOOD"),
    raw("UTF-16", "line 1", "byte order mark", "\ufeff[log]\n".encode("utf-16-le")),
    raw("Latin-1", "line ", "is not UTF-8", b"GOOD\n# caf\xe9\n"),
    raw("CR only", "line 1", "carriage return", b"[log]\rlevel = 'info'\r"),
    raw("direction", "line ", "U+202E", "GOOD\n# \u202e\n".encode()),
    raw("number of many digits", FILE, "too many digits", b"GOOD\n[h]\nx = " + b"9" * 5000),
    raw("nested deep", FILE, "nested too deeply", b"GOOD\n[h]\nx = " + b"[" * 5000 + b"]" * 5000),
    raw("deep key", "line ", "more than 32 parts", b"GOOD\n" + b"a." * 5000 + b"b = 1\n"),
    raw("binary", "line 2", "is not UTF-8", bytes(range(1, 256)) * 8),
    more(
        "octal number",
        "line 13",
        "Expected newline or end of document",
        "[delivery]\nattempts = 017",
    ),
    more("word for a truth", "line 14", "Invalid value", connection("enabled = yes")),
]
NOT_SENSE = [
    more("unknown table", "nonsense", "is unknown", "[nonsense]\nx = 1"),
    more("unknown key", "connections.h.colour", "is unknown", connection('colour = "red"')),
    more(
        "almost a key",
        "connections.h.concurrencyy",
        "did you mean 'concurrency'",
        connection("concurrencyy = 3"),
    ),
    more("tenant that is no table", "tenants.key", "must be a table", "[tenants]\nkey = 1"),
    more("text for a truth", "connections.h.enabled", "must be", connection('enabled = "no way"')),
    more("date for a number", "delivery.attempts", "must be", "[delivery]\nattempts = 2026-01-01"),
    more(
        "negative attempts",
        "delivery.attempts",
        "greater than or equal to 1",
        "[delivery]\nattempts = -1",
    ),
    more(
        "no attempts", "delivery.attempts", "greater than or equal to 1", "[delivery]\nattempts = 0"
    ),
    more(
        "huge attempts",
        "delivery.attempts",
        "less than or equal to 1000",
        "[delivery]\nattempts = 10000000000000",
    ),
    more("half an attempt", "delivery.attempts", "valid integer", "[delivery]\nattempts = 1.5"),
    more(
        "infinite factor",
        "delivery.backoff_factor",
        "finite number",
        "[delivery]\nbackoff_factor = inf",
    ),
    more(
        "factor that is no number",
        "delivery.backoff_factor",
        "finite number",
        "[delivery]\nbackoff_factor = nan",
    ),
    more("zero delay", "delivery.backoff_first", "must be", '[delivery]\nbackoff_first = "0s"'),
    more(
        "cap under the first",
        "delivery.backoff_cap",
        "shorter than backoff_first",
        '[delivery]\nbackoff_first = "1m"\nbackoff_cap = "1s"',
    ),
    more(
        "timeout without a unit",
        "delivery.timeout",
        "must be a duration",
        '[delivery]\ntimeout = "soon"',
    ),
    more("endless timeout", "delivery.timeout", "must be", '[delivery]\ntimeout = "1000d"'),
    more(
        "breaker of 0",
        "delivery.breaker.failures",
        "greater than or equal to 1",
        "[delivery.breaker]\nfailures = 0",
    ),
    more(
        "failure rate of 2",
        "connections.h.breaker.failure_rate",
        "less than or equal to 1",
        connection("breaker = { failure_rate = 2.0 }"),
    ),
    more(
        "no concurrency",
        "connections.h.concurrency",
        "greater than or equal to 1",
        connection("concurrency = 0"),
    ),
    more(
        "rate of nothing",
        "connections.h.rate_limit",
        "must be between",
        connection('rate_limit = "0/s"'),
    ),
    more(
        "rate in words",
        "connections.h.rate_limit",
        "must be a rate",
        connection('rate_limit = "fast"'),
    ),
    more(
        "name in upper case",
        "connections.H",
        "is no connection name",
        '[connections.H]\nprovider = "echo"',
    ),
    more(
        "name with a path",
        'connections."../h"',
        "is no connection name",
        '[connections."../h"]\nprovider = "echo"',
    ),
    more("no provider", "connections.h.provider", "is required", "[connections.h]"),
    more(
        "provider nobody knows",
        "connections.h.provider",
        "no plugin has the code 'nobody'",
        '[connections.h]\nprovider = "nobody"',
    ),
    more(
        "provider that is no code",
        "connections.h.provider",
        "is no provider code",
        '[connections.h]\nprovider = "../x"',
    ),
    more(
        "config that the plugin does not know",
        "connections.h.config.colour",
        "its fields are: key",
        connection('config = { colour = "red" }'),
    ),
    more(
        "config of another kind",
        "connections.h.config.key",
        "valid string",
        connection("config = { key = 17 }"),
    ),
    more(
        "config nested deep",
        "connections.h.config",
        "nested",
        connection("config = " + "{ a = " * 40 + "1" + " }" * 40),
    ),
    more(
        "route to nobody",
        'routes."echo.send".order[0]',
        "is unknown",
        '[routes."echo.send"]\norder = ["nobody"]',
    ),
    more(
        "route to nothing",
        'routes."echo.send".order',
        "must name a connection",
        '[routes."echo.send"]\norder = []',
    ),
    more(
        "route of no operation", "routes.", "is no operation", '[routes."SEND"]\norder = ["echo"]'
    ),
    more("tenant", "connections.h.tenant", "is no tenant id", connection('tenant = "a b"')),
    more("loud log", "log.level", "must be 'debug', 'info'", '[log]\nlevel = "shout"'),
    changed("public address", "api.listen", "loopback", 'listen = "127.0.0.1', 'listen = "0.0.0.0'),
    changed(
        "another address",
        "api.listen",
        "needs a restart",
        'listen = "127.0.0.1',
        'listen = "127.0.0.2',
    ),
    changed("another journal", "journal.path", "needs a restart", "journal.db", "other.db"),
    changed("no listener at all", "api.listen", "needs a restart", 'listen = "', 'listen = ""  # '),
    changed("long socket", "api.socket", "bytes long", "daemon.sock", "x" * 200),
    changed(
        "home directory",
        "journal.path",
        "'~' is not expanded",
        '[journal]\npath = "',
        '[journal]\npath = "~',
    ),
]
SECRETS = [
    secret("secret gone", "does not exist", lambda path: None),
    secret("secret open to all", "chmod o-rwx", _written(SECRET.encode(), 0o644)),
    secret("empty secret", "is empty", _written(b"")),
    secret("binary secret", "is not UTF-8", _written(b"\xff\xfe\xfd")),
    secret("huge secret", "is larger than", _written(b"x" * (1 << 20))),
    secret("secret directory", "is a directory", Path.mkdir),
    secret("secret FIFO", "is a named pipe", os.mkfifo),
    more(
        "unset variable",
        "connections.h.config.key",
        "NOT_SET_ANYWHERE is not set",
        connection('config = { key = "env:NOT_SET_ANYWHERE" }'),
    ),
    more(
        "variable that is none",
        "connections.h.config.key",
        "not the name of an environment variable",
        connection('config = { key = "env:A B" }'),
    ),
    more(
        "vault",
        "connections.h.config.key",
        "the vault holds no secret 'x'",
        connection('config = { key = "vault:x" }'),
    ),
    more(
        "credential",
        "connections.h.config.key",
        "CREDENTIALS_DIRECTORY is not set",
        connection('config = { key = "credential:x" }'),
    ),
    more(
        "credential with a path",
        "connections.h.config.key",
        "not the name of a systemd credential",
        connection('config = { key = "credential:../x" }'),
    ),
]
REFUSED = [*NOT_A_FILE, *NOT_TOML, *NOT_SENSE, *SECRETS]
