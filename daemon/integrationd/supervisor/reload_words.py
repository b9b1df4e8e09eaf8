"""What a reload has done, in words and as facts for the bus."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from integrationd.api.ports import ConfigProblem
from integrationd.events import PluginMoved
from integrationd.registry import PluginVersion
from integrationd.registry.shelf import plain_text
from integrationd.sdk.plugin_file import PluginFault
from integrationd.settings import Problem
from integrationd.supervisor.fed import place_of
from integrationd.supervisor.snapshot import Snapshot, told

DIGEST_SHOWN = 12


def renewed_secrets(before: Snapshot, after: Snapshot) -> list[str]:
    """Name the connections whose secrets have changed behind the same references."""
    return [
        f"{place_of(name)}: a secret was read anew"
        for name, one in after.resolved.items()
        if name in before.resolved
        and one.read.keys() <= before.resolved[name].read.keys()
        and any(before.resolved[name].read[text] != value for text, value in one.read.items())
    ]


def moved_plugins(
    before: Mapping[str, PluginVersion], after: Mapping[str, PluginVersion]
) -> list[PluginMoved]:
    """Return which plugins were loaded, and which are gone."""
    loaded = [
        PluginMoved("loaded", str(one.path), code, one.digest)
        for code, one in after.items()
        if before.get(code) is not one
    ]
    gone = [
        PluginMoved("gone", str(one.path), code, one.digest)
        for code, one in before.items()
        if code not in after
    ]
    return loaded + gone


def refused_plugin(fault: PluginFault) -> PluginMoved:
    """Return that a plugin file was refused."""
    where = f"line {fault.line}: " if fault.line else ""
    return PluginMoved("rejected", str(fault.path), "", f"{where}{fault.reason}")


def told_plainly(found: Sequence[Problem]) -> tuple[ConfigProblem, ...]:
    """Return problems that can be sent, whatever a plugin has put into them."""
    return told([Problem(plain_text(one.where), plain_text(one.reason)) for one in found])


def shown_path(path: Path) -> str:
    """Return a path that can be sent, whatever bytes its name has."""
    return plain_text(str(path))


def in_words(moved: PluginMoved) -> str:
    """Say what has become of a plugin."""
    match moved.state:
        case "loaded":
            return f"plugin {moved.code}: {moved.path} loaded ({moved.told[:DIGEST_SHOWN]})"
        case "gone":
            return f"plugin {moved.code}: {moved.path} is gone"
        case _:
            return f"plugin file {moved.path} refused: {moved.told}"


def as_warning(fault: PluginFault) -> ConfigProblem:
    """Return a plugin file at fault as something to look at."""
    where = f"{fault.path}:{fault.line}" if fault.line else str(fault.path)
    return ConfigProblem(where, fault.reason)
