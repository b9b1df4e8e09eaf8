"""Where plugin files are: the built-in ones, and those of the operator."""

from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

from integrationd.sdk.plugin_source import is_part, is_plugin_folder


def builtin_plugins() -> Path:
    """Return the directory of the built-in plugins: the checkout's, else the wheel's.

    An editable install runs from the checkout although it leaves a copy of the plugins, never
    refreshed, among the installed packages.
    """
    return plugins_of(Path(str(files("integrationd"))))


def plugins_of(package: Path) -> Path:
    """Return the directory of the plugins that belong to an ``integrationd`` package directory."""
    root = package.parent.parent
    in_checkout = package.parent.name == "daemon" and (root / "pyproject.toml").is_file()
    return root / "plugins" if in_checkout else package / "builtin_plugins"


def plugin_files(places: Iterable[Path]) -> tuple[Path, ...]:
    """Return the plugins of all places, place by place, each in the order of its names.

    A place is a plugin file, or a directory whose ``*.py`` files are taken at any depth, but for
    tests and for names that begin with ``.`` or ``_``. A folder that is one plugin
    (:func:`integrationd.sdk.plugin_source.is_plugin_folder`) is taken whole. What several places
    share is named once. A place that is not there is returned as it is, so that loading it tells
    the operator.
    """
    found: dict[Path, None] = {}
    for place in places:
        found.update(dict.fromkeys(_plugins_in(place)))
    return tuple(found)


def _plugins_in(place: Path) -> Iterator[Path]:
    if not place.is_dir() or is_plugin_folder(place):
        yield place
        return
    try:
        entries = sorted(place.iterdir())
    except OSError:
        # It has gone, or may not be read; loading it says so.
        yield place
        return
    for entry in entries:
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _plugins_in(entry)
        elif is_part(entry.name):
            yield entry
