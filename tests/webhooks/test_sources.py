"""Where a webhook comes from cannot be made up, and no source comes too often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fake_clock import FakeClock

from integrationd.webhooks.sources import Networks, Pace, source_of

PROXY = Networks(["10.0.0.1", "10.0.1.0/24", "::1"])
NOBODY = Networks([])


@pytest.mark.parametrize(
    ("peer", "forwarded", "source"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["196.201.214.200"], "203.0.113.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["196.201.214.200"], "196.201.214.200"),
        ("::1", ["196.201.214.200"], "196.201.214.200"),
        ("::ffff:10.0.0.1", ["196.201.214.200"], "196.201.214.200"),
        ("10.0.0.1", ["::ffff:196.201.214.200"], "196.201.214.200"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["[2001:db8::7]"], "2001:db8::7"),
        # What the client wrote stands before what our proxy has appended.
        ("10.0.0.1", ["196.201.214.200, 203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["196.201.214.200", "203.0.113.7"], "203.0.113.7"),
        # Two proxies of ours in a row.
        ("10.0.0.1", ["196.201.214.200, 10.0.1.9"], "196.201.214.200"),
        ("10.0.0.1", ["10.0.1.8, 10.0.1.9"], "10.0.1.8"),
        # What is no address ends the chain at the last that is known.
        ("10.0.0.1", ["196.201.214.200, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["196.201.214.200, "], "10.0.0.1"),
        ("10.0.0.1", ["196.201.214.200:443"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("", ["196.201.214.200"], ""),
    ],
)
def test_source_is_what_trusted_proxies_say(peer: str, forwarded: list[str], source: str) -> None:
    assert source_of(peer, forwarded, PROXY) == source


@given(st.lists(st.text()))
def test_untrusted_peer_cannot_choose_its_source(forwarded: list[str]) -> None:
    assert source_of("203.0.113.7", forwarded, PROXY) == "203.0.113.7"
    assert source_of("10.0.0.1", forwarded, NOBODY) == "10.0.0.1"


@given(st.lists(st.text()))
def test_whatever_is_forwarded_the_last_word_is_the_proxys(forwarded: list[str]) -> None:
    assert source_of("10.0.0.1", [*forwarded, "203.0.113.7"], PROXY) == "203.0.113.7"


def test_long_chain_costs_no_time() -> None:
    chain = ",".join(["10.0.1.9"] * 100_000)

    assert source_of("10.0.0.1", [chain], PROXY) == "10.0.1.9"


@pytest.mark.parametrize(
    ("address", "is_held"),
    [
        ("196.201.214.200", True),
        ("::ffff:196.201.214.200", True),
        ("196.201.213.200", False),
        ("2001:db8::1", True),
        ("", False),
        ("nowhere", False),
        ("196.201.214.200 ", False),
    ],
)
def test_networks_hold_addresses(address: str, is_held: bool) -> None:
    assert Networks(["196.201.214.0/24", "2001:db8::/32"]).holds(address) is is_held


async def test_source_may_come_so_often_and_again_after_a_rest() -> None:
    clock = FakeClock()
    pace = Pace(clock, 2.0, 5)

    assert [pace.admits("a") for _ in range(7)] == [True] * 5 + [False] * 2
    await clock.advance(1.0)
    assert [pace.admits("a") for _ in range(3)] == [True, True, False]
    await clock.advance(60.0)
    assert [pace.admits("a") for _ in range(6)] == [True] * 5 + [False]


def test_one_source_takes_nothing_from_another() -> None:
    pace = Pace(FakeClock(), 1.0, 1)

    assert pace.admits("a")
    assert not pace.admits("a")
    assert pace.admits("b")


def test_any_number_of_sources_takes_little_memory() -> None:
    pace = Pace(FakeClock(), 1.0, 1)

    for number in range(25_000):
        pace.admits(str(number))

    assert len(pace._due) == 10_000
