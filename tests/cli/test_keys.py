"""API keys, as a person deals with them in a terminal."""

import json
from typing import Any

import pytest
from tests.cli.conftest import CommandLine, Playback, problem

from integrationd.cli.exits import Exit

ID, OTHER_ID = "00112233445566ff", "ff00112233445566"
KEY = f"idk_{ID}_the-secret-part"


def key(**changes: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "prefix": f"idk_{ID}_",
        "name": "shop",
        "role": "staff",
        "tenant": None,
        "state": "valid",
        "created_at": "2026-01-31T11:57:00.000Z",
        "expires_at": None,
        "last_used_at": None,
        "revoked_at": None,
        "replaced_by": None,
        "grace_until": None,
        **changes,
    }


def page(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(items), "next": None}


@pytest.mark.parametrize("words", [("keys",), ("keys", "list")])
def test_keys_are_a_table_with_whole_ids(
    command: CommandLine, daemon: Playback, words: tuple[str, ...]
) -> None:
    daemon.play(
        page(
            key(last_used_at="2026-01-31T11:57:00.000Z"),
            key(tenant="default", expires_at="2026-02-02T12:00:00.000Z"),
            key(state="expired", expires_at="2026-01-29T12:00:00.000Z"),
            key(state="revoked", revoked_at="2026-01-31T11:00:00.000Z"),
            key(state="grace", replaced_by=OTHER_ID, grace_until="2026-01-31T13:00:00.000Z"),
        )
    )

    result = command(*words)

    assert result.exit_code == Exit.OK
    head, *rows = (line.rstrip() for line in result.stdout.splitlines())
    assert head.split() == ["ID", "NAME", "ROLE", "TENANT", "STATE", "LAST", "USED", "NOTE"]
    assert rows[0].split() == [ID, "shop", "staff", "all", "valid", "3", "min", "ago"]
    assert rows[1].split()[3:] == ["default", "valid", "never", "expires", "in", "2", "d"]
    assert rows[2].endswith("expired 2 d ago")
    assert rows[3].endswith("revoked 60 min ago")
    assert rows[4].endswith(f"replaced by {OTHER_ID}, ends in 60 min")


def test_keys_of_one_tenant_are_asked_for(command: CommandLine, daemon: Playback) -> None:
    daemon.play(page())

    command("keys", "list", "--tenant", "acme")

    assert daemon.asked[0].path == "/v1/keys?limit=50&tenant=acme"


def test_no_keys_are_said_to_be_none(command: CommandLine, daemon: Playback) -> None:
    daemon.play(page())

    assert command("keys").stdout == "There are no API keys but the one in the key file.\n"


def test_new_key_is_printed_alone_so_that_it_can_go_to_a_file(
    command: CommandLine, daemon: Playback
) -> None:
    daemon.play(key(key=KEY))

    result = command("keys", "create", "shop", "--role", "staff", "--expires-in", "90d")

    (asked,) = daemon.asked
    assert (asked.method, asked.path) == ("POST", "/v1/keys")
    assert asked.json == {"name": "shop", "role": "staff", "expires_in": 90 * 86_400}
    assert result.stdout == f"{KEY}\n"
    assert "never shown again" in result.stderr
    assert KEY not in result.stderr


def test_new_key_as_json_is_the_answer_as_it_came(command: CommandLine, daemon: Playback) -> None:
    daemon.play(key(key=KEY))

    result = command("keys", "create", "shop", "--role", "read", "--tenant", "default", "--json")

    assert daemon.asked[0].json == {"name": "shop", "role": "read", "tenant": "default"}
    assert json.loads(result.stdout)["key"] == KEY
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ((), {}),
        (("--grace", "0"), {"grace": 0}),
        (("--grace", "12h", "--expires-in", "30d"), {"grace": 43_200, "expires_in": 2_592_000}),
    ],
)
def test_rotation_prints_the_key_that_takes_the_place(
    command: CommandLine, daemon: Playback, options: tuple[str, ...], body: dict[str, float]
) -> None:
    daemon.play(key(id=OTHER_ID, key=KEY))

    result = command("keys", "rotate", ID, *options)

    (asked,) = daemon.asked
    assert (asked.method, asked.path) == ("POST", f"/v1/keys/{ID}/rotate")
    assert asked.json == body
    assert result.stdout == f"{KEY}\n"
    assert OTHER_ID in result.stderr


def test_revoked_key_is_named(command: CommandLine, daemon: Playback) -> None:
    daemon.play(key(state="revoked"))

    result = command("keys", "revoke", ID)

    (asked,) = daemon.asked
    assert (asked.method, asked.path) == ("DELETE", f"/v1/keys/{ID}")
    assert result.stdout == f"API key {ID} (shop) is revoked.\n"


@pytest.mark.parametrize("verb", ["rotate", "revoke"])
@pytest.mark.parametrize("given", [KEY, "shop", "", "../calls", ID.upper(), f"{ID}\n"])
def test_what_is_no_id_is_refused_and_not_repeated(
    command: CommandLine, daemon: Playback, verb: str, given: str
) -> None:
    result = command("keys", verb, given)

    assert result.exit_code == Exit.USAGE
    assert "integrationd keys" in result.stderr
    assert KEY not in result.output
    assert not daemon.asked


@pytest.mark.parametrize("given", ["soon", "-1d", "1 day", "nan", ""])
def test_what_is_no_duration_is_refused(command: CommandLine, daemon: Playback, given: str) -> None:
    result = command("keys", "rotate", ID, "--grace", given)

    assert result.exit_code == Exit.USAGE
    assert "30d" in result.stderr
    assert not daemon.asked


def test_role_must_be_said(command: CommandLine, daemon: Playback) -> None:
    result = command("keys", "create", "shop")

    assert result.exit_code == Exit.USAGE
    assert "--role" in result.stderr
    assert not daemon.asked


def test_missing_role_is_told_with_what_to_do(command: CommandLine, daemon: Playback) -> None:
    daemon.play(
        problem(403, "role_missing", "this needs the role admin", hint="Use a key of the role x.")
    )

    result = command("keys", "create", "shop", "--role", "read")

    assert result.exit_code == Exit.PROBLEM
    assert "error: this needs the role admin" in result.stderr
    assert "hint: Use a key of the role x." in result.stderr
