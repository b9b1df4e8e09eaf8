"""What the delivery tests share: a way to run a story in virtual time."""

import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from tests.delivery.world import World
from tests.virtual_time import VirtualLoop, run_virtually


class Play(Protocol):
    """Runs a story in a fresh world."""

    def __call__(
        self, story: Callable[[World], Coroutine[Any, Any, None]], **connection: Any
    ) -> None:
        """Run it; ``connection`` are settings of the connection ``stage``."""
        ...


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Keep journals in memory where that is possible: days pass here, and each has its syncs."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


@pytest.fixture
def play(tmp_path: Path) -> Play:
    def run(story: Callable[[World], Coroutine[Any, Any, None]], **connection: Any) -> None:
        async def main(loop: VirtualLoop) -> None:
            await story(World(tmp_path, loop, **connection))

        run_virtually(main)

    return run
