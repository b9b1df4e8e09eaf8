"""The payload of ``send``: what was written is what is sent."""

import json
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.cli.payload import read_payload

KEYS = st.from_regex(r"[a-z_][a-z0-9_.-]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def payload(*items: str) -> bytes:
    return bytes(read_payload(items))


@given(st.dictionaries(KEYS, TEXTS))
def test_pairs_become_the_members_of_an_object(members: dict[str, str]) -> None:
    items = [f"{key}={value}" for key, value in members.items()]

    assert json.loads(payload(*items)) == members


def test_pairs_with_a_colon_hold_json() -> None:
    assert payload("a:=1.10", "b:=[true]", "c=1") == b'{"a":1.10,"b":[true],"c":"1"}'


def test_texts_may_hold_equals_signs_colons_and_lines() -> None:
    assert json.loads(payload("url=https://x.example/?a:=b", "m=one\ntwo")) == {
        "url": "https://x.example/?a:=b",
        "m": "one\ntwo",
    }


def test_json_is_sent_as_it_was_written() -> None:
    written = ' {"amount": 1.10, "big": 123456789012345678901234567890} '

    assert payload(written) == written.encode()


def test_pairs_are_added_to_json_without_touching_its_numbers() -> None:
    assert payload('{"amount": 1.10}', "to=x") == b'{"amount":1.10,"to":"x"}'


def test_no_arguments_are_an_empty_object() -> None:
    assert payload() == b"{}"


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(b'\xef\xbb\xbf{"a": 1}\n')

    assert payload(f"@{tmp_path}/p.json") == b'{"a": 1}\n'


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (["{"], "the payload is not valid JSON"),
        (["[1]"], "the payload must be a JSON object"),
        (["nonsense"], "neither JSON in braces"),
        (["=x"], "neither JSON in braces"),
        (["a:=x"], "the value of 'a' is not valid JSON"),
        (["a=1", "a=2"], "the payload has 'a' twice"),
        (['{"a": 1}', "a=2"], "the payload has 'a' twice"),
        (["{}", "{}"], "give one payload"),
        (["@/nowhere/p.json"], "cannot be read: no such file"),
        (["@/"], "cannot be read: is a directory"),
        (["@/dev/zero"], "holds more than 1 MiB"),
        (["a=\udcff"], "not UTF-8"),
        (["\udcff=a"], "not UTF-8"),
        (['{"a": "\udcff"}'], "not UTF-8"),
        (['{"a":' * 100_000], "not valid JSON"),
        (["a:=" + "[" * 100_000], "not valid JSON"),
    ],
)
def test_what_is_no_payload_is_refused_with_its_reason(items: list[str], reason: str) -> None:
    with pytest.raises(click.UsageError, match=reason):
        read_payload(items)
