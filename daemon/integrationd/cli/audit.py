"""``audit``: verify the event log and the attempts, or export them for an auditor."""

from pathlib import Path

import click
import msgspec

from integrationd.cli.exits import CommandError
from integrationd.cli.journal_tools import FINDINGS_SHOWN, Place, with_place
from integrationd.cli.terminal import Terminal
from integrationd.journal.audit import AuditReport, check_export, export_to
from integrationd.journal.audit import audit as audit_journal


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(audit)


@click.group()
def audit() -> None:
    """Verify the event log, or export it for an auditor; a running daemon may go on."""


@audit.command()
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Compare with an export made earlier: shows whether an older state was put back.",
)
@click.option("--backup", is_flag=True, help="It is a backup, which has no high-water mark.")
@click.option(
    "--export", "export_file", type=click.Path(path_type=Path), help="Verify this export."
)
@with_place
def verify(
    terminal: Terminal,
    place: Place,
    as_json: bool,
    against: Path | None,
    backup: bool,
    export_file: Path | None,
) -> None:
    """Find every event or attempt that was edited, deleted, inserted, moved or cut off.

    It needs the instance key, and finds what is done by somebody who has all files but that.
    """
    if export_file is not None:
        _verify_export(terminal, place, as_json, export_file)
        return
    report = audit_journal(place.journal, place.key(), is_backup=backup, against=against)
    if as_json:
        terminal.say_value({"sound": report.is_sound, **msgspec.to_builtins(report)})
    else:
        for remark in report.remarks:
            terminal.say(f"Note: {remark}")
        if report.is_sound:
            terminal.say(
                f"{place.journal} verifies: events {report.first} to {report.last}, and"
                f" {report.attempts} attempts."
            )
    if not report.is_sound:
        raise CommandError(
            _told(place.journal, report),
            hint="Keep all files as they are, and compare with a backup or an export.",
        )


def _verify_export(terminal: Terminal, place: Place, as_json: bool, file: Path) -> None:
    end = check_export(file, place.key())
    if as_json:
        terminal.say_value({"sound": True, **msgspec.to_builtins(end)})
    else:
        terminal.say(
            f"{file} verifies: {end.events} events up to {end.event}, {end.attempts} attempts."
        )


def _told(journal: Path, report: AuditReport) -> str:
    shown = report.findings[:FINDINGS_SHOWN]
    left = len(report.findings) - len(shown)
    lines = [f"{journal} does not verify:", *(f"  {finding}" for finding in shown)]
    return "\n".join([*lines, f"  and {left} more"] if left else lines)


@audit.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@with_place
def export(terminal: Terminal, place: Place, as_json: bool, file: Path) -> None:
    """Write the log to FILE as JSON Lines, sealed at its end.

    Keep it elsewhere: 'audit verify --against FILE' then shows what was put back or cut off.
    """
    draft = file.with_name(f".{file.name}.draft")
    try:
        with draft.open("wb") as opened:
            draft.chmod(0o600)
            end = export_to(place.journal, place.key(), opened)
        draft.replace(file)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    if as_json:
        terminal.say_value(msgspec.to_builtins(end))
    else:
        terminal.say(
            f"{end.events} events up to {end.event} and {end.attempts} attempts are in {file}."
        )
