"""A machine that loses its link loses nothing else; here the kernel itself knows no way out."""

import tempfile
from pathlib import Path

import pytest
from tests.faults.link_world import CALLS
from tests.faults.namespace import run_inside, skip_without

SOON_S = 5.0


@pytest.mark.timeout(150)
def test_outage_costs_nothing_and_ends_within_seconds_over_a_kill() -> None:
    skip_without()
    with tempfile.TemporaryDirectory(prefix="idlink") as made:
        seen = run_inside("tests.faults.link_world", Path(made), {}, timeout_s=140)

    assert seen["before"] == "up"
    for during in (seen["outage"], seen["after_kill"]):
        assert during["link"] == "down"
        assert "Network is unreachable" in during["why"]
        assert during["problems"][0].startswith("This machine's own link has been down since 20")
        assert during["breakers"] == ["closed"]
        assert during["states"] == {"pending": CALLS}
        assert during["spent"] == 0
        assert during["told"].endswith("It goes as soon as that is back.")
    assert 0 < seen["first_s"] <= SOON_S
    assert seen["asked"] == {f"during-{number}": 1 for number in range(CALLS)}
    assert seen["end"]["problems"] == []
    assert seen["events"] == ["link.down", "link.up"]
    assert seen["stopped"] == 0
