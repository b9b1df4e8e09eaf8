"""Where a command stands: its environment, its clock, and the terminal it prints to."""

import dataclasses
import datetime as dt
import json
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import click

from integrationd.cli.exits import CommandError
from integrationd.cli.render import Times, json_for_terminal
from integrationd.clock import Clock, to_datetime


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """What commands read from and print to.

    Attributes:
        environ: The environment variables.
        clock: Where time is read.
        zone: The zone that times are shown in; the machine's own when None.
    """

    environ: Mapping[str, str]
    clock: Clock
    zone: dt.tzinfo | None = None

    @property
    def has_colour(self) -> bool:
        """Whether the person allows colour; that there is a terminal is checked when printing."""
        return not self.environ.get("NO_COLOR") and self.environ.get("TERM") != "dumb"

    @property
    def room(self) -> int | None:
        """The columns of the terminal, or None where the output goes elsewhere."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def times(self) -> Times:
        """Return how times are shown at this moment."""
        return Times(to_datetime(self.clock.now_ms()), self.zone)

    def say(self, text: str = "") -> None:
        """Print a line to standard output.

        Raises:
            CommandError: It cannot be written.
        """
        try:
            click.echo(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CommandError(f"the output cannot be written: {reason}") from error

    def note(self, text: str) -> None:
        """Print a line beside the output, to standard error."""
        click.echo(text, err=True)

    def say_json(self, body: bytes) -> None:
        """Print JSON as it is; to a terminal, with what could steer it written as escapes."""
        text = body.decode(errors="replace")
        self.say(json_for_terminal(text) if sys.stdout.isatty() else text)

    def say_value(self, value: Any) -> None:
        """Print a value of our own as JSON."""
        self.say_json(json.dumps(value, ensure_ascii=False).encode())
