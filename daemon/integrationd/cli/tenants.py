"""``tenants``: whose calls there are; adding one, changing, suspending and removing it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click

from integrationd.cli.connections import ListByDefault
from integrationd.cli.render import Table
from integrationd.cli.session import Session, with_session

_HEADERS = ("TENANT", "STATUS", "MADE IN", "RATE LIMIT", "PER DAY", "NAME")
_TENANT = click.argument("tenant", metavar="ID")
_NAMED = click.option("--name", help="What people call it.")
_DEFAULTS = click.option(
    "--default",
    "defaults",
    multiple=True,
    metavar="KEY=VALUE",
    help="What its calls take that do not say it, for example currency=KES.",
)
_RATE = click.option("--rate-limit", metavar="RATE", help="Calls accepted, for example 20/s.")
_QUOTA = click.option("--daily-quota", type=click.IntRange(1), help="Calls accepted per day.")
_KEPT = ("name", "status", "metadata", "defaults", "rate_limit", "burst", "daily_quota")


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(tenants)


@click.group(cls=ListByDefault)
def tenants() -> None:
    """Show the tenants, or add, change, suspend or remove one."""


@tenants.command("list")
@with_session
def list_tenants(session: Session) -> None:
    """List the tenants; this is what 'tenants' alone does."""
    answer = session.daemon.get("/v1/tenants")
    room = session.terminal.room
    session.show(answer, lambda view: "\n".join(_lines(view.get("items") or [], room)))


@tenants.command("add")
@_TENANT
@_NAMED
@_DEFAULTS
@_RATE
@_QUOTA
@with_session
def add(session: Session, tenant: str, **options: Any) -> None:
    """Make the tenant ID: a school, an organisation, a shop."""
    body = {"id": tenant, **_given(options)}
    answer = session.daemon.post("/v1/tenants", _encoded(body))
    session.show(answer, lambda view: f"Tenant {view.get('id')} is made.")


@tenants.command("change")
@_TENANT
@_NAMED
@_DEFAULTS
@_RATE
@_QUOTA
@with_session
def change(session: Session, tenant: str, **options: Any) -> None:
    """Change what is named of a tenant; everything else stays as it is."""
    _change(session, tenant, _given(options), "is changed")


@tenants.command("suspend")
@_TENANT
@with_session
def suspend(session: Session, tenant: str) -> None:
    """Refuse a tenant's new calls, and leave its waiting ones where they are."""
    _change(session, tenant, {"status": "suspended"}, "is suspended; its calls wait")


@tenants.command("activate")
@_TENANT
@with_session
def activate(session: Session, tenant: str) -> None:
    """Take the calls of a suspended tenant again, and go on with those that wait."""
    _change(session, tenant, {"status": "active"}, "is active")


@tenants.command("remove")
@_TENANT
@with_session
def remove(session: Session, tenant: str) -> None:
    """Remove a tenant; refused while it has open calls, connections or keys."""
    answer = session.daemon.delete(_path(tenant))
    session.show(answer, lambda view: f"Tenant {view.get('id')} is removed.")


def _change(session: Session, tenant: str, given: Mapping[str, Any], told: str) -> None:
    before = session.daemon.get(_path(tenant)).value
    retention = {
        name: kept for name, kept in (before.get("retention") or {}).items() if kept is not None
    }
    body = {name: before[name] for name in _KEPT if name in before}
    body = {**body, "retention": retention, **given}
    answer = session.daemon.put(_path(tenant), _encoded(body))
    session.show(answer, lambda view: f"Tenant {view.get('id')} {told}.")


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {**options, "defaults": dict(map(_pair, options["defaults"])) or None}
    return {key: value for key, value in wanted.items() if value is not None}


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise click.UsageError(f"--default {text[:80]!r} is not KEY=VALUE")
    return key, value


def _path(tenant: str) -> str:
    return f"/v1/tenants/{quote(tenant, safe='')}"


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body).encode()


def _lines(items: Sequence[Mapping[str, Any]], room: int | None) -> Iterator[str]:
    yield from Table(_HEADERS, room).lines(
        (
            str(one.get("id")),
            str(one.get("status")),
            str(one.get("source")),
            _rate(one.get("rate_limit")),
            str(one.get("daily_quota") or "-"),
            str(one.get("name") or ""),
        )
        for one in items
    )


def _rate(per_second: float | None) -> str:
    return "-" if per_second is None else f"{per_second:g}/s"
