"""What the tests of the vault share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.reload.rig import short_directory


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Return a new directory with a path short enough for a socket."""
    with short_directory() as path:
        yield path
