"""Every hostile input of the catalogue, over both sockets: refused in clear words, at no cost."""

import pytest
from tests.hostile.bodies import BODY_ATTACKS
from tests.hostile.catalogue import Attack, Families
from tests.hostile.framing import FRAMING_ATTACKS
from tests.hostile.headers import HEADER_ATTACKS
from tests.hostile.target import Target
from tests.hostile.values import VALUE_ATTACKS
from tests.hostile.wire import Over

FAMILIES: Families = {**BODY_ATTACKS, **FRAMING_ATTACKS, **HEADER_ATTACKS, **VALUE_ATTACKS}
FEWEST = 100


def test_catalogue_is_large_and_repeats_nothing() -> None:
    sent = [attack.sent for attacks in FAMILIES.values() for attack in attacks]

    assert len(set(sent)) >= FEWEST
    assert len(set(sent)) == len(sent)


@pytest.mark.parametrize("attacks", FAMILIES.values(), ids=FAMILIES)
def test_family_is_refused_and_leaves_no_mark(
    unharmed: Target, over: Over, attacks: list[Attack]
) -> None:
    faults = [fault for attack in attacks if (fault := unharmed.strike(attack, over))]

    assert not faults


def test_keys_never_reach_the_log(unharmed: Target, over: Over) -> None:
    before = unharmed.mark()
    key = unharmed.daemon.journal.with_name("api.key").read_text().strip()

    for attack in FAMILIES["keys"]:
        unharmed.strike(attack, over)

    assert key not in unharmed.log_since(before)
