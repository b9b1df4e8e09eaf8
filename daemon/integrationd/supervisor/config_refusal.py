"""What a plan refuses, told to whoever asked over the API: each problem at its member."""

import re
from collections.abc import Mapping
from typing import Any

from integrationd.errors import UnprocessableError
from integrationd.settings import RejectedConfigError

_STEP = re.compile(r"""\[(?P<number>\d+)\]|\."(?P<quoted>(?:[^"\\]|\\.)*)"|\.?(?P<plain>[^.\[]+)""")


def refused(
    error: RejectedConfigError, connection: str, written: Mapping[str, Any]
) -> UnprocessableError:
    """Return the error of a connection that cannot be made.

    Args:
        error: What is wrong with it.
        connection: Its id.
        written: What its maker wrote, by which pointers are found.
    """
    prefix = f"connections.{connection}"
    told = [
        (pointer_of(one.where.removeprefix(prefix), written), one.reason) for one in error.problems
    ]
    sentences = [f"{pointer or connection}: {reason}" for pointer, reason in told]
    return UnprocessableError(
        told[0][1] if len(told) == 1 else "; ".join(sentences),
        code="invalid",
        pointer=told[0][0],
        hint="GET /v1/providers has the schema of each provider's config.",
    )


def pointer_of(where: str, written: Any) -> str:
    """Turn ``.config.auth[0].token`` into ``/config/auth/0/token``.

    Words that only tell which choice of a model was tried are left out: nothing of what was written
    has their name.
    """
    pointer = ""
    steps = [
        found["number"] or found["quoted"] or found["plain"] for found in _STEP.finditer(where)
    ]
    for left, step in zip(range(len(steps) - 1, -1, -1), steps, strict=True):
        # Only the last may be what is missing: nothing can be wrong below what is not there.
        if not _has(written, step) and (left or not isinstance(written, Mapping)):
            continue
        pointer += "/" + step.replace("~", "~0").replace("/", "~1")
        written = _below(written, step)
    return pointer


def _has(value: Any, step: str) -> bool:
    if isinstance(value, Mapping):
        return step in value
    return isinstance(value, list) and step.isdecimal() and int(step) < len(value)


def _below(value: Any, step: str) -> Any:
    if not _has(value, step):
        return None
    return value[step] if isinstance(value, Mapping) else value[int(step)]
