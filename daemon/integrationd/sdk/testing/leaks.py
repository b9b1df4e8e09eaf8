"""Where a secret could leak from a plugin: its config's values, and what it logs."""

import contextlib
import logging
from collections.abc import Iterable, Iterator

import pydantic

_MUTED = ("asyncio", "httpcore2", "httpx2")


def secrets_of(value: object) -> Iterator[str]:
    """Give the text of every ``SecretStr`` in a config, at any depth."""
    if isinstance(value, pydantic.SecretStr):
        if value.get_secret_value():
            yield value.get_secret_value()
        return
    for item in _items(value):
        yield from secrets_of(item)


@contextlib.contextmanager
def captured_logs(lines: list[str]) -> Iterator[None]:
    """Keep what is logged past the context, except by the libraries that the daemon mutes."""
    keeper = _Keeper(lines)
    root = logging.getLogger()
    level = root.level
    root.addHandler(keeper)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(keeper)
        root.setLevel(level)


class _Keeper(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(_MUTED):
            self._lines.append(record.getMessage())


def _items(value: object) -> Iterable[object]:
    match value:
        case pydantic.BaseModel():
            return [getattr(value, name) for name in type(value).model_fields]
        case dict():
            return value.values()
        case list() | tuple():
            return value
        case _:
            return ()
