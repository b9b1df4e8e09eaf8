"""Run one plugin file and find its provider class, or say what is wrong with it and where.

The class is made from the bytes that were read, never from cached bytecode, and lives in a module
of its own under a private name, so that versions of one plugin can stand beside each other.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import re
import stat
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path

from integrationd.errors import PluginError
from integrationd.sdk.provider import Provider

MAX_BYTES = 1024 * 1024

_serial = itertools.count(1)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PluginFault:
    """Why a plugin file cannot be used.

    Attributes:
        path: The file.
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
class PluginFile:
    """A plugin file that has run.

    Attributes:
        path: The file.
        digest: SHA-256 of the bytes that ran, in hex.
        provider: The one provider class that it defines.
    """

    path: Path
    digest: str
    provider: type[Provider]


def run_plugin_file(path: Path, expected: str | None = None) -> PluginFile:
    """Read, compile and run a plugin file.

    Args:
        path: The file.
        expected: SHA-256 of what it must hold, in hex; anything else is not run.

    Raises:
        PluginFileError: It cannot be used; the error names the file, the reason and, where there
            is one, the line.
    """
    source = read_plugin_file(path)
    digest = hashlib.sha256(source).hexdigest()
    if expected is not None and digest != expected:
        raise PluginFileError(path, "was changed while it was being read")
    code = _compile(path, source)
    module = types.ModuleType(_module_name(path, digest))
    module.__file__ = str(path)
    # Registered before it runs: dataclasses and pydantic look annotations up in sys.modules.
    sys.modules[module.__name__] = module
    try:
        with blaming(path):
            exec(code, module.__dict__)  # noqa: S102 - running the operator's file is the purpose
            return PluginFile(path=path, digest=digest, provider=_provider_in(module, path))
    except BaseException:
        sys.modules.pop(module.__name__, None)
        raise


def forget(provider: type[Provider]) -> None:
    """Let go of the module that a provider class was made in, once nobody needs the class."""
    sys.modules.pop(provider.__module__, None)


@contextlib.contextmanager
def blaming(path: Path, *passing: type[BaseException]) -> Iterator[None]:
    """Turn whatever a plugin file's own code raises into an error about that file.

    Args:
        path: The file.
        passing: What is let through as it is, as ``KeyboardInterrupt`` always is.

    Raises:
        PluginFileError: The code raised anything else.
    """
    try:
        yield
    except (KeyboardInterrupt, PluginFileError):
        raise
    except BaseException as error:
        if isinstance(error, passing):
            raise
        told = traceback.format_exception_only(error)[-1].strip()
        raise PluginFileError(path, told, _line_in(path, error)) from error


def read_plugin_file(path: Path) -> bytes:
    """Return the bytes of a plugin file.

    Raises:
        PluginFileError: It cannot be read, is no regular file, or is too large.
    """
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


def _compile(path: Path, source: bytes) -> types.CodeType:
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        raise PluginFileError(path, "is not UTF-8 text", line) from error
    try:
        return compile(text, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise PluginFileError(path, f"{type(error).__name__}: {error.msg}", error.lineno) from error
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        reason = str(error) or f"it is too much for Python ({type(error).__name__})"
        raise PluginFileError(path, f"cannot be compiled: {reason}") from error


def _module_name(path: Path, digest: str) -> str:
    stem = re.sub(r"\W", "_", path.stem)
    return f"_integrationd_plugin_{stem}_{digest[:12]}_{next(_serial)}"


def _line_in(path: Path, error: BaseException) -> int | None:
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == str(path)]
    return lines[-1] if lines else None


def _provider_in(module: types.ModuleType, path: Path) -> type[Provider]:
    found = {
        value: None
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Provider)
        and value.__module__ == module.__name__
    }
    if len(found) != 1:
        names = ", ".join(cls.__name__ for cls in found) or "none"
        raise PluginFileError(
            path, f"must define exactly one class that derives from Provider; found {names}"
        )
    return next(iter(found))
