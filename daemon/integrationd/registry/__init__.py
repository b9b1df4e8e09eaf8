"""Plugin files become live providers, live providers become live connections."""

from integrationd.registry.loader import (
    LoadedPlugins,
    PluginVersion,
    ServedOperation,
    load_plugin,
    load_plugins,
)
from integrationd.registry.paths import builtin_plugins, plugin_files
from integrationd.registry.registry import Connection, ConnectionSpec, Registry

__all__ = [
    "Connection",
    "ConnectionSpec",
    "LoadedPlugins",
    "PluginVersion",
    "Registry",
    "ServedOperation",
    "builtin_plugins",
    "load_plugin",
    "load_plugins",
    "plugin_files",
]
