"""Plugin code may raise anything: what would end the daemon becomes an ordinary error here."""

import asyncio
import contextlib
import math
from collections.abc import Iterator

import anyio


class StrayError(RuntimeError):
    """Plugin code raised what is meant for the whole process, or cancelled its own task."""


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Run awaited plugin code such that it ends in an ``Exception``, or because it was stopped.

    Raises:
        StrayError: It raised what is meant for the whole process, such as ``SystemExit``, or
            cancelled its own task. A cancellation that the daemon asked for goes through.
    """
    task = asyncio.current_task()
    asked = task.cancelling() if task else 0
    try:
        yield
    except Exception:
        raise
    except GeneratorExit:
        # Thrown in from outside when a task that was never finished is thrown away.
        if task is None:
            raise
        raise StrayError("the plugin raised GeneratorExit") from None
    except anyio.get_cancelled_exc_class() as error:
        if anyio.current_effective_deadline() == -math.inf:
            raise
        while task is not None and task.cancelling() > asked:
            task.uncancel()
        raise StrayError("the plugin cancelled itself") from error
    except BaseException as error:
        raise StrayError(f"the plugin raised {type(error).__name__}") from error
