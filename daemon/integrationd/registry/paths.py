"""Where plugin files are: the built-in ones, and those of the operator."""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path


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
    """Return the plugin files of all places, place by place, each in the order of its names.

    A place is a plugin file or a directory, whose ``*.py`` files are taken at any depth, but for
    tests and for names that begin with ``.`` or ``_``. What several places share is named once. A
    place that is not there is returned as it is, so that loading it tells the operator.
    """
    found: dict[Path, None] = {}
    for place in places:
        candidates = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        found.update((path, None) for path in candidates if not _is_no_plugin(path, place))
    return tuple(found)


def _is_no_plugin(path: Path, place: Path) -> bool:
    below = path.relative_to(place)
    is_test = bool(below.parts) and (path.name.startswith("test_") or path.name == "conftest.py")
    return is_test or any(name.startswith((".", "_")) for name in below.parts)
