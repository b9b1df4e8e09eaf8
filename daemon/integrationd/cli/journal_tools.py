"""``verify``, ``backup``, ``restore``, ``salvage``: look after the journal, without the daemon."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
import msgspec

from integrationd.call import Actor
from integrationd.cli.exits import CommandError, Exit
from integrationd.cli.terminal import Terminal
from integrationd.errors import ConfigError
from integrationd.journal.backup import back_up_to
from integrationd.journal.backup import restore as restore_backup
from integrationd.journal.keys import read_key
from integrationd.journal.salvage import salvage as salvage_journal
from integrationd.journal.verify import VerifyReport
from integrationd.journal.verify import verify as verify_journal
from integrationd.settings import find_config, load

FINDINGS_SHOWN = 20


class Place(msgspec.Struct, frozen=True):
    """Which journal is meant.

    Attributes:
        journal: The journal's file.
        key_file: The instance key beside it.
    """

    journal: Path
    key_file: Path

    def key(self) -> bytes:
        """Return the instance key.

        Raises:
            ConfigError: There is none, or it cannot be used.
        """
        try:
            return read_key(self.key_file)
        except FileNotFoundError:
            raise ConfigError(
                f"there is no instance key at {self.key_file}",
                hint="It stands beside the journal; restore it along with the journal.",
            ) from None


def register(program: click.Group) -> None:
    """Add this module's commands."""
    for command in (verify, backup, restore, salvage):
        program.add_command(command)


def with_place(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--journal``, ``--config`` and ``--json``."""

    @click.option("--journal", type=click.Path(path_type=Path), help="The journal's file.")
    @click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="The configuration that names the journal; else the one that 'run' would take.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
    @wraps(command)
    def run(journal: Path | None, config: Path | None, as_json: bool, **given: Any) -> Any:
        terminal: Terminal = click.get_current_context().find_root().obj
        return command(terminal, _place(terminal, journal, config), as_json, **given)

    return run


def _place(terminal: Terminal, journal: Path | None, config: Path | None) -> Place:
    if journal is not None:
        return Place(journal, journal.with_name("instance.key"))
    settings = load(find_config(config, terminal.environ), terminal.environ, known=None)
    return Place(settings.journal.path, settings.instance_key_file)


@click.command()
@with_place
def verify(terminal: Terminal, place: Place, as_json: bool) -> None:
    """Read the whole journal once and say what is wrong with it; a running daemon may go on."""
    report = verify_journal(place.journal, place.key())
    if as_json:
        terminal.say_value({"sound": report.is_sound, **msgspec.to_builtins(report)})
    elif report.is_sound:
        terminal.say(
            f"{place.journal} is sound: {report.calls} calls, {report.attempts} attempts,"
            f" {report.events} events, {report.webhooks} webhooks, up to commit {report.commit}."
        )
    if not report.is_sound:
        raise CommandError(
            _told(place.journal, report),
            hint="Stop the daemon and save what can be saved: integrationd salvage --into NEW.db",
        )


def _somebody() -> Actor:
    """Return whom the event log names for what is done without the daemon."""
    return Actor(f"uid:{os.getuid()}", "command line")


def _told(journal: Path, report: VerifyReport) -> str:
    shown = report.findings[:FINDINGS_SHOWN]
    left = len(report.findings) + report.more - len(shown)
    lines = [f"{journal} is not sound:", *(f"  {finding}" for finding in shown)]
    return "\n".join([*lines, f"  and {left} more"] if left else lines)


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Take the place of TARGET if it exists.")
@with_place
def backup(terminal: Terminal, place: Place, as_json: bool, target: Path, overwrite: bool) -> None:
    """Copy the journal to TARGET as it stands at one commit; a running daemon goes on.

    Keep the instance key with it: without it the event log of the copy cannot be verified.
    """
    report = back_up_to(place.journal, target, overwrite=overwrite)
    if as_json:
        terminal.say_value(msgspec.to_builtins(report))
        return
    terminal.say(
        f"{report.calls} calls are in {report.target}, up to commit {report.commit} and event"
        f" {report.event}."
    )


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--assume-undelivered",
    is_flag=True,
    help="Leave calls pending; right only if the daemon had stopped before the backup was made.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_place
def restore(
    terminal: Terminal,
    place: Place,
    as_json: bool,
    source: Path,
    assume_undelivered: bool,
    yes: bool,
) -> None:
    """Put the backup SOURCE in the place of the journal; what stands there is moved aside.

    Calls that were still to be delivered become unknown, since they may have been delivered after
    the backup was made.
    """
    if not yes and not click.confirm(f"Put {source} in the place of {place.journal}?", err=True):
        raise CommandError("nothing was restored", code=Exit.PROBLEM)
    report = restore_backup(
        source,
        place.journal,
        place.key(),
        terminal.clock,
        assume_undelivered=assume_undelivered,
        by=_somebody(),
    )
    if as_json:
        terminal.say_value(msgspec.to_builtins(report))
        return
    terminal.say(f"{report.calls} calls are restored to {place.journal}.")
    if report.doubtful:
        terminal.say(
            f"{report.doubtful} of them may have been delivered since; look into them with"
            " 'integrationd calls --state unknown'."
        )
    for file in report.moved_aside:
        terminal.say(f"What stood there before is now {file}.")


@click.command()
@click.option(
    "--into", required=True, type=click.Path(path_type=Path), help="The new journal's file."
)
@with_place
def salvage(terminal: Terminal, place: Place, as_json: bool, into: Path) -> None:
    """Save what can be read of a damaged journal into a new one; the damaged one stays as it is."""
    report = salvage_journal(place.journal, into, place.key(), terminal.clock, by=_somebody())
    if as_json:
        terminal.say_value(msgspec.to_builtins(report))
        return
    terminal.say(f"{report.kept} calls are saved into {into}, {report.lost} are lost.")
    if report.doubtful:
        terminal.say(f"{report.doubtful} were being attempted and are unknown now.")
    for call_id in report.lost_ids:
        terminal.say(f"Lost: {call_id}")
    terminal.say(f"Verify it with: integrationd verify --journal {into}")
