"""What all tables of the configuration are made of, and how what is wrong with them is told."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Annotated, TypeAlias

import pydantic
from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from integrationd.errors import ConfigError

BASE_DIR = "base_dir"
BODY_LIMIT_BYTES = 1024 * 1024
LISTEN_PATTERN = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<v4>[^:\[\]]+)):(?P<port>\d{1,5})")
_BARE_KEY_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,80}")


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a configuration.

    Attributes:
        where: ``line N, column M``, ``table.key``, an environment variable, or the file.
        reason: What is wrong and what would be right, for the person who mends it.
    """

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class RejectedConfigError(ConfigError):
    """The configuration cannot be used; every problem found is listed.

    Args:
        source: The file, or the part of it, that was read.
        problems: What is wrong, at least one.
    """

    def __init__(self, source: str, problems: list[Problem]) -> None:
        listed = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"{source} cannot be used:{listed}")
        self.source = source
        self.problems = tuple(problems)


def key_path(*parts: str | int) -> str:
    """Write the way to a key as the file would: ``routes."sms.send".order[0]``."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if _BARE_KEY_PATTERN.fullmatch(part) else f".{json.dumps(part[:80])}"
    return text.removeprefix(".")


def _named(path: object) -> object:
    if path == "":
        raise ValueError("must not be empty; leave it out for the default")
    return path


def _absolute(path: Path, info: ValidationInfo) -> Path:
    if "\0" in str(path):
        raise ValueError("must not contain a NUL character")
    if str(path).startswith("~"):
        raise ValueError("must be written out: '~' is not expanded")
    base_dir = (info.context or {}).get(BASE_DIR)
    return base_dir / path if base_dir else path


FilePath: TypeAlias = Annotated[Path, BeforeValidator(_named), AfterValidator(_absolute)]


class Table(pydantic.BaseModel):
    """Base of every table: unknown keys are refused, values never change or show in errors."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )
