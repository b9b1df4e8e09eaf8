"""Secrets by reference: what a connection's ``config`` points at is read here, and nowhere else.

A string in a config may be ``env:NAME``, ``file:PATH``, ``credential:NAME`` (a systemd credential),
``vault:NAME`` (a secret of the connection's tenant, or of the vault for what all share, read by
what the caller passes in) or ``literal:TEXT`` for a text that would otherwise be taken for one of
these. Values never appear in
an error or a ``repr``.
"""

import dataclasses
import errno
import functools
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from integrationd.settings.model import Settings
from integrationd.settings.table import Problem, RejectedConfigError, key_path
from integrationd.settings.tenants import SHARED_SECRETS_OF
from integrationd.settings.vault import SECRET_NAME_PATTERN

SECRET_LIMIT_BYTES = 64 * 1024

_REFERENCE_PATTERN = re.compile(r"(env|file|credential|vault|literal):(.*)", re.DOTALL)
_VARIABLE_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPEN_TO_OTHERS = stat.S_IROTH | stat.S_IWOTH
_DEPTH_LIMIT = 32
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_REASONS = {
    errno.ENOENT: "does not exist",
    errno.ELOOP: "is a symbolic link that leads back to itself",
    errno.ENXIO: "is a socket or a device, not a file",
    errno.EACCES: "may not be read by the user that the daemon runs as",
}


class UnusableError(ValueError):
    """A file or a reference cannot be read; the message says why, never what it holds."""


class SecretReader(Protocol):
    """Reads the vault."""

    def __call__(self, tenant: str, name: str) -> str:
        """Return what a secret of a tenant holds.

        Raises:
            UnusableError: There is none, or it cannot be opened.
        """
        ...


def no_vault(tenant: str, name: str) -> str:
    """Be a vault that cannot be read here.

    Raises:
        UnusableError: Always.
    """
    raise UnusableError(f"secret {name!r} of tenant {tenant!r}: there is no vault to read it from")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedConfig:
    """A connection's config with its references replaced by what they point at.

    Attributes:
        values: The config, for the provider's own model.
        read: Every value that came from a reference, by the reference.
        origins: Which reference each of them came from, by its key path below ``config``.
        stale: What could not be read again, so that the value from before goes on.
        tenant: Whose secrets ``vault:`` means.
    """

    values: Mapping[str, Any] = dataclasses.field(repr=False)
    read: Mapping[str, str] = dataclasses.field(repr=False)
    origins: Mapping[str, str]
    stale: tuple[Problem, ...] = ()
    tenant: str = SHARED_SECRETS_OF

    @property
    def secrets(self) -> frozenset[str]:
        """Every value that came from a reference, for masking."""
        return frozenset(self.read.values())


def resolve_all(
    settings: Settings,
    path: Path,
    environ: Mapping[str, str],
    before: Mapping[str, ResolvedConfig] = MappingProxyType({}),
    vault: SecretReader = no_vault,
) -> dict[str, ResolvedConfig]:
    """Resolve the config of every connection, by name.

    Args:
        settings: What was loaded.
        path: The file that it was loaded from; relative ``file:`` paths begin at its directory.
        environ: Where ``env:`` looks, and ``CREDENTIALS_DIRECTORY``.
        before: What was read the last time. What it has goes on where it cannot be read again.
        vault: Reads what ``vault:`` means.

    Raises:
        RejectedConfigError: References of any of the connections cannot be resolved.
    """
    resolved: dict[str, ResolvedConfig] = {}
    problems: list[Problem] = []
    for name, connection in settings.connections.items():
        try:
            resolved[name] = resolve(
                connection.config,
                environ,
                path.absolute().parent,
                connection=name,
                known=_known(before, connection.secrets_of),
                vault=vault,
                tenant=connection.secrets_of,
            )
        except RejectedConfigError as error:
            problems += error.problems
    if problems:
        raise RejectedConfigError(str(path.absolute()), problems)
    return resolved


def resolve(
    config: Mapping[str, Any],
    environ: Mapping[str, str],
    base_dir: Path,
    *,
    connection: str,
    known: Mapping[str, str] = MappingProxyType({}),
    vault: SecretReader = no_vault,
    tenant: str = SHARED_SECRETS_OF,
) -> ResolvedConfig:
    """Replace every reference in one connection's config, however deep it stands.

    Args:
        config: The table as the file has it; it is not changed.
        environ: Where ``env:`` looks, and ``CREDENTIALS_DIRECTORY``.
        base_dir: Where relative ``file:`` paths begin.
        connection: The connection's name, for the errors.
        known: The values that references had the last time, for those that cannot be read again.
        vault: Reads what ``vault:`` means.
        tenant: Whose secrets ``vault:`` means.

    Raises:
        RejectedConfigError: A reference is missing, empty, unreadable, too large, open to other
            users or not available; all of them are listed.
    """
    look_up = _Sources(environ, base_dir, functools.partial(vault, tenant)).look_up
    walk = _Walk(look_up, ("connections", connection, "config"), known)
    values = walk.visit(config)
    if walk.problems:
        raise RejectedConfigError(f"connection {connection}", walk.problems)
    return ResolvedConfig(
        values=values,
        read=walk.read,
        origins=walk.origins,
        stale=tuple(walk.stale),
        tenant=tenant,
    )


def _known(before: Mapping[str, ResolvedConfig], tenant: str) -> dict[str, str]:
    """Return what references had the last time; of the vault's, only those of the tenant."""
    return {
        text: value
        for one in before.values()
        for text, value in one.read.items()
        if one.tenant == tenant or not text.startswith("vault:")
    }


def vault_references(settings: Settings) -> dict[tuple[str, str], list[str]]:
    """Return the secrets of the vault that connections refer to.

    Returns:
        The names of the connections, by tenant and name of the secret.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for connection, one in settings.connections.items():
        names = {text[6:] for text in _texts(one.config) if text.startswith("vault:")}
        for name in names:
            found.setdefault((one.secrets_of, name), []).append(connection)
    return found


def referenced_files(settings: Settings, path: Path, environ: Mapping[str, str]) -> frozenset[Path]:
    """Return the files that references of any connection point at.

    Args:
        settings: What was loaded.
        path: The file that it was loaded from.
        environ: Where ``CREDENTIALS_DIRECTORY`` is looked up.
    """
    found: set[Path] = set()
    for connection in settings.connections.values():
        for text in _texts(connection.config):
            kind, _, name = text.partition(":")
            if kind == "file":
                found.add(path.absolute().parent / name)
            elif kind == "credential":
                found.add(Path(environ.get("CREDENTIALS_DIRECTORY", ""), name))
    return frozenset(found)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _texts(member)


def read_regular_file(path: Path, limit_bytes: int) -> tuple[bytes, os.stat_result]:
    """Return what a file holds, and its status, without ever waiting for it.

    Raises:
        UnusableError: It is missing, unreadable, not a regular file, or over the limit.
    """
    try:
        # A named pipe without a writer would keep a plain open waiting for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise UnusableError(_reason(error, path)) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
            raise UnusableError(f"is {kind}, not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(limit_bytes + 1)
    except OSError as error:
        raise UnusableError(_reason(error, path)) from None
    finally:
        os.close(descriptor)
    if len(content) > limit_bytes:
        raise UnusableError(f"is larger than {limit_bytes // 1024} KiB")
    return content, status


def _reason(error: OSError, path: Path) -> str:
    if error.errno == errno.ENOENT and path.is_symlink():
        return "is a symbolic link to a file that does not exist"
    known = _REASONS.get(error.errno or 0)
    return known or f"cannot be read: {os.strerror(error.errno or errno.EIO).lower()}"


class _Walk:
    """One pass over a config; collects what was read, from where, and what could not be."""

    def __init__(
        self,
        look_up: Callable[[str, str], str],
        root: tuple[str, ...],
        known: Mapping[str, str],
    ) -> None:
        self._look_up = look_up
        self._root = root
        self._known = known
        self.read: dict[str, str] = {}
        self.stale: list[Problem] = []
        self.origins: dict[str, str] = {}
        self.problems: list[Problem] = []

    def visit(self, value: Any, *where: str | int) -> Any:
        if len(where) > _DEPTH_LIMIT:
            self._reject(where, f"is nested more than {_DEPTH_LIMIT} levels deep")
        elif isinstance(value, Mapping):
            return {key: self.visit(member, *where, key) for key, member in value.items()}
        elif isinstance(value, list | tuple):
            return [self.visit(member, *where, at) for at, member in enumerate(value)]
        elif isinstance(value, str):
            return self._replace(value, where)
        return value

    def _replace(self, text: str, where: tuple[str | int, ...]) -> str:
        found = _REFERENCE_PATTERN.fullmatch(text)
        if found is None:
            return text
        kind, name = found.groups()
        if kind == "literal":
            return str(name)
        try:
            secret = self._look_up(kind, name)
        except UnusableError as error:
            if text not in self._known:
                self._reject(where, str(error))
                return ""
            secret = self._known[text]
            reason = f"{error}; the value that was read before goes on"
            self.stale.append(Problem(key_path(*self._root, *where), reason))
        self.read[text] = secret
        self.origins[key_path(*where)] = text
        return secret

    def _reject(self, where: tuple[str | int, ...], reason: str) -> None:
        self.problems.append(Problem(key_path(*self._root, *where), reason))


@dataclasses.dataclass(frozen=True, slots=True)
class _Sources:
    """Where references lead."""

    environ: Mapping[str, str]
    base_dir: Path
    vault: Callable[[str], str]

    def look_up(self, kind: str, name: str) -> str:
        match kind:
            case "env":
                return _from_variable(name, self.environ)
            case "file":
                return _from_file(name, self.base_dir)
            case "credential":
                return _from_credential(name, self.environ)
            case _:
                return _from_vault(name, self.vault)


def _from_vault(name: str, vault: Callable[[str], str]) -> str:
    if not SECRET_NAME_PATTERN.fullmatch(name):
        raise UnusableError(
            "what follows 'vault:' is not the name of a secret: use letters, digits, '.', '_' and "
            "'-', begin with a letter or digit, at most 128 characters"
        )
    return vault(name)


def _from_variable(name: str, environ: Mapping[str, str]) -> str:
    if not _VARIABLE_PATTERN.fullmatch(name):
        raise UnusableError(
            "what follows 'env:' is not the name of an environment variable; "
            "write 'literal:' in front of a text that only looks like a reference"
        )
    value = environ.get(name)
    if value is None:
        raise UnusableError(f"environment variable {name} is not set; export it to the daemon")
    # The system hands over bytes that are not UTF-8 as lone surrogates.
    return _checked(value.encode(errors="surrogateescape"), f"environment variable {name}")


def _from_file(name: str, base_dir: Path) -> str:
    if not name or "\0" in name or name.startswith("~"):
        raise UnusableError("what follows 'file:' is not a path; '~' is not expanded")
    return _from_path(base_dir / name, f"file {str(base_dir / name)!r}")


def _from_credential(name: str, environ: Mapping[str, str]) -> str:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise UnusableError("what follows 'credential:' is not the name of a systemd credential")
    if not directory:
        raise UnusableError(
            "CREDENTIALS_DIRECTORY is not set: start the daemon by a systemd service "
            f"with LoadCredential={name}:PATH"
        )
    return _from_path(Path(directory, name), f"credential {name!r}")


def _from_path(path: Path, label: str) -> str:
    try:
        content, status = read_regular_file(path, SECRET_LIMIT_BYTES)
    except UnusableError as error:
        raise UnusableError(f"{label} {error}") from None
    if status.st_mode & _OPEN_TO_OTHERS:
        raise UnusableError(
            f"{label} is open to every user of this machine; run: "
            f"chmod o-rwx {shlex.quote(str(path))}"
        )
    return _checked(content.removesuffix(b"\n").removesuffix(b"\r"), label)


def _checked(content: bytes, label: str) -> str:
    if not content:
        raise UnusableError(f"{label} is empty")
    if len(content) > SECRET_LIMIT_BYTES:
        raise UnusableError(f"{label} is larger than {SECRET_LIMIT_BYTES // 1024} KiB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UnusableError(f"{label} is not UTF-8 text") from None
