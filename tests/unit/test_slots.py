"""Slots: never more than there are, and everybody's turn comes."""

from hypothesis import given
from hypothesis import strategies as st

from integrationd.delivery.slots import Slots


class Waiting:
    """Counts how often it was woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def test_who_finds_none_free_is_woken_by_the_next_release() -> None:
    slots, one, other = Slots(1), Waiting(), Waiting()
    assert slots.reserve(one, 5) == 1
    assert slots.reserve(other, 5) == 0
    assert slots.has_waiting(other)

    slots.release()

    assert (one.woken, other.woken) == (0, 1)
    assert slots.reserve(other, 5) == 1
    assert not slots.has_waiting(other)


def test_who_comes_later_does_not_overtake_who_waits() -> None:
    slots, one, other = Slots(1), Waiting(), Waiting()
    slots.reserve(one, 1)
    slots.reserve(other, 1)
    slots.release()

    assert slots.reserve(one, 1) == 0
    assert slots.reserve(other, 1) == 1

    slots.release()

    assert slots.reserve(one, 1) == 1


def test_who_leaves_lets_the_next_one_ask() -> None:
    slots, one, other, third = Slots(1), Waiting(), Waiting(), Waiting()
    slots.reserve(one, 1)
    slots.reserve(other, 1)
    slots.reserve(third, 1)
    slots.release()
    assert third.woken == 0

    assert slots.reserve(other, 0) == 0

    assert third.woken == 1
    assert slots.reserve(third, 1) == 1


def test_greedy_one_leaves_a_slot_to_each_that_waits() -> None:
    slots, greedy, other = Slots(4), Waiting(), Waiting()
    slots.reserve(greedy, 4)
    slots.reserve(other, 2)
    slots.release(4)

    assert slots.reserve(greedy, 4) == 3
    assert slots.reserve(other, 2) == 1


def test_lower_limit_holds_as_attempts_end_and_a_higher_one_wakes() -> None:
    slots, one = Slots(3), Waiting()
    slots.reserve(one, 3)
    slots.resize(1)
    slots.release(2)
    assert slots.reserve(one, 1) == 0

    slots.resize(2)

    assert one.woken == 1
    assert slots.reserve(one, 1) == 1


STEPS = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from(["reserve", "release", "leave"]), st.integers(1, 4)
    ),
    max_size=60,
)


@given(limit=st.integers(1, 5), steps=STEPS)
def test_never_more_than_there_are_and_whoever_waits_is_served_in_turn(
    limit: int, steps: list[tuple[int, str, int]]
) -> None:
    slots, who = Slots(limit), [Waiting() for _ in range(4)]
    held = [0] * 4
    queue: list[int] = []
    for number, step, count in steps:
        if step == "reserve":
            got = slots.reserve(who[number], count)
            held[number] += got
            if got:
                ahead = queue[: queue.index(number)] if number in queue else queue
                assert slots.free >= len(ahead)
                queue = [one for one in queue if one != number]
            elif number not in queue:
                queue.append(number)
        elif step == "release":
            back = min(count, held[number])
            held[number] -= back
            slots.release(back)
        else:
            slots.leave(who[number])
            queue = [one for one in queue if one != number]
        assert sum(held) + slots.free == limit
        assert slots.free >= 0
    for number in [*queue]:
        # Whoever was woken and asks, in whatever state the rest is, is served when all is free.
        for one, _ in enumerate(held):
            slots.release(held[one])
            held[one] = 0
        got = slots.reserve(who[number], 1)
        assert got == 1
        held[number] += got
