"""``run``: the daemon itself, in the foreground."""

from collections.abc import Iterator
from pathlib import Path

import click

from integrationd import supervisor
from integrationd.cli.exits import CommandError
from integrationd.cli.terminal import Terminal
from integrationd.errors import IntegrationdError
from integrationd.settings import find_config


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(run)


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, readable=False),
    help="The configuration; else INTEGRATIOND_CONFIG, ./integrationd.toml or the one in /etc.",
)
@click.pass_context
def run(ctx: click.Context, config: Path | None) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C."""
    terminal: Terminal = ctx.find_root().obj
    path = find_config(config, terminal.environ)
    try:
        code = supervisor.run(path, terminal.environ)
    except OSError as error:
        raise _told(error) from error
    except ExceptionGroup as group:
        # Tasks that fail together arrive as a group; what is expected is told like any error.
        _, unexpected = group.split((IntegrationdError, OSError))
        if unexpected is not None:
            raise
        raise _told(next(_leaves(group))) from group
    ctx.exit(code)


def _told(error: Exception) -> CommandError:
    if isinstance(error, IntegrationdError):
        return CommandError.of(error)
    return CommandError(f"the daemon cannot go on: {error}")


def _leaves(group: ExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
