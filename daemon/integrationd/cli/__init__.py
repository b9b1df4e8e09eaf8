"""The command line: a client of the daemon's API, and the few things that work without a daemon.

Modules import nothing heavy at their top, so that ``integrationd --help`` answers at once.
"""

from integrationd.cli.program import main

__all__ = ["main"]
