"""``vault``: secrets for connections, sealed under a master key that is not in the journal."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from integrationd.cli.exits import CommandError, Exit
from integrationd.cli.render import Table, cleaned, paint
from integrationd.cli.terminal import Terminal
from integrationd.cli.vault_files import export_to, passphrase_for, read_export
from integrationd.cli.vault_store import Store, with_store
from integrationd.settings import SECRET_NAME_PATTERN, SHARED_SECRETS_OF, find_config, load
from integrationd.vault import ExportedSecret

_HEADERS = ("NAME", "VERSION", "SET")
_PATH = click.Path(path_type=Path)
_TENANT = click.option(
    "--tenant",
    help="Whose secrets; else your key's tenant's, or those of connections that all share.",
)
_PASSPHRASE_FILE = click.option(
    "--passphrase-file", type=_PATH, help="The file with the passphrase; else it is asked for."
)


def register(program: click.Group) -> None:
    """Add this module's commands."""
    program.add_command(vault)


@click.group()
def vault() -> None:
    """Keep secrets for connections, which refer to them as vault:NAME.

    Each tenant's are its own connections' alone, and those that are no tenant's (named '*') are for
    connections that all share. While no daemon runs, these commands work on its journal.
    """


@vault.command("init")
@with_store
def init(store: Store, terminal: Terminal, as_json: bool) -> None:
    """Make the master key now, rather than with the first secret."""
    made = store.init()
    notice = cleaned(dict(made)).get("notice") or "There is a master key already; it is kept."
    _show(terminal, as_json, made, str(notice))


@vault.command("status")
@with_store
def status(store: Store, terminal: Terminal, as_json: bool) -> None:
    """Show the state of master key and secrets; exits 7 if something is wrong."""
    found = store.status()
    _show(terminal, as_json, found, "\n".join(_story(cleaned(dict(found)))))
    if found.get("problems"):
        click.get_current_context().exit(Exit.ATTENTION)


@vault.command("set")
@click.argument("name")
@_TENANT
@with_store
def set_secret(store: Store, terminal: Terminal, as_json: bool, name: str) -> None:
    """Keep the secret NAME; a running daemon goes on with it at once.

    What it holds is read from standard input, less one line end, or asked for at a terminal; never
    from the command line, which other users can see.
    """
    _check_name(name)
    kept = store.set(name, _value(name))
    _show(terminal, as_json, kept, "\n".join(_kept(cleaned(dict(kept)))))


@vault.command("list")
@_TENANT
@with_store
def list_secrets(store: Store, terminal: Terminal, as_json: bool) -> None:
    """List the secrets by name; what they hold is never shown."""
    found = store.names()
    times = terminal.times()
    rows = [
        (str(one["name"]), str(one["version"]), times.relative(one["set_at"]))
        for one in cleaned(dict(found)).get("items") or ()
    ]
    lines = list(Table(_HEADERS, terminal.room).lines(rows)) if rows else ["No secrets."]
    _show(terminal, as_json, found, "\n".join(lines))


@vault.command("delete")
@click.argument("name")
@_TENANT
@with_store
def delete_secret(store: Store, terminal: Terminal, as_json: bool, name: str) -> None:
    """Delete the secret NAME; refused while a connection refers to it."""
    _check_name(name)
    _show(terminal, as_json, store.delete(name), f"The secret {name} is deleted.")


@vault.command("rotate")
@click.option(
    "--data-keys", is_flag=True, help="Make new data keys too, and seal all secrets anew."
)
@with_store
def rotate(store: Store, terminal: Terminal, as_json: bool, data_keys: bool) -> None:
    """Put a new master key in the place of the old one; no call waits for it.

    A key in a file is made anew, and the old one is kept beside it for backups made before. For one
    in the environment or a credential, set [vault] master_key to the new and previous_master_key to
    the old one, restart the daemon, and then rotate.
    """
    done = store.rotate(data_keys=data_keys)
    _show(terminal, as_json, done, "\n".join(_rotated(cleaned(dict(done)))))


@vault.command("export")
@click.argument("target", type=_PATH)
@_PASSPHRASE_FILE
@click.option("--config", type=_PATH, help="The configuration that names the journal.")
@click.pass_context
def export(
    ctx: click.Context, target: Path, passphrase_file: Path | None, config: Path | None
) -> None:
    """Write all secrets to the new file TARGET, encrypted under a passphrase (by scrypt).

    Reads journal and master key themselves, since a daemon tells no secret; it may go on running.
    """
    terminal: Terminal = ctx.find_root().obj
    settings = load(find_config(config, terminal.environ), terminal.environ, known=None)
    passphrase = passphrase_for(passphrase_file, is_new=True)
    count = export_to(target, settings, terminal.environ, passphrase)
    terminal.say(f"{count} secrets are in {target}; only the passphrase opens it.")


@vault.command("import")
@click.argument("source", type=_PATH)
@_PASSPHRASE_FILE
@click.option("--overwrite", is_flag=True, help="Take the place of secrets of the same name.")
@with_store
def import_secrets(
    store: Store,
    terminal: Terminal,
    as_json: bool,
    source: Path,
    passphrase_file: Path | None,
    overwrite: bool,
) -> None:
    """Keep all secrets of the file SOURCE, which 'vault export' wrote."""
    found = read_export(source, passphrase_for(passphrase_file, is_new=False))
    both = sorted(_kept_already(store, found))
    if both and not overwrite:
        told = f"the vault holds these already: {', '.join(both)}"
        raise CommandError(told, hint="Say --overwrite to take their places.")
    for one in found:
        store.of(one.tenant).set(one.name, one.value)
    _show(terminal, as_json, {"imported": len(found)}, f"{len(found)} secrets are in the vault.")


def _kept_already(store: Store, found: Sequence[ExportedSecret]) -> Iterator[str]:
    """Yield the names of secrets that the vault holds, each with its tenant if it has one."""
    for tenant in {one.tenant for one in found}:
        names = {one["name"] for one in store.of(tenant).names().get("items") or ()}
        for one in found:
            if one.tenant == tenant and one.name in names:
                yield one.name if tenant == SHARED_SECRETS_OF else f"{tenant}/{one.name}"


def _show(terminal: Terminal, as_json: bool, value: Mapping[str, Any], words: str) -> None:
    if as_json:
        terminal.say_value(dict(value))
    else:
        terminal.say(words)


def _check_name(name: str) -> None:
    if not SECRET_NAME_PATTERN.fullmatch(name):
        raise click.UsageError(
            f"{name[:80]!r} is no name of a secret: use letters, digits, '.', '_' and '-', begin "
            "with a letter or digit"
        )


def _value(name: str) -> str:
    if sys.stdin.isatty():
        asked: str = click.prompt(
            f"What {name} holds", hide_input=True, confirmation_prompt=True, err=True
        )
        return asked
    try:
        value = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise CommandError("standard input is not UTF-8 text") from None
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise CommandError(
            "standard input is empty", hint=f"For example: integrationd vault set {name} < FILE"
        )
    return value


def _kept(view: Mapping[str, Any]) -> Iterator[str]:
    yield f"The secret {view.get('name')} is kept (version {view.get('version')})."
    if view.get("notice"):
        yield f"{paint('notice:', 'attention')} {view['notice']}"
    reload = view.get("reload")
    if reload is None:
        yield "No daemon runs; the next start goes on with it."
    elif reload.get("outcome") == "rejected":
        yield f"{paint('warning:', 'attention')} the daemon does not go on with it yet:"
        yield from (f"  {one['where']}: {one['reason']}" for one in reload.get("problems") or ())
    else:
        yield from (f"  {change}" for change in reload.get("changes") or ())


def _story(view: Mapping[str, Any]) -> Iterator[str]:
    state = str(view.get("state"))
    words = {"usable": "usable", "not_made": "not made yet; the first secret makes it"}
    yield f"Master key: {view.get('master_key')}, {words.get(state, paint('unusable', 'failed'))}"
    if view.get("master"):
        yield f"Its id: {view['master']}"
    yield f"Secrets: {view.get('secrets')}, data keys: {view.get('data_keys')}"
    if view.get("behind"):
        yield (
            f"{paint('attention:', 'attention')} another master key wraps {view['behind']} data "
            "keys; run: integrationd vault rotate"
        )
    yield from (f"{paint('problem:', 'failed')} {each}" for each in view.get("problems") or ())


def _rotated(view: Mapping[str, Any]) -> Iterator[str]:
    yield f"The master key {view.get('master')} wraps all {view.get('data_keys')} data keys now."
    if view.get("sealed_anew"):
        yield f"{view['sealed_anew']} secrets were sealed anew."
    if view.get("kept_as"):
        yield f"The old key is kept as {view['kept_as']}, for backups made before; delete it when"
        yield "no such backup is needed any more. Copy the new one to a safe place."
