"""``plugins``: what the daemon has loaded, is a file fit to be loaded, and a file to begin with."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from integrationd.cli import scaffold
from integrationd.cli.connections import ListByDefault
from integrationd.cli.exits import CommandError, Exit
from integrationd.cli.render import Table, clean, paint
from integrationd.cli.session import Session, with_session
from integrationd.cli.terminal import Terminal
from integrationd.registry.examination import LIMIT_S, Examination, examined
from integrationd.registry.plugin_reading import Remark

_HEADERS = ("CODE", "FILE", "VERSION", "OPERATIONS")
_DIGEST_SHOWN = 12
_OUTPUT_SHOWN = 200


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(plugins)


@click.group(cls=ListByDefault)
def plugins() -> None:
    """Show what the daemon has loaded, check a plugin file, or begin a new one."""


@plugins.command("list")
@with_session
def list_plugins(session: Session) -> None:
    """Show what the daemon has loaded; this is what 'plugins' alone does."""
    answer = session.daemon.get("/v1/providers")
    room = session.terminal.room
    session.show(answer, lambda view: "\n".join(_loaded(view, room)))
    faults = len(answer.value.get("faults") or [])
    if faults:
        what = "1 plugin file" if faults == 1 else f"{faults} plugin files"
        session.terminal.note(
            f"{what} cannot be used; 'integrationd plugins check FILE' says more."
        )


@plugins.command("check")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--limit",
    "limit_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1, max=600),
    default=LIMIT_S,
    show_default=True,
    help="What a file may take to be imported.",
)
@click.option("--schema", is_flag=True, help="Show what the connection's config takes, too.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_context
def check_plugins(
    ctx: click.Context, files: Sequence[str], limit_s: float, schema: bool, as_json: bool
) -> None:
    """Say all that is wrong with plugin files; needs no daemon.

    Each FILE is run in a process of its own, so that it can do no harm here. Warnings do not
    change the exit code.
    """
    terminal: Terminal = ctx.find_root().obj
    found = []
    for one in examined([Path(each) for each in files], terminal.clock, limit_s):
        found.append(one)
        if not as_json:
            terminal.say("\n".join(_told(one, shows_schema=schema)))
    is_ok = all(one.is_ok for one in found)
    if as_json:
        terminal.say_value({"ok": is_ok, "files": [_as_json(one) for one in found]})
    if not is_ok:
        ctx.exit(Exit.PROBLEM)


@plugins.command("new")
@click.argument("code")
@click.option(
    "--category",
    type=click.Choice(sorted(scaffold.CATEGORIES)),
    help="What kind of provider it is; says which operation it begins with.",
)
@click.option("--operation", help="The operation that it begins with, for example sms.send.")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="The directory to write to; the present one if you do not say.",
)
@click.pass_context
def new_plugin(
    ctx: click.Context, code: str, category: str | None, operation: str | None, into: Path
) -> None:
    """Write the plugin CODE.py, which serves one operation, and test_CODE.py, which passes."""
    terminal: Terminal = ctx.find_root().obj
    try:
        chosen = scaffold.operation_of(category, operation)
        plugin, test = scaffold.write(code, chosen, into, terminal.clock)
    except scaffold.UnfitError as error:
        raise click.UsageError(str(error)) from error
    except FileExistsError as error:
        raise CommandError(
            f"{error.filename} exists already, and nothing was written",
            hint="Choose another code, or another directory with --into.",
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(f"{error.filename or into} cannot be written: {reason}") from error
    terminal.say(f"Wrote {plugin}, which serves {chosen}, and {test}.")
    terminal.say(f"Test it with:   python -m pytest {test}")
    terminal.say(f"Check it with:  integrationd plugins check {plugin}")


def _loaded(view: Mapping[str, Any], room: int | None) -> Iterator[str]:
    items = view.get("items") or []
    if not items:
        yield "No plugins are loaded."
    yield from Table(_HEADERS, room).lines(_row(one) for one in items)
    faults = view.get("faults") or []
    if faults:
        yield ""
        yield from (f"  {paint('!', 'failed')} {_fault(one)}" for one in faults)


def _row(one: Mapping[str, Any]) -> Sequence[str]:
    operations = (str(each.get("name")) for each in one.get("operations") or [])
    return (
        str(one.get("code")),
        str(one.get("path")),
        str(one.get("digest"))[:_DIGEST_SHOWN],
        ", ".join(operations),
    )


def _fault(one: Mapping[str, Any]) -> str:
    where = f"{one.get('path')}:{one['line']}" if one.get("line") else str(one.get("path"))
    return f"{where}: {one.get('reason')}"


def _told(one: Examination, *, shows_schema: bool) -> Iterator[str]:
    verdict = paint("ok") if one.is_ok else paint("cannot be used", "failed")
    serves = f": {one.code}, {', '.join(one.operations)}" if one.is_ok else ""
    yield f"{clean(one.file)}: {verdict}{clean(serves)}"
    yield from (f"  {_shown(each)}" for each in one.problems)
    yield from (f"  {paint('warning:', 'attention')} {_shown(each)}" for each in one.warnings)
    if one.output.strip():
        begins = one.output.strip()[:_OUTPUT_SHOWN]
        yield f"  its output begins: {clean(begins)}"
    if shows_schema and one.config_schema is not None:
        yield from clean_lines(json.dumps(one.config_schema, indent=2))


def clean_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text, each made safe to print."""
    return map(clean, text.splitlines())


def _shown(remark: Remark) -> str:
    return clean(str(remark))


def _as_json(one: Examination) -> dict[str, Any]:
    return {
        "file": one.file,
        "ok": one.is_ok,
        "code": one.code,
        "digest": one.digest,
        "operations": one.operations,
        "problems": [each._asdict() for each in one.problems],
        "warnings": [each._asdict() for each in one.warnings],
        "output": one.output,
        "output_bytes": one.output_bytes,
        "config_schema": one.config_schema,
    }
