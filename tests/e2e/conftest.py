"""What the end-to-end tests share: a directory whose path leaves room for a socket's name."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Return a new directory with a short path."""
    path = Path(tempfile.mkdtemp(prefix="ide2e"))
    yield path
    shutil.rmtree(path)
