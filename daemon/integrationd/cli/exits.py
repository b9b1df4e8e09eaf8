"""How a command ends: exit codes for scripts, one or two lines for people."""

import enum

import click

from integrationd.cli.render import clean
from integrationd.errors import ConfigError, IntegrationdError


class Exit(enum.IntEnum):
    """What the exit code of a command means; the table in ``--help`` is made from this."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "Exit":
        """Make a code that knows its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "done; of 'status': all is well"
    PROBLEM = 1, "the daemon answered with an error, or the command failed"
    USAGE = 2, "the command line makes no sense"
    UNREACHABLE = 3, "the daemon cannot be reached, or broke off"
    CONFIG = 4, "the configuration is rejected"
    CALL_FAILED = 5, "send --wait: the call has failed, expired or was cancelled"
    CALL_OPEN = 6, "send --wait: its outcome is unknown, or was still open after the wait"
    ATTENTION = 7, "status: something needs attention, or the daemon is degraded"
    INTERRUPTED = 130, "interrupted by Ctrl-C"
    BROKEN_PIPE = 141, "whoever read the output stopped reading"


class CommandError(click.ClickException):
    """An expected fault: told in one or two lines, never as a traceback.

    Args:
        message: What is wrong.
        hint: What to do about it.
        code: How the command ends.
    """

    def __init__(self, message: str, *, hint: str = "", code: Exit = Exit.PROBLEM) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code

    @classmethod
    def of(cls, error: IntegrationdError) -> "CommandError":
        """Tell an error that the daemon's own code raised."""
        code = Exit.CONFIG if isinstance(error, ConfigError) else Exit.PROBLEM
        return cls(str(error), hint=error.hint, code=code)


def report(error: click.ClickException) -> None:
    """Print what is wrong, and the hint, to standard error."""
    told = "\n".join(clean(line) for line in error.format_message().splitlines())
    click.echo(f"{click.style('error:', fg='red')} {told}", err=True)
    hint = _hint(error)
    if hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {clean(hint)}", err=True)


def exit_code_of(error: click.ClickException) -> int:
    """Return the exit code that a fault ends the command with."""
    return error.code if isinstance(error, CommandError) else Exit.USAGE


def exit_codes() -> str:
    """Return the table of exit codes for ``--help``."""
    rows = (f"  {code.value:>3}  {code.meaning}" for code in Exit)
    return "\b\nExit codes:\n" + "\n".join(rows)


def _hint(error: click.ClickException) -> str:
    if isinstance(error, CommandError):
        return error.hint
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"See '{error.ctx.command_path} --help'."
    return ""
