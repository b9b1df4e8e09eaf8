"""Plugin files become live providers, live providers become live connections."""

from integrationd.registry.connection import Connection, ConnectionSpec
from integrationd.registry.loader import (
    LoadedPlugins,
    PluginVersion,
    ServedOperation,
    load_plugin,
    load_plugins,
)
from integrationd.registry.paths import builtin_plugins, plugin_files
from integrationd.registry.registry import Plan, Registry
from integrationd.registry.shelf import Shelf
from integrationd.registry.tenants import Tenants

__all__ = [
    "Connection",
    "ConnectionSpec",
    "LoadedPlugins",
    "Plan",
    "PluginVersion",
    "Registry",
    "ServedOperation",
    "Shelf",
    "Tenants",
    "builtin_plugins",
    "load_plugin",
    "load_plugins",
    "plugin_files",
]
