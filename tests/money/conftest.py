"""What the tests of payments share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Return a new directory with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="money-") as made:
        yield Path(made)
