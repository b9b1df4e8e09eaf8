"""One table for all benchmarks, shown when the last has ended."""

import os
import platform

import pytest
from tests.bench.figures import ROUNDS, SCALE, Table

from integrationd.journal import sqlite

TABLE = pytest.StashKey[Table]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin an empty table."""
    config.stash[TABLE] = Table()


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Table:
    """The table that a benchmark reports into."""
    return pytestconfig.stash[TABLE]


@pytest.fixture(autouse=True)
def _machine(table: Table) -> None:
    """Tell how busy the machine was before anything was measured."""
    if table.is_empty:
        library = ".".join(map(str, sqlite.VERSION))
        load = "/".join(f"{one:.1f}" for one in os.getloadavg())
        versions = f"Python {platform.python_version()}, SQLite {library}"
        table.note(
            f"{os.cpu_count()} CPUs, load {load} at the start, {versions}, {ROUNDS} rounds,"
            f" scale {SCALE:g}"
        )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the table."""
    table = config.stash.get(TABLE, None)
    if table is None or table.is_empty:
        return
    terminalreporter.section("speed: ratios of one run, interleaved rounds")
    for line in table.lines():
        terminalreporter.write_line(line)
