"""What the tests of the reload share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.reload.rig import short_directory


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Return a new directory with a short path."""
    with short_directory() as path:
        yield path
