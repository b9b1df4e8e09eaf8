"""``config``: is it sound, what would a reload do, and what may stand in it?"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from integrationd.cli.check import Report, check
from integrationd.cli.exits import CommandError, Exit
from integrationd.cli.reload import in_words
from integrationd.cli.render import Table, clean, paint
from integrationd.cli.session import Session, with_session
from integrationd.cli.terminal import Terminal
from integrationd.errors import ConfigError
from integrationd.registry import builtin_plugins, load_plugins, plugin_files
from integrationd.settings import Problem, find_config, load
from integrationd.settings.schema import config_schema

_HEADERS = ("CONNECTION", "PROVIDER", "ENVIRONMENT", "OPERATIONS")


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(config)


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path, readable=False))
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_context
def check_config(ctx: click.Context, file: Path | None, as_json: bool) -> None:
    """Say all that is wrong with FILE, or with the configuration that 'run' would take.

    Reads the file and its secrets, loads the plugins and makes every connection, as a start would;
    uses no network and no daemon.
    """
    terminal: Terminal = ctx.find_root().obj
    try:
        path = find_config(file, terminal.environ)
    except ConfigError as error:
        if as_json:
            report = Report(file="", problems=[Problem("file", str(error))])
            terminal.say_value(_as_json(report))
        raise
    report = check(path, terminal.environ, terminal.clock)
    if as_json:
        terminal.say_value(_as_json(report))
    elif report.is_ok:
        terminal.say("\n".join(_summary(report, terminal.room)))
    if not report.is_ok:
        raise CommandError(_rejection(report), code=Exit.CONFIG)


@config.command("diff")
@with_session
def diff_config(session: Session) -> None:
    """Show what a reload would do to the running daemon; changes nothing, exits 4 if refused."""
    answer = session.daemon.get("/v1/config/diff")
    session.show(answer, lambda view: "\n".join(in_words(view, has_happened=False)))
    if answer.value.get("outcome") == "rejected":
        click.get_current_context().exit(Exit.CONFIG)


@config.command("schema")
@click.argument("file", required=False, type=click.Path(path_type=Path, readable=False))
@click.pass_context
def show_schema(ctx: click.Context, file: Path | None) -> None:
    """Print the JSON Schema of the configuration, for editors.

    It knows the built-in providers and, where FILE or the usual configuration can be read, those
    of its [plugins] paths.
    """
    terminal: Terminal = ctx.find_root().obj
    places = [builtin_plugins()]
    try:
        places += load(
            find_config(file, terminal.environ), terminal.environ, known=None
        ).plugins.paths
    except ConfigError:
        if file is not None:
            raise
    plugins = load_plugins(plugin_files(places), terminal.clock)
    schemas = {code: one.config_schema for code, one in plugins.versions.items()}
    terminal.say_value(config_schema(schemas))


def _as_json(report: Report) -> dict[str, Any]:
    return {"ok": report.is_ok, **dataclasses.asdict(report)}


def _rejection(report: Report) -> str:
    found = [*map(str, report.problems), *(f"{each} (warning)" for each in report.warnings)]
    return "\n".join([f"{report.file} cannot be used:", *(f"  {each}" for each in found)])


def _summary(report: Report, room: int | None) -> Iterator[str]:
    yield f"{clean(report.file)}: {paint('ok')}"
    yield ""
    rows = [
        (one.id, one.provider, one.environment if one.enabled else "off", ", ".join(one.operations))
        for one in report.connections
    ]
    yield from Table(_HEADERS, room).lines(rows)
    if not rows:
        yield "No connections: nothing can be sent."
    yield ""
    yield f"Providers: {', '.join(report.providers) or 'none'}"
    routes = (f"{name} -> {', '.join(order)}" for name, order in report.routes.items())
    yield f"Routes: {'; '.join(routes) or 'none'}"
    if report.unserved:
        yield f"No connection for: {', '.join(report.unserved)}"
    for warning in report.warnings:
        yield f"{paint('warning:', 'attention')} {clean(str(warning))}"
