"""``doctor``: what is wrong with this machine and its set-up, and what to do about it."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from integrationd.cli.checkup import Case, Finding, Level, findings_of, ok, problem
from integrationd.cli.checkup_files import FILES
from integrationd.cli.checkup_machine import MACHINE, WITHOUT_CONFIG
from integrationd.cli.checkup_set_up import ANSWER_TIMEOUT_S, SET_UP
from integrationd.cli.exits import Exit
from integrationd.cli.glance import glance_socket
from integrationd.cli.render import clean, paint
from integrationd.cli.terminal import Terminal
from integrationd.errors import ConfigError
from integrationd.settings import RejectedConfigError, Settings, find_config, load

_COLOURS = {Level.OK: "ok", Level.WARNING: "attention", Level.PROBLEM: "failed"}
_LEVEL_WIDTH = max(map(len, Level))


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(doctor)


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, readable=False),
    help="The configuration to look at; else the one that 'run' would take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_context
def doctor(ctx: click.Context, config: Path | None, as_json: bool) -> None:
    """Look for what is wrong with this machine and its set-up; needs no daemon.

    Says one thing a line, and what to do about it; exits 1 if there is a problem. Run it as the
    daemon's user and in the daemon's environment. Nothing is changed, and no network is used.
    """
    terminal: Terminal = ctx.find_root().obj
    found = []
    for finding in _findings(terminal, config):
        found.append(finding)
        if not as_json:
            terminal.say(_told(finding))
    is_ok = all(one.level is not Level.PROBLEM for one in found)
    if as_json:
        terminal.say_value({"ok": is_ok, "findings": [_as_json(one) for one in found]})
    else:
        terminal.say(_sum(found))
    if not is_ok:
        ctx.exit(Exit.PROBLEM)


def _findings(terminal: Terminal, named: Path | None) -> Iterator[Finding]:
    """Check what can be checked: without a configuration, that is little."""
    path, settings, checks = named or Path(), Settings(), WITHOUT_CONFIG
    try:
        path = find_config(named, terminal.environ)
        settings = load(path, terminal.environ, known=None)
        checks = (*MACHINE, *FILES, *SET_UP)
        yield ok("configuration", str(path.absolute()))
    except RejectedConfigError as error:
        advice = f"Mend it, then run: integrationd config check {path}"
        yield from (problem("configuration", str(one), advice) for one in error.problems)
    except ConfigError as error:
        yield problem("configuration", str(error), error.hint)
    case = Case(
        config=path,
        settings=settings,
        environ=terminal.environ,
        clock=terminal.clock,
        status=_status(settings),
    )
    yield from findings_of(checks, case)


def _status(settings: Settings) -> dict[str, Any] | None:
    socket = settings.api.socket
    return None if socket is None else glance_socket(socket, "/v1/status", ANSWER_TIMEOUT_S)


def _told(finding: Finding) -> str:
    level = paint(f"{finding.level:<{_LEVEL_WIDTH}}", _COLOURS[finding.level])
    found = f"{clean(finding.subject)}: {clean(finding.found).rstrip('.')}"
    advice = f". {clean(finding.advice)}" if finding.advice else ""
    return f"{level}  {found}{advice}"


def _sum(found: list[Finding]) -> str:
    count = Counter(one.level for one in found)
    if not count[Level.PROBLEM] and not count[Level.WARNING]:
        return "All is well."
    told = (
        f"{number} {level}{'s' * (number != 1)}"
        for level, number in count.items()
        if level != Level.OK
    )
    return f"{', '.join(told)}."


def _as_json(finding: Finding) -> dict[str, Any]:
    return dataclasses.asdict(finding)
