"""``completion``: the script for a shell, and what the shell is offered to choose from.

Ids and names come from the running daemon. Where it does not answer at once nothing is offered,
and nothing is said: somebody is in the middle of a command line.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import click
from click.shell_completion import CompletionItem, get_completion_class

from integrationd.cli.exits import CommandError
from integrationd.cli.glance import glance_socket, glance_url
from integrationd.cli.render import clean
from integrationd.cli.session import Wish, find_daemon
from integrationd.cli.terminal import Terminal
from integrationd.errors import IntegrationdError

TIMEOUT_S = 0.5
CALLS = 100
PROGRAM = "integrationd"
VARIABLE = "_INTEGRATIOND_COMPLETE"

_ASKS_FOR_STATES = {
    "cancel": ("pending",),
    "resolve": ("unknown",),
    "retry": ("failed", "expired"),
}
_SETUP = """\
Print the script that makes SHELL complete this program's command lines.

\b
  bash:  integrationd completion bash > ~/.local/share/bash-completion/completions/integrationd
  zsh:   integrationd completion zsh > DIR/_integrationd, where DIR is in $fpath
  fish:  integrationd completion fish > ~/.config/fish/completions/integrationd.fish
"""

Items: TypeAlias = list[CompletionItem]
Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], Items]


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(completion)


@click.command(help=_SETUP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script for a shell."""
    terminal: Terminal = ctx.find_root().obj
    kind = get_completion_class(shell)
    if kind is None:
        raise CommandError(f"this installation cannot complete command lines of {shell}")
    terminal.say(kind(ctx.find_root().command, {}, PROGRAM, VARIABLE).source())


def teach(command: click.Command) -> None:
    """Let a command and those below it complete what the daemon knows."""
    for parameter in command.params:
        completer = _COMPLETERS.get((command.name, parameter.name)) or _COMPLETERS.get(
            (None, parameter.name)
        )
        if completer is not None:
            parameter._custom_shell_complete = completer  # noqa: SLF001 - set once, by its maker
    if isinstance(command, click.Group):
        for below in command.commands.values():
            teach(below)


def calls(ctx: click.Context, _parameter: click.Parameter, begun: str) -> Items:
    """Offer the calls for which the command makes sense, the latest first."""
    states = _ASKS_FOR_STATES.get(ctx.command.name or "", ("",))
    return [
        CompletionItem(one["id"], help=f"{one.get('operation')} {one.get('state')}")
        for state in states
        for one in _listed(ctx, f"/v1/calls?limit={CALLS}" + (f"&state={state}" if state else ""))
        if _fits(one.get("id"), begun)
    ]


def connections(ctx: click.Context, _parameter: click.Parameter, begun: str) -> Items:
    """Offer the names of the connections."""
    return [
        CompletionItem(one["id"], help=clean(str(one.get("provider"))))
        for one in _listed(ctx, "/v1/connections")
        if _fits(one.get("id"), begun)
    ]


def operations(ctx: click.Context, _parameter: click.Parameter, begun: str) -> Items:
    """Offer the operations of the plugins that are loaded."""
    found = {
        one["name"]: clean(str(one.get("summary") or ""))
        for provider in _listed(ctx, "/v1/providers")
        for one in provider.get("operations") or []
        if _fits(one.get("name"), begun)
    }
    return [CompletionItem(name, help=found[name]) for name in sorted(found)]


def api_keys(ctx: click.Context, _parameter: click.Parameter, begun: str) -> Items:
    """Offer the API keys that are not revoked."""
    return [
        CompletionItem(one["id"], help=clean(f"{one.get('name')} {one.get('role')}"))
        for one in _listed(ctx, f"/v1/keys?limit={CALLS}")
        if _fits(one.get("id"), begun) and one.get("state") != "revoked"
    ]


_COMPLETERS: Mapping[tuple[str | None, str | None], Completer] = {
    (None, "call_id"): calls,
    (None, "connection"): connections,
    (None, "key_id"): api_keys,
    ("reset-breaker", "name"): connections,
    ("send", "operation"): operations,
    ("calls", "operation"): operations,
}


def _fits(value: object, begun: str) -> bool:
    """Say whether a value goes on from what is typed, and is safe to put on a command line."""
    return isinstance(value, str) and value.startswith(begun) and clean(value) == value


def _listed(ctx: click.Context, path: str) -> Iterator[dict[str, Any]]:
    given = {name: ctx.params.get(name) for name in ("socket", "url", "key_file", "config")}
    try:
        address = find_daemon(Wish(**given), os.environ)
    except (click.ClickException, IntegrationdError, OSError):
        return
    if address.socket is not None:
        answer = glance_socket(address.socket, path, TIMEOUT_S)
    else:
        answer = glance_url(address.url, path, TIMEOUT_S, address.key)
    items = (answer or {}).get("items")
    yield from (one for one in items or [] if isinstance(one, dict))
