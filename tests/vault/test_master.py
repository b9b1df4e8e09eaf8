"""The master key: where it is read, what is refused, and how its file is replaced."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from integrationd.errors import MasterKeyError, VaultError
from integrationd.vault import (
    DataKey,
    Keyring,
    MasterFile,
    MasterKey,
    MasterSource,
    new_key,
    read_master_key,
)

HEX = "00112233445566778899aabbccddeeff" * 2


def a_file(path: Path, text: str = HEX, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return f"file:{path}"


def a_key(label: str = "a key") -> MasterKey:
    return MasterKey(new_key(), label)


def test_master_key_is_the_same_wherever_it_stands(tmp_path: Path) -> None:
    a_file(tmp_path / "master", mode=0o440)
    environ = {"MASTER": f" {HEX.upper()}\n", "CREDENTIALS_DIRECTORY": str(tmp_path)}

    found = [
        read_master_key(reference, environ).key
        for reference in (a_file(tmp_path / "key"), "env:MASTER", "credential:master")
    ]

    assert found == [bytes.fromhex(HEX)] * 3


def test_master_key_is_never_shown() -> None:
    key = MasterKey(bytes.fromhex(HEX), "the key")

    assert HEX[:8] not in f"{key!r}{key.id}"
    assert repr(bytes.fromhex(HEX)) not in repr(key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o666, 0o602])
def test_key_file_that_others_can_read_names_the_remedy(tmp_path: Path, mode: int) -> None:
    reference = a_file(tmp_path / "key", mode=mode)

    with pytest.raises(MasterKeyError, match=f"open to others \\(mode {mode:04o}\\)") as caught:
        read_master_key(reference, {})

    assert f"chmod 600 {tmp_path}/key" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "0 characters were found"),
        (HEX[:-2], "62 characters were found"),
        (HEX + "00", "66 characters were found"),
        ("g" * 64, "64 hexadecimal digits are expected"),
        ("é" * 64, "64 hexadecimal digits are expected"),
        ("00" * 32, "one byte repeated"),
        ("7f" * 32, "one byte repeated"),
    ],
)
def test_key_file_without_a_key_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(MasterKeyError, match=told) as caught:
        read_master_key(a_file(tmp_path / "key", text), {})

    assert not text or text not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "is missing"),
        (lambda path: path.mkdir(), "is not a regular file"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
)
def test_key_file_that_is_none_is_refused(
    tmp_path: Path, make: Callable[[Path], object], told: str
) -> None:
    make(tmp_path / "key")

    with pytest.raises(MasterKeyError, match=told) as caught:
        read_master_key(f"file:{tmp_path}/key", {})

    assert str(tmp_path / "key") in str(caught.value)
    assert caught.value.is_missing == (told == "is missing")


@pytest.mark.parametrize("reference", ["env:GONE", "credential:gone"])
def test_key_of_another_process_is_told_as_being_elsewhere(reference: str) -> None:
    with pytest.raises(MasterKeyError, match="is missing") as caught:
        read_master_key(reference, {})

    assert caught.value.is_elsewhere


def test_made_key_file_is_its_owners_alone_and_never_replaced(tmp_path: Path) -> None:
    file = MasterFile(tmp_path / "deep" / "master.key")

    made = file.make()

    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.read() == made
    assert [one.name for one in file.path.parent.iterdir()] == ["master.key"]
    with pytest.raises(MasterKeyError, match="there is a file"):
        file.make()
    assert file.read() == made


@pytest.mark.parametrize("reference", ["env:MASTER", "credential:master"])
def test_key_outside_of_a_file_is_not_made(reference: str) -> None:
    with pytest.raises(MasterKeyError) as caught:
        MasterSource(reference, None, {}).make()

    assert "openssl rand -hex 32" in caught.value.hint


def test_replacement_takes_its_place_once_only_it_is_used(tmp_path: Path) -> None:
    file = MasterFile(tmp_path / "master.key")
    old, following = file.make(), file.make_next()

    file.settle({old.id, following.id})
    assert (file.read(), file.read_next()) == (old, following)
    file.settle({following.id})

    assert (file.read(), file.read_next()) == (following, None)
    assert MasterFile(file.kept(old)).read() == old


def test_replacement_that_was_never_used_is_put_aside(tmp_path: Path) -> None:
    file = MasterFile(tmp_path / "master.key")
    old, following = file.make(), file.make_next()

    file.settle({old.id})

    assert (file.read(), file.read_next()) == (old, None)
    assert MasterFile(file.kept(following)).read() == following


def test_replacement_cut_off_in_the_middle_of_its_last_step_is_ended(tmp_path: Path) -> None:
    file = MasterFile(tmp_path / "master.key")
    old, following = file.make(), file.make_next()
    os.link(file.path, file.kept(old))

    file.settle({following.id})

    assert (file.read(), file.read_next()) == (following, None)
    assert MasterFile(file.kept(old)).read() == old


def test_keyring_opens_what_any_of_its_masters_has_wrapped() -> None:
    old, new = a_key(), a_key()
    data_key = Keyring(old).new_data_key("default", 1)
    both = Keyring(new, [old])

    again = both.rewrapped(data_key)

    assert again.master == new.id
    assert Keyring(new).open(again) == Keyring(old).open(data_key) == both.open(data_key)


def test_keyring_without_the_master_names_the_row_and_the_file_to_look_for() -> None:
    old, new = a_key(), a_key("the master key file k")
    data_key = Keyring(old).new_data_key("school", 3)

    with pytest.raises(MasterKeyError) as caught:
        Keyring(new).open(data_key)

    assert "the data key of tenant 'school' (generation 3)" in str(caught.value)
    assert f"the master key file k is {new.id}" in str(caught.value)
    assert f"{old.id}.old" in caught.value.hint


def test_data_key_moved_to_another_row_does_not_open() -> None:
    keyring = Keyring(a_key())
    made = keyring.new_data_key("school", 1)

    for moved in (
        DataKey("shop", 1, made.master, made.wrapped),
        DataKey("school", 2, made.master, made.wrapped),
    ):
        with pytest.raises(VaultError, match="cannot be opened"):
            keyring.open(moved)
