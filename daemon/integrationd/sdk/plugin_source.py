"""What a plugin is made of: one file, or a folder of them, read as bytes at one moment.

A folder is one plugin if it holds an ``__init__.py`` that is not empty. Its modules lie flat in it
and import each other relatively, as in ``from .wire import Reply``. Tests are no part of it, nor is
what has a name that begins with ``.`` or ``_``.
"""

import dataclasses
import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path

from integrationd.errors import PluginError

MAX_BYTES = 1024 * 1024
MAX_MODULES = 50
INIT = "__init__"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PluginFault:
    """Why a plugin cannot be used.

    Attributes:
        path: The file or the folder.
        line: The line at fault, where there is one.
        reason: What is wrong with it.
    """

    path: Path
    line: int | None
    reason: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else f"{self.path}"
        return f"{where}: {self.reason}"


class PluginFileError(PluginError):
    """A plugin file cannot be used; ``fault`` says why."""

    def __init__(self, path: Path, reason: str, line: int | None = None) -> None:
        self.fault = PluginFault(path=path, line=line, reason=reason)
        super().__init__(str(self.fault))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PluginSource:
    """The bytes of a plugin.

    Attributes:
        path: The file, or the folder.
        modules: What to run first under ``__init__``; of a folder its other modules too, by name.
        digest: SHA-256 of all of it, in hex.
    """

    path: Path
    modules: Mapping[str, bytes]
    digest: str

    @property
    def is_folder(self) -> bool:
        """Whether the plugin is a folder."""
        return len(self.modules) > 1 or self.path.suffix != ".py"

    def file_of(self, module: str) -> Path:
        """Return the file that a module was read from."""
        return self.path / f"{module}.py" if self.is_folder else self.path


def is_plugin_folder(place: Path) -> bool:
    """Say whether a directory is one plugin, rather than a place where plugins lie."""
    try:
        return (place / f"{INIT}.py").stat().st_size > 0
    except OSError:
        return False


def is_part(name: str) -> bool:
    """Say whether a file of that name can be a plugin, or a module of one."""
    is_test = name.startswith("test_") or name == "conftest.py"
    return name.endswith(".py") and not is_test and not name.startswith((".", "_"))


def read_plugin(path: Path) -> PluginSource:
    """Read a plugin.

    Raises:
        PluginFileError: It cannot be read, has a part that is no regular file, or is too large.
    """
    if not path.is_dir():
        source = _read(path)
        return PluginSource(
            path=path, modules={INIT: source}, digest=hashlib.sha256(source).hexdigest()
        )
    modules = {file.stem: _read(file) for file in _files(path)}
    if sum(map(len, modules.values())) > MAX_BYTES:
        raise PluginFileError(path, f"is larger than {MAX_BYTES} bytes")
    digest = hashlib.sha256()
    for name, source in modules.items():
        digest.update(f"{name} {len(source)}\n".encode(errors="surrogateescape") + source)
    return PluginSource(path=path, modules=modules, digest=digest.hexdigest())


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder that is one plugin, the one that is run first at the front."""
    try:
        beside = sorted(file for file in folder.iterdir() if is_part(file.name))
    except OSError as error:
        raise PluginFileError(folder, f"cannot be read: {error.strerror}") from error
    if len(beside) >= MAX_MODULES:
        raise PluginFileError(folder, f"has more than {MAX_MODULES} modules")
    return [folder / f"{INIT}.py", *beside]


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise PluginFileError(path, "is not a regular file")
        with path.open("rb") as file:
            source = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PluginFileError(path, f"cannot be read: {error.strerror}") from error
    if len(source) > MAX_BYTES:
        raise PluginFileError(path, f"is larger than {MAX_BYTES} bytes")
    return source
