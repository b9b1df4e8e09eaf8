"""The mutant: a daemon that tells its callers before the commit. The harness must catch it.

Started like the daemon itself: ``python early_ack.py --config FILE``. Nothing of the product is
changed; its journal is replaced at the start by one whose writes return as soon as their
statements have run. The commit follows a moment later, as it would on a slower disk.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from integrationd import supervisor
from integrationd.journal import Journal, Transaction
from integrationd.supervisor import daemon as supervising

HEAD_START_S = 0.005

_Result = TypeVar("_Result")


class EarlyJournal(Journal):
    """A journal that does not keep its promise."""

    async def write(self, job: Callable[[Transaction], _Result], *, heavy: bool = False) -> _Result:
        """Run a write and return its result before it is durable."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[_Result] = loop.create_future()

        def tell(result: _Result) -> None:
            if not told.done():
                told.set_result(result)

        def job_told_early(transaction: Transaction) -> _Result:
            result = job(transaction)
            loop.call_soon_threadsafe(tell, result)
            time.sleep(HEAD_START_S)
            return result

        # Heavy, so that the statements and the wait are in the writer's thread.
        kept = asyncio.ensure_future(super().write(job_told_early, heavy=True))
        await asyncio.wait([told, kept], return_when=asyncio.FIRST_COMPLETED)
        return told.result() if told.done() else kept.result()


def main() -> None:
    """Run the daemon with the journal replaced."""
    assert vars(supervising)["Journal"] is Journal, "the daemon takes its journal from elsewhere"
    vars(supervising)["Journal"] = EarlyJournal
    sys.exit(supervisor.run(Path(sys.argv[sys.argv.index("--config") + 1]), os.environ))


if __name__ == "__main__":
    main()
