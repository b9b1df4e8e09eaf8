"""``erase``: blank what names one data subject in what is over."""

import json
from typing import Any

import click

from integrationd.cli.exits import CommandError, Exit
from integrationd.cli.session import Session, with_session


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(erase)


@click.command()
@click.argument("subject")
@click.option("--tenant", help="Whose subject it is; else your own, or 'default'.")
@click.option("--dry-run", is_flag=True, help="Only count what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_session
def erase(session: Session, subject: str, tenant: str | None, dry_run: bool, yes: bool) -> None:
    """Erase what names SUBJECT: a phone number with its country code, an e-mail or a reference.

    Payloads, results, recipients and exchanges of finished calls, webhooks and events are blanked
    for good. Calls that are not finished are left and listed. The log still verifies.
    """
    if not dry_run and not yes and not click.confirm("Erase it for good?", err=True):
        raise CommandError("nothing was erased", code=Exit.PROBLEM)
    wanted: dict[str, Any] = {"subject": subject, "dry_run": dry_run}
    if tenant is not None:
        wanted["tenant"] = tenant
    answer = session.daemon.post("/v1/erasures", json.dumps(wanted).encode())
    session.show(answer, lambda view: _told(view, dry_run=dry_run))


def _told(view: Any, *, dry_run: bool) -> str:
    verb = "would be erased" if dry_run else "erased"
    counts = ", ".join(
        f"{view[name]} {name}" for name in ("calls", "attempts", "webhooks", "events")
    )
    lines = [f"{counts} {verb}."]
    if view.get("more"):
        lines.append("There is more: ask again.")
    if view.get("open_calls"):
        lines.append("Not finished, so left: " + " ".join(view["open_calls"]))
    return "\n".join(lines)
