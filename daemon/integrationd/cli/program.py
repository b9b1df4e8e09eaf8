"""The program ``integrationd``: its commands, and how all of them end."""

import contextlib
import dataclasses
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from integrationd import __version__
from integrationd.cli.exits import CommandError, Exit, exit_code_of, exit_codes, report
from integrationd.cli.terminal import Terminal
from integrationd.clock import SystemClock
from integrationd.errors import IntegrationdError


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """A command as ``--help`` lists it.

    Attributes:
        module: Its module in this package; imported when the command is used, not before. The
            module's ``register(program)`` adds the command.
        summary: The first sentence of its help.
    """

    module: str
    summary: str


COMMANDS = {
    "run": Listed("run", "Run the daemon in the foreground until SIGTERM or Ctrl-C."),
    "status": Listed("status", "Show how the daemon and its connections are."),
    "send": Listed("send", "Hand a call to the daemon, which keeps and delivers it."),
    "calls": Listed("calls", "List calls, the latest first."),
    "explain": Listed("explain", "Tell the whole story of one call."),
    "retry": Listed("actions", "Send a failed or expired call again."),
    "cancel": Listed("actions", "Call off a pending call."),
    "resolve": Listed("actions", "Settle a call of unknown outcome."),
    "events": Listed("events", "Show the last events of the log, or follow it."),
    "webhooks": Listed("webhooks", "Show what providers sent, or have it worked on again."),
    "subscriptions": Listed(
        "subscriptions", "Show who is told of which events, or add, test, rotate or remove one."
    ),
    "connections": Listed(
        "connection_changes", "Show the connections, or add, test, pause or remove one."
    ),
    "tenants": Listed("tenants", "Show the tenants, or add, change, suspend or remove one."),
    "authorize": Listed("authorize", "Authorise a connection at its provider, or take it back."),
    "keys": Listed("keys", "Show the API keys, or create, rotate or revoke one."),
    "config": Listed("config", "Check the configuration, or show what a reload would do."),
    "reload": Listed("reload", "Have the daemon take over what has changed."),
    "plugins": Listed("plugins", "Show the plugins, check a plugin file, or begin a new one."),
    "vault": Listed("vault", "Keep secrets for connections, sealed, or change their master key."),
    "doctor": Listed("doctor", "Look for what is wrong with this machine and its set-up."),
    "verify": Listed("journal_tools", "Read the journal once and say what is wrong with it."),
    "audit": Listed("audit", "Verify the event log, or export it for an auditor."),
    "erase": Listed("erase", "Erase what names one person in what is over."),
    "backup": Listed("journal_tools", "Copy the journal while the daemon goes on."),
    "restore": Listed("journal_tools", "Put a backup in the place of the journal."),
    "salvage": Listed("journal_tools", "Save what can be read of a damaged journal."),
    "completion": Listed("completion", "Print the script that lets a shell complete commands."),
}
"""All commands, in the order of ``--help``."""


class Program(click.Group):
    """A group whose expected faults end in one or two lines and an exit code of the table."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; exits the process unless ``standalone_mode`` is off."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        sys.exit(self._ended(args, prog_name, complete_var, extra))

    def invoke(self, ctx: click.Context) -> Any:
        """Run one command and translate what the daemon's own code raises."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _discard_output()
            raise click.exceptions.Exit(Exit.BROKEN_PIPE) from None
        except IntegrationdError as error:
            raise CommandError.of(error) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, whose module is imported only now."""
        listed = COMMANDS.get(cmd_name)
        if listed is not None and cmd_name not in self.commands:
            importlib.import_module(f"integrationd.cli.{listed.module}").register(self)
            if ctx.resilient_parsing:
                # Only a shell that completes a command line parses like this.
                _completion().teach(self.commands[cmd_name])
        return super().get_command(ctx, cmd_name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Offer the commands without importing any."""
        begun = [name for name in COMMANDS if name.startswith(incomplete)]
        items = [_completion().CompletionItem(name, help=COMMANDS[name].summary) for name in begun]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, listed.summary) for name, listed in COMMANDS.items()])

    def _ended(
        self,
        args: Sequence[str] | None,
        prog_name: str | None,
        complete_var: str | None,
        extra: dict[str, Any],
    ) -> int:
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return Exit.USAGE
        except click.ClickException as error:
            report(error)
            return exit_code_of(error)
        except click.Abort:
            return Exit.INTERRUPTED
        return code if isinstance(code, int) else Exit.OK


def _completion() -> Any:
    return importlib.import_module("integrationd.cli.completion")


def _discard_output() -> None:
    """Send what is still buffered nowhere; the interpreter would complain on its way out."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=exit_codes(),
)
@click.version_option(__version__, message="integrationd %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Keep every outbound call and deliver it when the world can be reached.

    Commands about calls and connections talk to a running daemon: the one that --socket or --url
    names, else INTEGRATIOND_SOCKET, else where the configuration says that it listens.
    """
    if ctx.obj is None:
        ctx.obj = Terminal(environ=os.environ, clock=SystemClock())
    if not ctx.obj.has_colour:
        ctx.color = False
