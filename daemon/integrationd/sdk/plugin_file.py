"""Run one plugin and find its provider class, or say what is wrong with it and where.

The class is made from the bytes that were read, never from cached bytecode, and lives in a module
of its own under a private name, so that versions of one plugin can stand beside each other.
"""

import contextlib
import dataclasses
import importlib.machinery
import itertools
import re
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from pathlib import Path

from integrationd.sdk.plugin_source import (
    INIT,
    PluginFault,
    PluginFileError,
    PluginSource,
    read_plugin,
)
from integrationd.sdk.provider import Provider

__all__ = [
    "PluginFault",
    "PluginFile",
    "PluginFileError",
    "blaming",
    "forget",
    "run_plugin_file",
]

_PREFIX = "_integrationd_plugin_"
_serial = itertools.count(1)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PluginFile:
    """A plugin that has run.

    Attributes:
        path: The file, or the folder.
        digest: SHA-256 of the bytes that ran, in hex.
        provider: The one provider class that it defines.
    """

    path: Path
    digest: str
    provider: type[Provider]


def run_plugin_file(path: Path, expected: str | None = None) -> PluginFile:
    """Read, compile and run a plugin.

    Args:
        path: The file, or the folder that is one plugin.
        expected: SHA-256 of what it must hold, in hex; anything else is not run.

    Raises:
        PluginFileError: It cannot be used; the error names the file, the reason and, where there
            is one, the line.
    """
    source = read_plugin(path)
    if expected is not None and source.digest != expected:
        raise PluginFileError(path, "was changed while it was being read")
    module = _module_for(source)
    # Registered before it runs: dataclasses and pydantic look annotations up in sys.modules.
    sys.modules[module.__name__] = module
    try:
        with blaming(path):
            file = source.file_of(INIT)
            code = _compile(file, source.modules[INIT])
            exec(code, module.__dict__)  # noqa: S102 - running the operator's file is the purpose
            return PluginFile(path=path, digest=source.digest, provider=_provider_in(module, path))
    except BaseException:
        _forget(module.__name__)
        raise


def forget(provider: type[Provider]) -> None:
    """Let go of the modules that a provider class was made in, once nobody needs the class."""
    _forget(provider.__module__)


def _forget(package: str) -> None:
    _siblings.sources.pop(package, None)
    for name in [known for known in sys.modules if f"{known}.".startswith(f"{package}.")]:
        sys.modules.pop(name, None)


@contextlib.contextmanager
def blaming(path: Path, *passing: type[BaseException]) -> Iterator[None]:
    """Turn whatever a plugin's own code raises into an error about that plugin.

    Args:
        path: The file, or the folder.
        passing: What is let through as it is, as ``KeyboardInterrupt`` always is.

    Raises:
        PluginFileError: The code raised anything else.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except PluginFileError as error:
        # One module of a folder is at fault, and with it the plugin.
        if error.fault.path == path or path not in error.fault.path.parents:
            raise
        where = f"{error.fault.path.name}:{error.fault.line or 1}"
        raise PluginFileError(path, f"{where}: {error.fault.reason}") from error
    except BaseException as error:
        if isinstance(error, passing):
            raise
        told = traceback.format_exception_only(error)[-1].strip()
        told = re.sub(rf"{_PREFIX}(\w+?)_[0-9a-f]{{12}}_\d+", r"\1", told)
        where, line = _place_in(path, error)
        raise PluginFileError(path, f"{where}{told}", line) from error


class _Siblings(MetaPathFinder, Loader):
    """Imports the modules of a folder from the bytes that were read with it.

    Attributes:
        sources: The folders that have run, by the name of their package.
    """

    def __init__(self) -> None:
        self.sources: dict[str, PluginSource] = {}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, module = fullname.rpartition(".")
        source = self.sources.get(package)
        if source is None or module not in source.modules:
            return None
        return importlib.machinery.ModuleSpec(
            fullname, self, origin=str(source.file_of(module)), is_package=False
        )

    def exec_module(self, module: types.ModuleType) -> None:
        package, _, name = module.__name__.rpartition(".")
        source = self.sources[package]
        file = source.file_of(name)
        module.__file__ = str(file)
        code = _compile(file, source.modules[name])
        exec(code, module.__dict__)  # noqa: S102 - running the operator's file is the purpose


_siblings = _Siblings()
# Last, so that no other import pays for it.
sys.meta_path.append(_siblings)


def _module_for(source: PluginSource) -> types.ModuleType:
    stem = re.sub(r"\W", "_", source.path.stem)
    module = types.ModuleType(f"{_PREFIX}{stem}_{source.digest[:12]}_{next(_serial)}")
    module.__file__ = str(source.file_of(INIT))
    if source.is_folder:
        module.__path__ = []
        module.__package__ = module.__name__
        _siblings.sources[module.__name__] = source
    return module


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


def _place_in(path: Path, error: BaseException) -> tuple[str, int | None]:
    """Return where in the plugin it was raised: the module and line of a folder, or the line."""
    frames = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    for file, line in reversed(frames):
        if file == path:
            return "", line
        if path in file.parents:
            return f"{file.name}:{line}: ", None
    return "", None


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
