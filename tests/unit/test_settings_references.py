"""Secrets by reference: how they are read, what is refused, and that their values stay hidden."""

import copy
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.settings import (
    ConnectionSettings,
    RejectedConfigError,
    ResolvedConfig,
    Settings,
    resolve,
    resolve_all,
)
from integrationd.settings.references import SECRET_LIMIT_BYTES

SECRET = "hunter2"


def resolved(
    config: Mapping[str, Any], base_dir: Path, environ: Mapping[str, str] | None = None
) -> ResolvedConfig:
    return resolve(config, environ or {}, base_dir, connection="a")


def problems_of(
    config: Mapping[str, Any], base_dir: Path, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    with pytest.raises(RejectedConfigError) as caught:
        resolved(config, base_dir, environ)
    return {problem.where: problem.reason for problem in caught.value.problems}


def secret_file(path: Path, content: str | bytes = SECRET, mode: int = 0o600) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


# What references become


def test_reference_to_a_variable_is_its_value(tmp_path: Path) -> None:
    found = resolved({"key": "env:AT_KEY"}, tmp_path, {"AT_KEY": SECRET})

    assert found.values == {"key": SECRET}
    assert found.secrets == {SECRET}
    assert found.origins == {"key": "env:AT_KEY"}


def test_reference_to_a_file_begins_at_the_directory_of_the_config(tmp_path: Path) -> None:
    secret_file(tmp_path / "key")
    absolute = secret_file(tmp_path / "other", "second")

    found = resolved({"a": "file:key", "b": f"file:{absolute}"}, tmp_path)

    assert found.values == {"a": SECRET, "b": "second"}


def test_reference_to_a_credential_begins_at_the_directory_of_systemd(tmp_path: Path) -> None:
    secret_file(tmp_path / "at-key", mode=0o440)

    found = resolved(
        {"key": "credential:at-key"}, Path("/"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    )

    assert found.values == {"key": SECRET}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("key\n", "key"),
        ("key\r\n", "key"),
        ("key\n\n", "key\n"),
        (" key ", " key "),
        ("-----\nkey\n-----\n", "-----\nkey\n-----"),
        ("clé", "clé"),
    ],
)
def test_reference_to_a_file_loses_one_line_end(
    tmp_path: Path, content: str, expected: str
) -> None:
    secret_file(tmp_path / "key", content)

    assert resolved({"key": "file:key"}, tmp_path).values == {"key": expected}


def test_references_are_found_however_deep_they_stand(tmp_path: Path) -> None:
    config = {"auth": {"kind": "hmac", "keys": ["env:OLD", {"value": "env:NEW"}]}, "tries": 3}
    before = copy.deepcopy(config)

    found = resolved(config, tmp_path, {"OLD": "old-key", "NEW": "new-key"})

    assert found.values == {
        "auth": {"kind": "hmac", "keys": ["old-key", {"value": "new-key"}]},
        "tries": 3,
    }
    assert found.origins == {"auth.keys[0]": "env:OLD", "auth.keys[1].value": "env:NEW"}
    assert config == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("literal:env:HOME", "env:HOME"),
        ("literal:", ""),
        ("literal:literal:x", "literal:x"),
        ("https://example.com", "https://example.com"),
        ("ENV:HOME", "ENV:HOME"),
        (" env:HOME", " env:HOME"),
        ("environment:x", "environment:x"),
    ],
)
def test_text_that_is_no_reference_is_kept(tmp_path: Path, text: str, expected: str) -> None:
    found = resolved({"key": text}, tmp_path, {"HOME": "wrong"})

    assert found.values == {"key": expected}
    assert not found.secrets
    assert not found.origins


@given(st.text())
def test_literal_gives_any_text_back(text: str) -> None:
    assert resolved({"key": f"literal:{text}"}, Path("/")).values == {"key": text}


# What is refused


@pytest.mark.parametrize(
    ("reference", "environ", "reason"),
    [
        ("env:GONE", {}, "environment variable GONE is not set"),
        ("env:EMPTY", {"EMPTY": ""}, "environment variable EMPTY is empty"),
        ("env:BAD", {"BAD": "\udcff"}, "environment variable BAD is not UTF-8 text"),
        ("env:BIG", {"BIG": "x" * (SECRET_LIMIT_BYTES + 1)}, "is larger than 64 KiB"),
        ("env:", {}, "not the name of an environment variable"),
        ("env:A B", {}, "not the name of an environment variable"),
        ("env:A\n", {"A\n": "x"}, "not the name of an environment variable"),
        ("file:", {}, "not a path"),
        ("file:~/key", {}, "'~' is not expanded"),
        ("file:a\0b", {}, "not a path"),
        ("credential:k", {}, "CREDENTIALS_DIRECTORY is not set"),
        ("credential:", {"CREDENTIALS_DIRECTORY": "/"}, "not the name of a systemd credential"),
        ("credential:..", {"CREDENTIALS_DIRECTORY": "/"}, "not the name of a systemd credential"),
        ("credential:a/b", {"CREDENTIALS_DIRECTORY": "/"}, "not the name of a systemd credential"),
        ("credential:k", {"CREDENTIALS_DIRECTORY": "/gone"}, "credential 'k' does not exist"),
        ("vault:at-key", {}, "there is no vault to read it from"),
        ("vault:", {}, "not the name of a secret"),
        ("vault:a/b", {}, "not the name of a secret"),
    ],
)
def test_reference_that_leads_nowhere_is_refused(
    tmp_path: Path, reference: str, environ: Mapping[str, str], reason: str
) -> None:
    assert reason in problems_of({"key": reference}, tmp_path, environ)["connections.a.config.key"]


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a directory"),
        (os.mkfifo, "is a named pipe"),
        (a_socket, "is a socket"),
        (lambda path: path.symlink_to(path), "leads back to itself"),
        (lambda path: path.symlink_to("gone"), "symbolic link to a file that does not exist"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (lambda path: secret_file(path, ""), "is empty"),
        (lambda path: secret_file(path, "\n"), "is empty"),
        (lambda path: secret_file(path, b"\xff\xfe"), "is not UTF-8 text"),
        (lambda path: secret_file(path, "x" * (SECRET_LIMIT_BYTES + 1)), "larger than 64 KiB"),
    ],
)
def test_reference_to_an_unusable_file_is_refused(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / "key")

    found = problems_of({"key": "file:key"}, tmp_path)["connections.a.config.key"]

    assert found.startswith(f"file '{tmp_path}/key' ")
    assert reason in found


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_reference_to_a_file_open_to_others_names_the_remedy(tmp_path: Path, mode: int) -> None:
    path = secret_file(tmp_path / "a key", mode=mode)

    found = problems_of({"key": "file:a key"}, tmp_path)["connections.a.config.key"]

    assert f"run: chmod o-rwx '{path}'" in found


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o660])
def test_reference_to_a_file_of_owner_and_group_is_read(tmp_path: Path, mode: int) -> None:
    secret_file(tmp_path / "key", mode=mode)

    assert resolved({"key": "file:key"}, tmp_path).secrets == {SECRET}


def test_config_nested_beyond_reason_is_refused(tmp_path: Path) -> None:
    config: dict[str, Any] = {}
    for _ in range(5000):
        config = {"k": config}

    (found,) = problems_of(config, tmp_path).values()

    assert found == "is nested more than 32 levels deep"


def test_references_report_every_problem_of_every_connection(tmp_path: Path) -> None:
    configs = {"a": {"x": "env:X", "y": ["file:y"]}, "b": {"ok": 1}, "c": {"z": "vault:z"}}
    settings = Settings(
        connections={
            name: ConnectionSettings(provider="http", config=config)
            for name, config in configs.items()
        }
    )

    with pytest.raises(RejectedConfigError) as caught:
        resolve_all(settings, tmp_path / "i.toml", {})

    assert caught.value.source == str(tmp_path / "i.toml")
    assert [problem.where for problem in caught.value.problems] == [
        "connections.a.config.x",
        "connections.a.config.y[0]",
        "connections.c.config.z",
    ]


def test_references_of_all_connections_are_resolved_by_name(tmp_path: Path) -> None:
    secret_file(tmp_path / "key")
    settings = Settings(
        connections={
            "a": ConnectionSettings(provider="http", config={"key": "file:key"}),
            "b": ConnectionSettings(provider="console"),
        }
    )

    found = resolve_all(settings, tmp_path / "i.toml", {})

    assert {name: config.values for name, config in found.items()} == {
        "a": {"key": SECRET},
        "b": {},
    }


# Values stay hidden


def test_resolved_config_repr_hides_its_values(tmp_path: Path) -> None:
    found = resolved({"key": "env:K"}, tmp_path, {"K": SECRET})

    assert SECRET not in repr(found)
    assert "env:K" in repr(found)


def test_problems_never_show_a_value(tmp_path: Path) -> None:
    secret_file(tmp_path / "open", mode=0o644)
    config = {"good": "env:K", "pasted": f"env:{SECRET}-key", "open": "file:open", "text": SECRET}

    with pytest.raises(RejectedConfigError) as caught:
        resolved(config, tmp_path, {"K": SECRET})

    assert len(caught.value.problems) == 2
    assert SECRET not in str(caught.value)
