"""``connections``: make one, test it, pause it, change it and take it away."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from integrationd.cli.client import Daemon
from integrationd.cli.connections import connections
from integrationd.cli.exits import CommandError, Exit
from integrationd.cli.render import paint
from integrationd.cli.session import Session, with_session

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_FIELDS = click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
_CONNECTION = click.argument("connection", metavar="ID")


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(connections)


@connections.command("show")
@_CONNECTION
@with_session
def show(session: Session, connection: str) -> None:
    """Show one connection: what it is, how it stands and what its last test has found."""
    answer = session.daemon.get(_path(connection))
    times = session.terminal.times()
    session.show(answer, lambda view: "\n".join(_story(view, times.both)))


@connections.command("add")
@_CONNECTION
@click.argument("provider")
@_FIELDS
@click.option("--tenant", help="Whose it is; all tenants share it where this is absent.")
@click.option("--production", is_flag=True, help="It is no sandbox: it moves real money.")
@click.option("--primary", is_flag=True, help="It goes before others that can do the same.")
@click.option("--rate-limit", metavar="RATE", help="The most that it takes, for example 20/s.")
@click.option("--concurrency", type=click.IntRange(1, 10_000), help="Attempts at a time.")
@with_session
def add(
    session: Session, connection: str, provider: str, fields: Sequence[str], **options: Any
) -> None:
    """Make the connection ID of a provider, with the FIELDs that the provider's config asks for.

    Secrets are asked for, or read with FIELD=@- from standard input, FIELD=@PATH from a file, or
    FIELD=@env:NAME from a variable; they go to the vault and are never shown again.
    """
    from integrationd.cli.connection_fields import (  # noqa: PLC0415 - takes longer
        ask_for_missing,
        read_fields,
    )

    schema = _schema(session.daemon, provider)
    config = read_fields(fields, schema)
    ask_for_missing(config, schema)
    body = {
        "id": _checked(connection),
        "provider": provider,
        "environment": "production" if options.pop("production") else "sandbox",
        "config": config,
        **{name: value for name, value in options.items() if value is not None},
    }
    answer = session.daemon.post("/v1/connections", _encoded(body))
    session.show(
        answer,
        lambda view: (
            f"Connection {view.get('id')} is made. Try it: integrationd connections test"
            f" {view.get('id')}"
        ),
    )


@connections.command("change")
@_CONNECTION
@_FIELDS
@with_session
def change(session: Session, connection: str, fields: Sequence[str]) -> None:
    """Change FIELDs of a connection's config; everything else stays as it is.

    Secrets are given as for 'add'. One that is not named stays.
    """
    from integrationd.cli.connection_fields import read_fields  # noqa: PLC0415 - takes longer

    settings = session.daemon.get(_path(connection)).value.get("settings")
    if not isinstance(settings, dict):
        raise CommandError(
            f"connection {connection} was not made over the API",
            hint="Change it in the configuration file.",
        )
    config = read_fields(fields, _schema(session.daemon, str(settings.get("provider"))))
    body = {**settings, "config": _merged(settings.get("config") or {}, config)}
    answer = session.daemon.put(_path(connection), _encoded(body))
    session.show(answer, lambda view: f"Connection {view.get('id')} is changed.")


@connections.command("test")
@_CONNECTION
@with_session
def test(session: Session, connection: str) -> None:
    """Try a connection's credentials, without any effect; exits 7 if they do not work."""
    answer = session.daemon.post(f"{_path(connection)}/test")
    session.show(answer, lambda view: "\n".join(_found(view)))
    if not answer.value.get("ok"):
        click.get_current_context().exit(Exit.ATTENTION)


@connections.command("pause")
@_CONNECTION
@with_session
def pause(session: Session, connection: str) -> None:
    """Have a connection take no work; its calls wait, and new ones are accepted."""
    answer = session.daemon.post(f"{_path(connection)}/pause")
    session.show(answer, lambda view: f"Connection {view.get('id')} is paused; its calls wait.")


@connections.command("resume")
@_CONNECTION
@with_session
def resume(session: Session, connection: str) -> None:
    """Have a paused connection take work again."""
    answer = session.daemon.post(f"{_path(connection)}/resume")
    session.show(answer, lambda view: f"Connection {view.get('id')} takes work again.")


@connections.command("remove")
@_CONNECTION
@click.option("--drain", is_flag=True, help="Take no new calls, and go after the last one.")
@with_session
def remove(session: Session, connection: str, drain: bool) -> None:
    """Remove a connection with its secrets; refused while calls wait on it."""
    query = "?drain=true" if drain else ""
    answer = session.daemon.delete(f"{_path(connection)}{query}")
    gone = f"Connection {connection} is removed."
    leaving = f"Connection {connection} takes no new calls, and goes when its last has ended."
    session.show(answer, lambda view: gone if view.get("deleted") else leaving)


def _path(connection: str) -> str:
    return f"/v1/connections/{_checked(connection)}"


def _checked(connection: str) -> str:
    if not _NAME.fullmatch(connection):
        raise click.UsageError(f"{connection[:80]!r} is not the name of a connection")
    return connection


def _schema(daemon: Daemon, provider: str) -> Mapping[str, Any]:
    listed = daemon.get("/v1/providers").value.get("items") or []
    schemas: dict[str, Mapping[str, Any]] = {
        one["code"]: one.get("config_schema") or {} for one in listed
    }
    if provider not in schemas:
        raise CommandError(
            f"there is no provider {provider[:80]!r}", hint=f"There are: {', '.join(schemas)}."
        )
    return schemas[provider]


def _merged(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for name, value in after.items():
        below = merged.get(name)
        if isinstance(below, dict) and isinstance(value, dict):
            value = _merged(below, value)  # noqa: PLW2901 - the same value, with what stays
        merged[name] = value
    return merged


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body).encode()


def _found(view: Mapping[str, Any]) -> Iterator[str]:
    verdict = paint("ok", "ok") if view.get("ok") else paint("failed", "failed")
    yield f"{verdict}: {view.get('message')} ({view.get('duration_ms')} ms)"
    if view.get("hint"):
        yield f"  {view['hint']}"


def _story(view: Mapping[str, Any], at: Any) -> Iterator[str]:
    words = (view.get(name) for name in ("provider", "environment", "state"))
    yield f"{view.get('id')}: {', '.join(map(str, words))}"
    yield f"  of: {view.get('tenant') or 'all tenants'}, made in: {view.get('source')}"
    if view.get("problem"):
        yield f"  {paint('problem:', 'failed')} {view['problem']}"
    if view.get("paused_by"):
        yield f"  paused by {view['paused_by']}, {at(view.get('paused_at'))}"
    yield f"  can do: {', '.join(view.get('operations') or []) or 'nothing'}"
    yield f"  breaker {view.get('breaker')}, {view.get('pending')} calls wait"
    for name, value in ((view.get("settings") or {}).get("config") or {}).items():
        yield f"  {name}: {_value(value, at)}"
    tested = view.get("last_test")
    if tested:
        verdict = "ok" if tested.get("ok") else "failed"
        when = at(tested.get("tested_at"))
        yield f"  last test: {paint(verdict)}, {when}: {tested.get('message')}"
        if tested.get("hint"):
            yield f"    {tested['hint']}"


def _value(value: Any, at: Any) -> str:
    if isinstance(value, dict) and "set" in value:
        return f"a secret, set {at(value.get('set_at'))}" if value["set"] else "a secret, missing"
    return value if isinstance(value, str) else json.dumps(value)
