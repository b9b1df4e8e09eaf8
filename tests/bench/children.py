"""Processes of their own: what is measured, and what measures it, share no interpreter."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENDS_WITHIN_S = 20.0
MEASURES_WITHIN_S = 300.0


def command(module: str, order: Mapping[str, Any]) -> list[str]:
    """Return the command that runs a module of this directory with an order."""
    return [sys.executable, "-m", f"tests.bench.{module}", json.dumps(order)]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a child needs of the environment."""
    places = os.pathsep.join([str(ROOT), str(ROOT / "daemon")])
    return {**os.environ, "PYTHONPATH": places, **(more or {})}


def order_of(argv: list[str]) -> Any:
    """Return the order that this child was given."""
    return json.loads(argv[1])


@contextlib.contextmanager
def serving(module: str, **order: Any) -> Iterator[int]:
    """Run a server; it prints its port first."""
    process = subprocess.Popen(
        command(module, order), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"tests.bench.{module} did not start"
        yield int(line)
    finally:
        process.terminate()
        process.wait(ENDS_WITHIN_S)
        process.stdout.close()


def measured(module: str, more: Mapping[str, str] | None = None, **order: Any) -> Any:
    """Run a module to its end and return what it has measured."""
    ran = subprocess.run(
        command(module, order),
        cwd=ROOT,
        env=environment(more),
        capture_output=True,
        text=True,
        check=False,
        timeout=MEASURES_WITHIN_S,
    )
    assert ran.returncode == 0, f"tests.bench.{module} failed:\n{ran.stderr}"
    return json.loads(ran.stdout)
