"""The rule by which a connection is chosen, by itself."""

import random

import hypothesis.strategies as st
from hypothesis import given

from integrationd.delivery.choice import UNPLACED, Candidate, choose


def candidates() -> st.SearchStrategy[list[Candidate]]:
    places = st.one_of(
        st.just(UNPLACED), st.tuples(st.integers(min_value=0, max_value=1), st.integers(0, 3))
    )
    one = st.builds(
        Candidate,
        name=st.sampled_from("abcdefgh"),
        is_own=st.booleans(),
        place=places,
        is_primary=st.booleans(),
        is_paused=st.booleans(),
        is_leaving=st.booleans(),
    )
    return st.lists(one, max_size=8, unique_by=lambda each: each.name)


def by_name(found: list[Candidate]) -> dict[str, Candidate]:
    return {one.name: one for one in found}


def test_own_connection_goes_before_a_shared_one_whatever_its_place() -> None:
    shared = Candidate(name="shared", is_own=False, place=(0, 0), is_primary=True)
    own = Candidate(name="own", is_own=True)

    assert choose([shared, own]).serving == "own"


def test_place_goes_before_primary() -> None:
    second = Candidate(name="second", is_own=True, place=(1, 2), is_primary=True)
    first = Candidate(name="first", is_own=True, place=(1, 1))

    assert choose([second, first]).serving == "first"


def test_paused_connection_is_passed_over_for_the_next_of_the_same_owner() -> None:
    first = Candidate(name="first", is_own=True, place=(1, 1), is_paused=True)
    second = Candidate(name="second", is_own=True, place=(1, 2))

    assert choose([first, second]).serving == "second"


def test_calls_wait_for_a_paused_connection_rather_than_use_the_account_that_all_share() -> None:
    own = Candidate(name="own", is_own=True, is_paused=True)
    shared = Candidate(name="shared", is_own=False)

    choice = choose([own, shared], for_new_call=True)

    assert choice.serving is None
    assert choice.for_new_call == "own"


def test_pause_of_the_first_never_refuses_new_calls() -> None:
    """Those that are left may tie, but what calls wait for is known."""
    found = [
        Candidate(name="main", is_own=True, is_primary=True, is_paused=True),
        Candidate(name="b", is_own=True),
        Candidate(name="c", is_own=True),
    ]

    assert choose(found, for_new_call=True).for_new_call == "main"


def test_leaving_connection_takes_no_new_call_but_ends_what_only_it_can() -> None:
    leaving = Candidate(name="old", is_own=True, is_leaving=True)

    assert choose([leaving], for_new_call=True).for_new_call is None
    assert choose([leaving]).serving == "old"
    assert choose([leaving, Candidate(name="new", is_own=True)]).serving == "new"


@given(candidates())
def test_what_serves_is_never_paused(found: list[Candidate]) -> None:
    serving = choose(found).serving

    assert serving is None or not by_name(found)[serving].is_paused


@given(candidates())
def test_shared_connection_serves_only_where_there_is_no_own_one_that_stays(
    found: list[Candidate],
) -> None:
    serving = choose(found).serving
    staying = [one for one in found if not one.is_leaving]

    if serving is not None and not by_name(found)[serving].is_own:
        assert not any(one.is_own for one in staying or found)


@given(candidates())
def test_what_serves_has_nobody_beside_it_in_its_place(found: list[Candidate]) -> None:
    serving = choose(found).serving
    if serving is None:
        return
    chosen = by_name(found)[serving]
    rivals = [
        one
        for one in found
        if one.is_own is chosen.is_own
        and one.is_leaving is chosen.is_leaving
        and not one.is_paused
        and (one.place, not one.is_primary) <= (chosen.place, not chosen.is_primary)
    ]

    assert rivals == [chosen]


@given(candidates())
def test_pausing_never_takes_the_connection_of_new_calls_away(found: list[Candidate]) -> None:
    """A call that is accepted while nothing is paused is accepted while something is."""
    unpaused = [
        Candidate(
            name=one.name,
            is_own=one.is_own,
            place=one.place,
            is_primary=one.is_primary,
            is_leaving=one.is_leaving,
        )
        for one in found
    ]

    if choose(unpaused, for_new_call=True).for_new_call is not None:
        assert choose(found, for_new_call=True).for_new_call is not None


@given(candidates(), st.randoms(use_true_random=False))
def test_order_in_which_connections_are_known_makes_no_difference(
    found: list[Candidate], rng: random.Random
) -> None:
    shuffled = list(found)
    rng.shuffle(shuffled)

    assert choose(shuffled).serving == choose(found).serving
