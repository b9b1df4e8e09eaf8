"""Programs run in a network namespace of their own, from which nothing leads out."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("unshare", "ip", "mount")


def why_not(*more: str) -> str:
    """Return why there can be none here; empty where there can.

    Args:
        more: Further commands that are needed.
    """
    if os.geteuid() != 0:
        return "a network namespace needs root"
    missing = [name for name in (*NEEDED, *more) if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    made = subprocess.run(["unshare", "-n", "-m", "true"], check=False, capture_output=True)
    return "" if made.returncode == 0 else "namespaces cannot be made here"


def run_inside(
    module: str, directory: Path, environ: Mapping[str, str], timeout_s: float
) -> dict[str, Any]:
    """Run a module in a namespace and return what it printed as JSON.

    Args:
        module: Given the directory as its argument.
        directory: For its files.
        environ: More environment variables.
        timeout_s: After this time it has failed.
    """
    ran = subprocess.run(
        ["unshare", "-n", "-m", sys.executable, "-m", module, str(directory)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environ},
        timeout=timeout_s,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def skip_without(*more: str) -> None:
    """Skip the test where there can be no namespace."""
    reason = why_not(*more)
    if reason:
        pytest.skip(reason)
