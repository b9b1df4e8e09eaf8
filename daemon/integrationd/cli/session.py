"""What every command that talks to the daemon begins with: finding it, and opening a session."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import click

from integrationd.cli.client import Answer, Daemon, ProblemError
from integrationd.cli.exits import CommandError, Exit
from integrationd.cli.terminal import Terminal
from integrationd.client.address import SOCKET_VARIABLE, Address
from integrationd.errors import ConfigError

_LABEL = "[A-Za-z0-9_-]{1,63}"
_URL = re.compile(
    rf"https?://(?:\[[0-9a-fA-F:.]+\]|{_LABEL}(?:\.{_LABEL})*)(?::\d{{1,5}})?(?:/[!-~]*)?"
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_Command = TypeVar("_Command", bound=Callable[..., Any])
Decorator: TypeAlias = Callable[[_Command], _Command]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Where the command line says that the daemon is.

    Attributes:
        socket: What ``--socket`` names.
        url: What ``--url`` names.
        key_file: What ``--key-file`` names.
        config: What ``--config`` names.
    """

    socket: Path | None = None
    url: str | None = None
    key_file: Path | None = None
    config: Path | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One command's conversation with the daemon.

    Attributes:
        daemon: Whom it talks to.
        terminal: Where it prints.
        as_json: Whether the API's JSON is printed, rather than words.
    """

    daemon: Daemon
    terminal: Terminal
    as_json: bool

    def show(self, answer: Answer, in_words: Callable[[dict[str, Any]], str]) -> None:
        """Print an answer: as it came with ``--json``, else in words."""
        if self.as_json:
            self.terminal.say_json(answer.body)
        else:
            self.terminal.say(in_words(answer.shown))


def with_session(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that find the daemon, and a :class:`Session` as ``session``."""

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        terminal: Terminal = click.get_current_context().find_root().obj
        as_json = given.pop("as_json")
        wish = Wish(**{one.name: given.pop(one.name) for one in dataclasses.fields(Wish)})
        with Daemon(find_daemon(wish, terminal.environ)) as daemon:
            session = Session(daemon=daemon, terminal=terminal, as_json=as_json)
            try:
                return command(session=session, **given)
            except ProblemError as error:
                if as_json:
                    terminal.say_json(error.body)
                raise

    return with_finding_options(run)


def with_finding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that find the daemon, those of :class:`Wish`, and ``as_json``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def find_daemon(wish: Wish, environ: Mapping[str, str]) -> Address:
    """Return where the daemon listens.

    That is what the command line names, else ``INTEGRATIOND_SOCKET``, else what the configuration
    says, else the usual socket.

    Raises:
        click.UsageError: The options contradict each other, or the key cannot be read.
        CommandError: The configuration would have to say it, and is rejected.
    """
    if wish.socket is not None and wish.url is not None:
        raise click.UsageError("say where the daemon is with --socket or --url, not with both")
    if wish.key_file is not None and wish.url is None:
        raise click.UsageError("--key-file goes with --url")
    if wish.socket is not None:
        return Address(socket=wish.socket)
    if wish.url is not None:
        return _of_url(wish.url, wish.key_file)
    named = environ.get(SOCKET_VARIABLE)
    if named and wish.config is None:
        return Address(socket=Path(named))
    return _configured(wish.config, environ)


def call_path(call_id: str) -> str:
    """Return the API's path of a call.

    Raises:
        click.UsageError: This is not an id.
    """
    if not _UUID.fullmatch(call_id):
        raise click.UsageError(
            f"{call_id[:80]!r} is not the id of a call; ids are given whole, "
            "as 'integrationd calls' shows them"
        )
    return f"/v1/calls/{call_id}"


def _of_url(url: str, key_file: Path | None) -> Address:
    if not _URL.fullmatch(url):
        raise click.UsageError(f"--url {url!r} is not http:// or https:// with a host and a port")
    return Address(url=url, key=None if key_file is None else _read_key(key_file))


def _read_key(path: Path) -> str:
    try:
        key = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise click.UsageError(f"the key file {path} cannot be read: {reason}") from error
    if not key or not key.isascii() or not key.isprintable():
        raise click.UsageError(f"the key file {path} does not hold an API key")
    return key


def _configured(named: Path | None, environ: Mapping[str, str]) -> Address:
    # Only who has not said where the daemon is waits for this.
    from integrationd import settings  # noqa: PLC0415 - it takes longer than all the rest

    try:
        path = settings.find_config(named, environ)
    except ConfigError:
        return Address(socket=settings.ApiSettings().socket)
    try:
        # Not the whole: it may be what is wrong elsewhere in the file that brings somebody here.
        found = settings.load_addresses(path, environ)
    except settings.RejectedConfigError as error:
        hint = "Mend it, or say where the daemon listens with --socket."
        raise CommandError(str(error), hint=hint, code=Exit.CONFIG) from error
    if found.api.socket is not None:
        return Address(socket=found.api.socket)
    return _of_url(f"http://{found.api.listen}", found.api_key_file)


_PATH = click.Path(path_type=Path, readable=False)
_OPTIONS: tuple[Decorator[Callable[..., Any]], ...] = (
    click.option("--socket", type=_PATH, help=f"The daemon's Unix socket; else {SOCKET_VARIABLE}."),
    click.option("--url", help="The daemon's TCP address, http://HOST:PORT."),
    click.option("--key-file", type=_PATH, help="The file with the API key that TCP asks for."),
    click.option("--config", type=_PATH, help="The configuration that says where it listens."),
    click.option("--json", "as_json", is_flag=True, help="Print the API's JSON."),
)
