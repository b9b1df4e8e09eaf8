"""``reload``: have the running daemon take over what has changed."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from integrationd.cli.client import ProblemError
from integrationd.cli.exits import CommandError, Exit
from integrationd.cli.render import paint
from integrationd.cli.session import Session, with_session


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(reload)


@click.command()
@with_session
def reload(session: Session) -> None:
    """Have the daemon read its configuration, secrets and plugins anew; exits 4 if refused."""
    try:
        answer = session.daemon.post("/v1/config/reload")
    except ProblemError as error:
        if error.problem.get("code") != "config_rejected":
            raise
        if session.as_json:
            session.terminal.say_json(error.body)
        raise _refusal(error.problem) from error
    session.show(answer, lambda view: "\n".join(in_words(view)))


def _refusal(problem: Mapping[str, Any]) -> CommandError:
    found = [f"  {each['where']}: {each['reason']}" for each in problem.get("problems") or ()]
    return CommandError(
        "\n".join(["the configuration is refused, and the one from before goes on:", *found]),
        hint="Mend it; the daemon looks at it again when the file changes.",
        code=Exit.CONFIG,
    )


def in_words(view: Mapping[str, Any], *, has_happened: bool = True) -> Iterator[str]:
    """Yield what a reload did, or would do, line by line."""
    match view.get("outcome"):
        case "unchanged":
            yield "Nothing has changed."
        case "rejected":
            yield f"The configuration would be {paint('refused', 'failed')}:"
        case _:
            yield f"{paint('Taken over', 'completed')}:" if has_happened else "Would be taken over:"
    yield from (f"  {change}" for change in view.get("changes") or ())
    for kind, style in (("problems", "failed"), ("warnings", "attention")):
        for each in view.get(kind) or ():
            yield f"{paint(kind.removesuffix('s'), style)}: {each['where']}: {each['reason']}"
