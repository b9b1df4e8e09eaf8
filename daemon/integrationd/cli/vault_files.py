"""Export files of the vault, and the passphrases that open them."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from integrationd.cli.exits import CommandError
from integrationd.errors import DamagedError
from integrationd.journal import stored_vault
from integrationd.settings import Settings
from integrationd.supervisor.secrets import master_source
from integrationd.vault import ExportedSecret, pack, unpack

FILE_LIMIT_BYTES = 256 * 1024 * 1024


def export_to(target: Path, settings: Settings, environ: Mapping[str, str], passphrase: str) -> int:
    """Write all secrets to a new file of mode 0600 and return how many there are.

    Raises:
        CommandError: The file cannot be written, or there is one already.
        IntegrationdError: A secret cannot be opened; nothing is written.
    """
    found = stored_vault(settings.journal.path)
    for damage in found.damaged.values():
        raise DamagedError(damage)
    if not found.secrets:
        raise CommandError("the vault holds no secrets")
    keyring = master_source(settings, environ).load()
    secrets = [
        ExportedSecret(
            tenant=one.tenant, name=one.name, value=found.open(keyring, one.tenant, one.name)
        )
        for one in found.secrets
    ]
    _write(target, pack(secrets, passphrase))
    return len(secrets)


def read_export(source: Path, passphrase: str) -> list[ExportedSecret]:
    """Return the secrets of an export file.

    Raises:
        CommandError: The file cannot be read.
        VaultError: It is no export, or the passphrase is another.
    """
    try:
        with source.open("rb") as file:
            content = file.read(FILE_LIMIT_BYTES)
    except OSError as error:
        raise CommandError(f"{source} cannot be read: {error.strerror}") from error
    return unpack(content, passphrase)


def passphrase_for(file: Path | None, *, is_new: bool) -> str:
    """Return the passphrase of a file, or ask for it; twice where it is a new one.

    Raises:
        CommandError: The file cannot be read.
    """
    if file is None:
        asked: str = click.prompt(
            "Passphrase", hide_input=True, confirmation_prompt=is_new, err=True
        )
        return asked
    try:
        return file.read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise CommandError(f"the passphrase file {file} cannot be read: {reason}") from error


def _write(target: Path, content: bytes) -> None:
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise CommandError(f"{target} cannot be written: {error.strerror}") from error
