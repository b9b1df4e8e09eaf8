"""``authorize``: a person's consent for a connection, given at its provider or taken back."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import click

from integrationd.cli.render import Times
from integrationd.cli.session import Session, with_session


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(authorize)


@click.command()
@click.argument("name")
@click.option("--revoke", is_flag=True, help="Take it back: the provider voids the token.")
@with_session
def authorize(session: Session, name: str, revoke: bool) -> None:
    """Print the address at which a person authorises the connection NAME; it is good once."""
    path = f"/v1/connections/{quote(name, safe='')}"
    if revoke:
        session.show(session.daemon.delete(f"{path}/authorization"), _given_back)
        return
    answer = session.daemon.post(f"{path}/authorize")
    times = session.terminal.times()
    session.show(answer, lambda view: str(view.get("url")))
    if not session.as_json:
        session.terminal.note(_explained(answer.shown, times))


def _explained(view: Mapping[str, Any], times: Times) -> str:
    return (
        f"Open this address in a browser; it ends {times.relative(view.get('expires_at'))}."
        f" The provider must know {view.get('redirect_uri')} as the address to send you back to."
    )


def _given_back(view: Mapping[str, Any]) -> str:
    voided = "the provider has voided its token" if view.get("revoked") else "its token is gone"
    return f"Connection {view.get('connection')}: {voided}."
