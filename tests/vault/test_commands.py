"""The command line of the vault, with a daemon and without one."""

import asyncio
import json
from pathlib import Path

from tests import program
from tests.faults.daemon import DaemonProcess

from integrationd.journal import StoredConnection
from integrationd.settings import SHARED_SECRETS_OF

CANARY = "canary-3d4e5f60"
PASSPHRASE = "correct horse battery"
CONNECTION = """
[connections.shop]
provider = "http"
config = { base_url = "http://127.0.0.1:9", allow_private = true, auth = { kind = "bearer", token = "vault:shop" } }
"""  # noqa: E501 - an inline table is one line


class Shell:
    """Runs commands in a daemon's directory and keeps all that they print."""

    def __init__(self, directory: Path, tables: str = "") -> None:
        self.directory = directory
        self.daemon = DaemonProcess(directory, tables)
        self.printed = ""

    def run(self, *words: str, given: str = "", exits: int = 0) -> str:
        done = program.run(*words, directory=self.directory, given=given)
        told = done.stdout + done.stderr
        self.printed += told
        assert done.returncode == exits, told
        assert "Traceback" not in told
        return told


def test_vault_is_used_without_a_daemon(short_path: Path) -> None:
    shell = Shell(short_path, CONNECTION)

    assert "the vault holds no secret 'shop'" in shell.run("config", "check", exits=4)
    assert "not made yet" in shell.run("vault", "status")
    assert "A new master key was made" in shell.run("vault", "init")
    assert "it is kept" in shell.run("vault", "init")
    assert "No daemon runs" in shell.run("vault", "set", "shop", given=f"{CANARY}\n")
    assert "shop" in shell.run("vault", "list")
    assert "ok" in shell.run("config", "check")
    assert "sealed anew" in shell.run("vault", "rotate", "--data-keys")
    assert "is used by: shop" in shell.run("vault", "delete", "shop", exits=1)
    shell.run("vault", "set", "other", given=CANARY)
    assert "is deleted" in shell.run("vault", "delete", "other")
    assert "no secret 'other'" in shell.run("vault", "delete", "other", exits=1)

    assert CANARY not in shell.printed


def test_vault_is_used_through_a_daemon(short_path: Path) -> None:
    shell = Shell(short_path, CONNECTION)
    shell.run("vault", "set", "shop", given=CANARY)
    with shell.daemon:
        shell.daemon.start()
        shell.daemon.wait_ready()

        told = shell.run("vault", "set", "shop", given=f"{CANARY}-2")
        assert "connections.shop: a secret was read anew" in told
        status = json.loads(shell.run("vault", "status", "--json"))
        assert (status["state"], status["secrets"]) == ("usable", 1)
        assert "The old key is kept as" in shell.run("vault", "rotate")
        assert "is used by: shop" in shell.run("vault", "delete", "shop", exits=1)
        assert "ok" in shell.run("config", "check")
        assert shell.daemon.stop() == 0

    assert CANARY not in shell.printed + shell.daemon.output()


def test_secrets_travel_in_an_export_under_a_passphrase(short_path: Path) -> None:
    (short_path / "one").mkdir()
    (short_path / "two").mkdir()
    (short_path / "pass").write_text(f"{PASSPHRASE}\n")
    (short_path / "wrong").write_text("another passphrase")
    one, two = Shell(short_path / "one"), Shell(short_path / "two")
    for name in ("a", "b"):
        one.run("vault", "set", name, given=f"{CANARY}-{name}")

    one.run("vault", "export", "../export", "--passphrase-file", "../pass")
    one.run("vault", "export", "../export", "--passphrase-file", "../pass", exits=1)
    told = two.run("vault", "import", "../export", "--passphrase-file", "../wrong", exits=1)
    assert "the passphrase is another" in told
    two.run("vault", "import", "../export", "--passphrase-file", "../pass")
    told = two.run("vault", "import", "../export", "--passphrase-file", "../pass", exits=1)
    assert "a, b" in told
    two.run("vault", "import", "../export", "--passphrase-file", "../pass", "--overwrite")

    assert (short_path / "export").stat().st_mode & 0o777 == 0o600
    assert CANARY.encode() not in (short_path / "export").read_bytes()
    assert json.loads(two.run("vault", "list", "--json"))["items"][0]["version"] == 3
    assert asyncio.run(_value(short_path / "two", "b")) == f"{CANARY}-b"


def test_secrets_of_several_tenants_are_kept_apart_and_travel_together(short_path: Path) -> None:
    for name in ("one", "two"):
        (short_path / name).mkdir()
    one, two = Shell(short_path / "one"), Shell(short_path / "two")
    (short_path / "pass").write_text(PASSPHRASE)
    (short_path / "pass").chmod(0o600)
    passphrase = ("--passphrase-file", "../pass")
    one.run("vault", "set", "shop", given=CANARY)
    one.run("vault", "set", "shop", "--tenant", "acme", given=f"{CANARY}-acme")
    one.run("vault", "set", "till", "--tenant", "acme", given=f"{CANARY}-till")

    one.run("vault", "export", "../export", *passphrase)
    two.run("vault", "import", "../export", *passphrase)
    again = two.run("vault", "import", "../export", *passphrase, exits=1)
    two.run("vault", "delete", "till", "--tenant", "acme")

    names = [
        [one["name"] for one in json.loads(two.run("vault", "list", "--json", *words))["items"]]
        for words in ((), ("--tenant", "acme"), ("--tenant", "bolt"))
    ]
    assert names == [["shop"], ["shop"], []]
    assert "acme/shop, acme/till, shop" in again
    assert CANARY not in one.printed + two.printed


async def _value(directory: Path, name: str) -> str:
    from tests.vault.world import opened  # noqa: PLC0415 - one test needs it

    async with opened(directory) as world:
        return await world.value(name, SHARED_SECRETS_OF)


def test_secret_is_never_empty_nor_misnamed(short_path: Path) -> None:
    shell = Shell(short_path)

    assert "standard input is empty" in shell.run("vault", "set", "a", given="\n", exits=1)
    assert "is no name of a secret" in shell.run("vault", "set", "a b", given="x", exits=2)
    assert "unexpected extra argument" in shell.run("vault", "set", "a", CANARY, exits=2).lower()


def test_check_without_the_daemons_environment_looks_for_names_only(short_path: Path) -> None:
    shell = Shell(short_path, f'{CONNECTION}[vault]\nmaster_key = "file:master.key"\n')
    shell.run("vault", "set", "shop", given=CANARY)
    config = short_path / "integrationd.toml"
    config.write_text(config.read_text().replace("file:master.key", "credential:master"))

    told = shell.run("config", "check")
    assert "its secrets in the vault were not opened" in told
    assert "were not opened" in shell.run("doctor", exits=0)
    config.write_text(config.read_text().replace("vault:shop", "vault:gone"))
    assert "the vault holds no secret 'gone'" in shell.run("config", "check", exits=4)


def test_key_that_stands_in_the_configuration_is_refused_and_not_repeated(short_path: Path) -> None:
    key = "ab" * 31 + "cd"
    shell = Shell(short_path, f'[vault]\nmaster_key = "{key}"\n')

    told = shell.run("config", "check", exits=4)

    assert "vault.master_key: must say where the master key is" in told
    assert key not in told


async def _keep(directory: Path, row: StoredConnection) -> None:
    from tests.vault.world import opened  # noqa: PLC0415 - one test needs it

    async with opened(directory) as world:
        await world.journal.directory.keep_connection(row, None, "uid:0")


def test_secret_of_a_connection_made_over_the_api_is_kept_while_no_daemon_runs(
    short_path: Path,
) -> None:
    """A route that names it keeps nobody from the vault either."""
    shell = Shell(short_path, '[routes."sms.send"]\norder = ["made"]\n')
    settings = '{"provider": "http", "config": {"token": "vault:shop"}}'
    row = StoredConnection(
        id="made", tenant=None, settings=settings, created_at_ms=1, changed_at_ms=1
    )
    shell.run("vault", "set", "shop", given=CANARY)
    asyncio.run(_keep(short_path, row))

    assert "is used by: made" in shell.run("vault", "delete", "shop", exits=1)
