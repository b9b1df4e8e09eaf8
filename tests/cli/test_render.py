"""How values look: cleaned, aligned, and with times that a person can read."""

import datetime as dt
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.cli.render import (
    Table,
    Times,
    clean,
    cleaned,
    cut,
    json_for_terminal,
    span,
    width,
)

NAIROBI = dt.timezone(dt.timedelta(hours=3), "EAT")
TIMES = Times(dt.datetime(2026, 1, 31, 12, 0, tzinfo=dt.UTC), NAIROBI)


@given(st.text())
def test_clean_leaves_nothing_that_steers_a_terminal(text: str) -> None:
    left = {unicodedata.category(each) for each in clean(text) if each not in "\u200c\u200d"}

    assert not left & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Habari, Wanjikũ 👋🏾", "Habari, Wanjikũ 👋🏾"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\x9b31mb", "a\\x9b31mb"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("a\u2066b\u2069", "a\\u2066b\\u2069"),
        ("a\u200db\u200cc", "a\u200db\u200cc"),
        ("a\u00a0b", "a\u00a0b"),
        ("a\ud800b", "a\\ud800b"),
    ],
)
def test_clean_writes_what_could_steer_a_terminal_as_escapes(text: str, shown: str) -> None:
    assert shown == clean(text)


def test_cleaned_reaches_every_text_of_a_json_value() -> None:
    value = {"a\x1b": ["b\x07", {"c": "d\u202e"}, 1, None, True]}

    assert cleaned(value) == {"a\\x1b": ["b\\x07", {"c": "d\\u202e"}, 1, None, True]}


@given(st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=5))
def test_json_for_terminal_means_the_same(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)

    shown = json_for_terminal(text)

    assert json.loads(shown) == value
    assert not set(shown) & set("\x7f\x80\x9b\x9f\u202e\u2066\u2028\ufeff")


@given(st.text(), st.integers(1, 40))
def test_cut_never_takes_more_than_its_room(text: str, room: int) -> None:
    assert width(cut(text, room)) <= max(room, 1)


def test_width_counts_columns_and_not_characters() -> None:
    assert width("日本") == 4
    assert width("e\u0301") == 1


def test_table_aligns_columns_and_cuts_only_the_last() -> None:
    table = Table(("ID", "NOTE"), room=30)

    lines = list(table.lines([("a-long-identifier", "x" * 50), ("日本", "y")]))

    assert lines[1] == f"a-long-identifier  {'x' * 19}…"
    assert lines[2] == f"日本{' ' * 13}  y"


def test_table_cuts_nothing_where_there_is_no_terminal() -> None:
    (_, line) = Table(("ID", "NOTE"), room=None).lines([("a", "x" * 500)])

    assert line.endswith("x" * 500)


def test_table_prints_its_header_once_over_all_batches() -> None:
    table = Table(("ID", "NOTE"), room=None)

    lines = [*table.lines([("a", "b")]), *table.lines([]), *table.lines([("ccc", "d")])]

    assert len(lines) == 3
    assert lines[2] == "ccc  d"


@pytest.mark.parametrize(
    ("stamp", "shown"),
    [
        ("2026-01-31T12:00:04.500Z", "15:00:04 EAT (in 4.5 s)"),
        ("2026-01-31T11:57:00Z", "14:57:00 EAT (3 min ago)"),
        ("2026-01-30T11:57:00Z", "30 Jan 14:57 EAT (24 h ago)"),
        ("2025-01-30T22:57:00Z", "31 Jan 2025 01:57 EAT (366 d ago)"),
        ("2026-01-31T12:00:00Z", "15:00:00 EAT (now)"),
        ("nonsense", "nonsense"),
        (None, "-"),
    ],
)
def test_times_are_short_local_and_relative(stamp: str | None, shown: str) -> None:
    assert TIMES.both(stamp) == shown


def test_times_inside_a_sentence_are_shown_in_local_time() -> None:
    told = "It is asked next at 2026-01-31T12:00:30.000Z."

    assert TIMES.localised(told) == "It is asked next at 15:00:30 EAT (in 30 s)."


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (0.0124, "12 ms"),
        (0.9999, "1 s"),
        (1.34, "1.3 s"),
        (31, "31 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7200, "2 h"),
        (72 * 3600, "3 d"),
    ],
)
def test_span_takes_the_unit_that_suits_it(seconds: float, shown: str) -> None:
    assert span(seconds) == shown
