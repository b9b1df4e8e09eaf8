"""The room of a disk: where its marks are, and how one comes back over them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fake_clock import FakeClock

from integrationd.journal.room import (
    UNWATCHED,
    Level,
    Room,
    RoomWatch,
    Watermarks,
    level,
    read_room,
)

MIB = 1024**2
GIB = 1024**3
MARKS = Watermarks(1000, 300)

sizes = st.integers(0, 2**50)
chosen = st.none() | sizes
levels = st.sampled_from(Level)


def level_of(free: int, before: Level = Level.AMPLE, marks: Watermarks = MARKS) -> Level:
    return level(Room(free, 10_000), marks, before)


@pytest.mark.parametrize(
    ("high", "critical", "total", "expected"),
    [
        (None, None, 100 * GIB, (256 * MIB, 64 * MIB)),
        (None, None, 600 * MIB, (60 * MIB, 20 * MIB)),
        (5 * GIB, None, 100 * GIB, (5 * GIB, 64 * MIB)),
        (10 * MIB, None, 100 * GIB, (10 * MIB, 10 * MIB)),
        (None, GIB, 100 * GIB, (GIB, GIB)),
        (0, None, 100 * GIB, (0, 64 * MIB)),
        (None, 0, 100 * GIB, (256 * MIB, 0)),
        (0, 0, 100 * GIB, (0, 0)),
        (7, 3, 100 * GIB, (7, 3)),
    ],
)
def test_marks_that_nobody_chose_follow_the_disk_and_the_other_mark(
    high: int | None, critical: int | None, total: int, expected: tuple[int, int]
) -> None:
    assert Watermarks(high, critical).on(total) == expected


@given(high=chosen, critical=chosen, total=sizes)
def test_critical_mark_is_over_the_high_one_only_by_choice(
    high: int | None, critical: int | None, total: int
) -> None:
    found_high, found_critical = Watermarks(high, critical).on(total)

    assert found_critical <= found_high or high == 0 or None not in (high, critical)


@pytest.mark.parametrize(
    ("free", "before", "expected"),
    [
        (1000, Level.AMPLE, Level.AMPLE),
        (999, Level.AMPLE, Level.HIGH),
        (1000, Level.HIGH, Level.HIGH),
        (1099, Level.HIGH, Level.HIGH),
        (1100, Level.HIGH, Level.AMPLE),
        (300, Level.HIGH, Level.HIGH),
        (299, Level.HIGH, Level.CRITICAL),
        (299, Level.AMPLE, Level.CRITICAL),
        (329, Level.CRITICAL, Level.CRITICAL),
        (330, Level.CRITICAL, Level.HIGH),
        (1099, Level.CRITICAL, Level.HIGH),
        (1100, Level.CRITICAL, Level.AMPLE),
        (0, Level.AMPLE, Level.CRITICAL),
    ],
)
def test_level_comes_back_only_with_a_tenth_more_than_the_mark(
    free: int, before: Level, expected: Level
) -> None:
    assert level_of(free, before) is expected


@given(free=sizes, before=levels, high=chosen, critical=chosen, total=sizes)
def test_level_stays_where_it_is_while_the_room_does(
    free: int, before: Level, high: int | None, critical: int | None, total: int
) -> None:
    room, marks = Room(free, total), Watermarks(high, critical)

    first = level(room, marks, before)

    assert level(room, marks, first) is first


@given(free=sizes, before=levels)
def test_level_of_an_unwatched_disk_is_ample(free: int, before: Level) -> None:
    assert level_of(free, before, UNWATCHED) is Level.AMPLE


@given(before=levels)
def test_level_of_a_disk_that_cannot_be_read_is_ample(before: Level) -> None:
    assert level(None, MARKS, before) is Level.AMPLE


def test_room_is_read_from_the_system(tmp_path: Path) -> None:
    room = read_room(tmp_path)

    assert room is not None
    assert 0 < room.free_bytes < room.total_bytes
    assert read_room(tmp_path / "missing") is None


def test_watch_is_due_again_a_second_after_a_look(tmp_path: Path) -> None:
    clock = FakeClock()
    watch = RoomWatch(tmp_path, MARKS, clock, lambda _directory: Room(5000, 10_000))
    assert watch.is_due

    watch.look()

    assert not watch.is_due


def test_watch_is_due_at_any_time_while_there_is_little_room(tmp_path: Path) -> None:
    watch = RoomWatch(tmp_path, MARKS, FakeClock(), lambda _directory: Room(500, 10_000))

    watch.look()

    assert watch.level is Level.HIGH
    assert watch.is_due


LOW = (
    "The journal's disk is low on room: 210.0 MiB of 10.0 GiB are free, under the mark of"
    " 256.0 MiB. New calls of low priority are refused."
)
SCARCE = (
    "The journal's disk has 60.0 MiB of 10.0 GiB free, and 64.0 MiB are kept for what was accepted."
    " All new calls are refused."
)


@pytest.mark.parametrize(
    ("room", "told"),
    [
        (Room(9000 * MIB, 10_000 * MIB), ""),
        (None, ""),
        (Room(210 * MIB, 10 * GIB), LOW),
        (Room(60 * MIB, 10 * GIB), SCARCE),
    ],
)
def test_watch_tells_a_person_what_is_free_and_what_is_refused(
    tmp_path: Path, room: Room | None, told: str
) -> None:
    watch = RoomWatch(tmp_path, Watermarks(), FakeClock(), lambda _directory: room)

    watch.look()

    assert watch.told() == told
