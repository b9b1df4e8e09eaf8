"""``vault:`` in a configuration, and ``[vault]`` itself."""

from pathlib import Path

import pytest
from tests.unit.settings_cases import loaded

from integrationd.settings import (
    ConnectionSettings,
    RejectedConfigError,
    ResolvedConfig,
    SecretReader,
    Settings,
    UnusableError,
    changes,
    needing_restart,
    resolve,
    resolve_all,
    vault_references,
)


def reader(**held: str) -> SecretReader:
    def read(tenant: str, name: str) -> str:
        if name not in held:
            raise UnusableError(f"the vault holds no secret {name!r}")
        return f"{tenant}:{held[name]}"

    return read


def with_token(reference: str) -> Settings:
    one = ConnectionSettings(provider="http", config={"auth": {"token": reference}})
    return Settings(connections={"shop": one})


def test_reference_is_what_the_vault_holds_for_the_tenant(tmp_path: Path) -> None:
    found = resolve(
        {"keys": ["vault:a.b-c_1"]},
        {},
        tmp_path,
        connection="c",
        vault=reader(**{"a.b-c_1": "x"}),
        tenant="school",
    )

    assert found.values == {"keys": ["school:x"]}
    assert found.secrets == {"school:x"}
    assert "school:x" not in repr(found)


def test_missing_secret_rejects_the_configuration_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(RejectedConfigError) as caught:
        resolve_all(with_token("vault:gone"), tmp_path / "i.toml", {}, vault=reader())

    (problem,) = caught.value.problems
    assert problem.where == "connections.shop.config.auth.token"
    assert problem.reason == "the vault holds no secret 'gone'"


def test_secret_that_cannot_be_read_again_goes_on(tmp_path: Path) -> None:
    settings, file = with_token("vault:a"), tmp_path / "i.toml"
    before = resolve_all(settings, file, {}, vault=reader(a="1"))

    after = resolve_all(settings, file, {}, before, reader())

    assert after["shop"].values == {"auth": {"token": "*:1"}}
    assert "the value that was read before goes on" in after["shop"].stale[0].reason


def test_secret_of_another_tenant_never_goes_on(tmp_path: Path) -> None:
    text = "vault:a"
    before = {
        "theirs": ResolvedConfig(
            values={}, read={text: "theirs", "env:B": "b"}, origins={}, tenant="school"
        )
    }

    with pytest.raises(RejectedConfigError):
        resolve_all(with_token(text), tmp_path / "i.toml", {}, before, reader())

    again = resolve_all(with_token("env:B"), tmp_path / "i.toml", {}, before, reader())
    assert again["shop"].values == {"auth": {"token": "b"}}


def test_references_to_the_vault_are_listed_with_their_connections() -> None:
    one = ConnectionSettings(provider="http", config={"a": "vault:x", "b": ["vault:x", "vault:y"]})
    other = ConnectionSettings(provider="http", config={"a": "vault:y", "b": "literal:vault:z"})

    found = vault_references(Settings(connections={"one": one, "other": other}))

    assert found == {("*", "x"): ["one"], ("*", "y"): ["one", "other"]}


def test_master_key_stands_beside_the_journal_unless_said_otherwise(tmp_path: Path) -> None:
    plain = loaded(tmp_path, '[journal]\npath = "state/journal.db"\n')
    named = loaded(tmp_path, '[vault]\nmaster_key = "file:keys/m"\n')
    other = loaded(tmp_path, '[vault]\nmaster_key = "credential:m"\n')

    assert plain.master_key == f"file:{tmp_path}/state/master.key"
    assert named.master_key == f"file:{tmp_path}/keys/m"
    assert other.master_key == "credential:m"


@pytest.mark.parametrize(
    "text",
    ["", "master.key", "ab" * 32, "vault:a", "file:", "file:~/k", "env:A B", "credential:../k"],
)
def test_master_key_that_is_no_reference_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RejectedConfigError) as caught:
        loaded(tmp_path, f'[vault]\nmaster_key = "{text}"\n')

    (problem,) = caught.value.problems
    assert problem.where == "vault.master_key"
    assert len(text) < 64 or text not in str(caught.value)


def test_change_of_the_master_key_needs_a_restart(tmp_path: Path) -> None:
    before = loaded(tmp_path, "")
    after = loaded(tmp_path, '[vault]\nmaster_key = "env:M"\n')

    (problem,) = needing_restart(changes(before, after))

    assert problem.where == "vault.master_key"
    assert "needs a restart" in problem.reason
