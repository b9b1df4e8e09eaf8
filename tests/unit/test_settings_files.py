"""Files that are no configuration, and how the right one is found."""

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.settings_cases import problems_of, written

from integrationd.errors import ConfigError
from integrationd.settings import (
    Problem,
    RejectedConfigError,
    Settings,
    find_config,
    load,
)
from integrationd.settings.load import FILE_LIMIT_BYTES

# Hostile files


@pytest.mark.parametrize(
    ("content", "where", "reason"),
    [
        ("[api]\nlisten 3", "line 2, column 8", "key/value pair: listen 3"),
        ("[api]\n[api]", "line 2, column 5", "twice"),
        ("a = 1\na = 2", "line 2, column 6", "Cannot overwrite a value"),
        ("[log]\nlevel = 2020-13-01", "line 2, column 13", "after a statement"),
        ("[log]\nlevel = no", "line 2, column 9", "Invalid value: level = no"),
        ("[delivery]\nattempts = 010", "line 2, column 13", "attempts = 010"),
        ("a = [1,\n", "line 2, column 1", "Invalid value"),
        (b"\xef\xbb\xbf[api]", "line 1, column 1", "byte order mark"),
        ("[api]".encode("utf-16"), "line 1, column 1", "byte order mark"),
        (b"# ok\n# \xe9", "line 2, column 3", "byte 0xe9 is not UTF-8"),
        ("a = 1\n\0", "line 2, column 1", "NUL"),
        ("[api]\rx = 1", "line 1, column 6", "LF line ends"),
        ("# \u202e", "line 1, column 3", "U+202E"),
        ("a." * 32 + "a = 1", "line 1, column 1", "more than 32 parts"),
        ("x = { " + '"a" . ' * 32 + "a = 1 }", "line 1, column 7", "more than 32 parts"),
    ],
)
def test_config_file_with_broken_text_is_refused_by_its_line(
    tmp_path: Path, content: str | bytes, where: str, reason: str
) -> None:
    assert reason in problems_of(tmp_path, content)[where]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("x = " + "[" * 20_000, "nested too deeply"),
        ("x = " + "{a = " * 20_000, "nested too deeply"),
        ("x = " + "9" * 5000, "too many digits"),
        (" " * (FILE_LIMIT_BYTES + 1), "is larger than 1024 KiB"),
    ],
)
def test_config_file_beyond_a_limit_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    (found,) = problems_of(tmp_path, content).values()

    assert reason in found


@pytest.mark.parametrize(
    "content",
    [
        "[connections.a]\ntoken = hunter2",
        '[connections.a]\ntoken = "hunter2',
        "[connections.a]\nconfig = { token = [\n[hunter2",
        '[connections.a]\ntoken = """\nhunter2\\q"""',
        'connections.a.token = "hunter2',
        "[unknown]\ntoken = hunter2",
    ],
)
def test_config_file_with_broken_text_shows_no_secret(tmp_path: Path, content: str) -> None:
    (found,) = problems_of(tmp_path, content).values()

    assert "hunter2" not in found


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a directory, not a file"),
        (os.mkfifo, "is a named pipe, not a file"),
        (a_socket, "is a socket or a device, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
        (lambda path: path.symlink_to("/proc/self/mem"), "cannot be read: input/output error"),
        (lambda path: path.symlink_to(path), "is a symbolic link that leads back to itself"),
        (lambda path: path.symlink_to("gone"), "is a symbolic link to a file that does not exist"),
    ],
)
def test_config_file_that_is_no_file_is_refused(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "c.toml"
    make(path)

    with pytest.raises(RejectedConfigError) as caught:
        load(path, {})

    assert caught.value.problems == (Problem(str(path), reason),)


def test_config_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")

    with pytest.raises(RejectedConfigError, match="may not be read"):
        load(path, {})


@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_config_file_of_any_bytes_is_loaded_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = written(tmp_path_factory.getbasetemp(), content)

    with contextlib.suppress(RejectedConfigError):
        assert load(path, {}) == Settings()


# Finding the file


def test_find_config_takes_the_first_that_is_named_or_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    system = tmp_path / "etc.toml"
    named = {"INTEGRATIOND_CONFIG": "named.toml"}

    system.touch()
    assert find_config(None, {}, system_path=system) == system
    Path("integrationd.toml").symlink_to("gone")
    assert find_config(None, {}, system_path=system) == Path("integrationd.toml")
    assert find_config(None, named, system_path=system) == Path("named.toml")
    assert find_config(Path("x.toml"), named, system_path=system) == Path("x.toml")


def test_find_config_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError) as caught:
        find_config(None, {"INTEGRATIOND_CONFIG": ""}, system_path=tmp_path / "etc.toml")

    for place in ("--config", "INTEGRATIOND_CONFIG", "integrationd.toml", "etc.toml"):
        assert place in str(caught.value)
