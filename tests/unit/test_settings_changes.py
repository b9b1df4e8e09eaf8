"""What differs between two configurations, what needs a restart, and secrets that are read anew."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.settings_cases import loaded

from integrationd.settings import RejectedConfigError, Settings, changes, needing_restart
from integrationd.settings.references import referenced_files, resolve_all

FIXED = {
    'api = { listen = "127.0.0.1:9999" }': "api.listen",
    'api = { socket = "other.sock" }': "api.socket",
    'api = { socket_mode = "0600" }': "api.socket_mode",
    'api = { socket_group = "users" }': "api.socket_group",
    'api = { key_file = "other.key" }': "api.key_file",
    'journal = { path = "other.db" }': "journal.path",
    'journal = { key_file = "other.key" }': "journal.key_file",
}
LIVE = (
    "api = { allowed_uids = [7] }",
    "api = { max_body = 4096 }",
    'api = { header_timeout = "3s" }',
    "delivery = { concurrency = 3 }",
    'delivery = { breaker = { open_for = "1s" } }',
    'retention = { calls = "1d" }',
    'log = { level = "debug" }',
    'plugins = { paths = ["mine"] }',
    '[connections.a]\nprovider = "http"\n',
    '[routes."sms.send"]\norder = ["a"]\nwhen_missing = "hold"\n',
)
SECRET = "hunter2-of-the-test"
CANARY = "canary"

_PLAIN = st.text("abc/xyz-._ é", max_size=12).map(lambda text: f"{CANARY}{text}")
_VALUES = st.recursive(
    _PLAIN | st.integers(10**8, 10**9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("pqr"), inner, max_size=3),
    max_leaves=6,
)
_CONFIGS = st.dictionaries(st.sampled_from(["key", "user", "auth"]), _VALUES, max_size=3)


def settings(**tables: Any) -> Settings:
    return Settings.model_validate(tables)


def connection(**fields: Any) -> dict[str, Any]:
    return {"provider": "http", **fields}


def lines(before: Settings, after: Settings) -> list[str]:
    return [str(change) for change in changes(before, after)]


# What is told


def test_same_settings_have_no_changes() -> None:
    one = settings(connections={"a": connection(config={"key": "env:K"})})

    assert changes(one, one.model_copy(deep=True)) == ()


def test_changes_name_key_before_and_after() -> None:
    before = settings(connections={"a": connection(), "b": connection()})
    after = settings(
        connections={"a": connection(rate_limit="5/s"), "c": {"provider": "console"}},
        delivery={"breaker": {"failures": 9}},
    )

    assert lines(before, after) == [
        "delivery.breaker.failures: 5 -> 9",
        "connections.a.rate_limit: null -> 5.0",
        "connections.b (gone)",
        "connections.c = console (new)",
    ]


def test_changed_route_names_its_connections() -> None:
    before = settings(routes={"sms.send": {"order": ["a"], "when_missing": "hold"}})
    after = settings(
        routes={
            "sms.send": {"order": ["b"], "when_missing": "hold"},
            "email.send": {"order": ["b"], "when_missing": "hold"},
        }
    )

    assert lines(before, after) == [
        'routes."sms.send".order: ["a"] -> ["b"]',
        'routes."email.send" = b (new)',
    ]


def test_defaults_written_out_are_no_change(tmp_path: Path) -> None:
    before = loaded(tmp_path, "")
    after = loaded(tmp_path, 'log = { level = "info" }\ndelivery = { timeout = "30s" }\n')

    assert changes(before, after) == ()


def test_references_are_shown_and_what_they_replace_is_not() -> None:
    before = settings(connections={"a": connection(config={"key": SECRET})})
    after = settings(connections={"a": connection(config={"key": "file:key", "more": SECRET})})

    assert lines(before, after) == [
        'connections.a.config.key: *** -> "file:key"',
        "connections.a.config.more = *** (new)",
    ]


def test_literal_is_shown_as_little_as_any_other_text() -> None:
    before = settings(connections={"a": connection(config={"key": "literal:env:x"})})
    after = settings(connections={"a": connection(config={"key": f"literal:{SECRET}"})})

    assert lines(before, after) == ["connections.a.config.key: *** -> ***"]


def test_long_values_are_cut() -> None:
    after = settings(plugins={"paths": [f"/plugins/{number}" for number in range(99)]})

    (change,) = changes(settings(), after)

    assert len(str(change)) < 200


@given(before=_CONFIGS, after=_CONFIGS)
def test_values_of_a_config_are_never_shown(before: Any, after: Any) -> None:
    old = settings(connections={"a": connection(config=before)})
    new = settings(connections={"a": connection(config=after)})

    told = lines(old, new)

    assert not any(CANARY in line for line in told)
    assert bool(told) == (before != after)
    assert all(line.startswith("connections.a.config") for line in told)


@given(before=_CONFIGS, after=_CONFIGS)
def test_going_back_undoes_the_changes(before: Any, after: Any) -> None:
    old = settings(connections={"a": connection(config=before)})
    new = settings(connections={"a": connection(config=after)})

    there = {(one.where, one.before, one.after) for one in changes(old, new)}
    back = {(one.where, one.after, one.before) for one in changes(new, old)}

    assert there == back


# What needs a restart


@pytest.mark.parametrize("line", FIXED)
def test_what_is_fixed_at_the_start_needs_a_restart(tmp_path: Path, line: str) -> None:
    before = loaded(tmp_path, "")

    problems = needing_restart(changes(before, loaded(tmp_path, line)))

    assert [problem.where for problem in problems] == [FIXED[line]]
    assert problems[0].reason.startswith("needs a restart to change (it is ")


@pytest.mark.parametrize("line", LIVE)
def test_everything_else_changes_live(tmp_path: Path, line: str) -> None:
    found = changes(loaded(tmp_path, ""), loaded(tmp_path, line))

    assert found
    assert needing_restart(found) == []


def test_connection_named_like_a_fixed_table_needs_no_restart(tmp_path: Path) -> None:
    found = changes(
        loaded(tmp_path, ""),
        loaded(tmp_path, '[connections.journal]\nprovider = "http"\nconfig = { path = "x" }\n'),
    )

    assert found
    assert needing_restart(found) == []


# Secrets that cannot be read again


def with_key(directory: Path, reference: str = "file:key") -> Settings:
    config = f'[connections.a]\nprovider = "http"\nconfig = {{ token = "{reference}" }}\n'
    return loaded(directory, config)


def written(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def spoil_gone(path: Path) -> None:
    path.unlink()


def spoil_empty(path: Path) -> None:
    path.write_text("")


def spoil_open(path: Path) -> None:
    path.chmod(0o644)


def spoil_binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")


def spoil_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_gone, "does not exist"),
        (spoil_empty, "is empty"),
        (spoil_open, "chmod o-rwx"),
        (spoil_binary, "is not UTF-8"),
        (spoil_directory, "is a directory"),
    ],
)
def test_secret_that_cannot_be_read_again_goes_on_and_says_so(
    tmp_path: Path, spoil: Any, reason: str
) -> None:
    path = written(tmp_path / "key", SECRET)
    config = with_key(tmp_path)
    file = tmp_path / "integrationd.toml"
    before = resolve_all(config, file, {})

    spoil(path)
    after = resolve_all(config, file, {}, before)

    assert after["a"].values == {"token": SECRET}
    assert after["a"].secrets == {SECRET}
    (problem,) = after["a"].stale
    assert problem.where == "connections.a.config.token"
    assert reason in problem.reason
    assert "the value that was read before goes on" in problem.reason
    assert SECRET not in str(problem)
    assert before["a"].stale == ()
    # And again, for as long as it is not mended.
    assert resolve_all(config, file, {}, after)["a"].values == {"token": SECRET}


def test_secret_that_comes_back_is_read_and_no_longer_stale(tmp_path: Path) -> None:
    path = written(tmp_path / "key", SECRET)
    config, file = with_key(tmp_path), tmp_path / "integrationd.toml"
    before = resolve_all(config, file, {})
    path.unlink()
    stale = resolve_all(config, file, {}, before)

    written(path, "renewed")
    after = resolve_all(config, file, {}, stale)

    assert (after["a"].values, after["a"].stale) == ({"token": "renewed"}, ())


def test_secret_that_was_never_read_is_still_refused(tmp_path: Path) -> None:
    written(tmp_path / "key", SECRET)
    file = tmp_path / "integrationd.toml"
    before = resolve_all(with_key(tmp_path), file, {})

    with pytest.raises(RejectedConfigError, match=r"other-key.*does not exist"):
        resolve_all(with_key(tmp_path, "file:other-key"), file, {}, before)


def test_new_connection_may_use_a_secret_that_another_still_knows(tmp_path: Path) -> None:
    path = written(tmp_path / "key", SECRET)
    file = tmp_path / "integrationd.toml"
    before = resolve_all(with_key(tmp_path), file, {})
    path.unlink()
    more = '[connections.b]\nprovider = "http"\nconfig = { token = "file:key" }\n'

    after = resolve_all(loaded(tmp_path, more), file, {}, before)

    assert after["b"].values == {"token": SECRET}
    assert after["b"].stale


def test_files_of_secrets_are_found_however_deep_they_stand(tmp_path: Path) -> None:
    config = settings(
        connections={
            "a": connection(config={"auth": {"token": "file:key", "more": ["file:/etc/k"]}}),
            "b": connection(config={"token": "credential:at", "user": "literal:file:no"}),
            "c": connection(config={"token": "env:NO"}),
        }
    )

    found = referenced_files(
        config, tmp_path / "integrationd.toml", {"CREDENTIALS_DIRECTORY": "/run/c"}
    )

    assert found == {tmp_path / "key", Path("/etc/k"), Path("/run/c/at")}
