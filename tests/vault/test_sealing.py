"""Sealing: what was changed, moved, cut off or sealed under another key opens nowhere."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.errors import VaultError
from integrationd.vault import Identity, new_key, seal, unseal

KEY = bytes(range(32))
ROW = Identity("secret", "default", "at-key", 7)
PLAIN = b"atsk_0123456789abcdef"

identities = st.builds(
    Identity,
    st.sampled_from(["secret", "data key"]),
    st.text(max_size=12),
    st.text(max_size=12),
    st.integers(min_value=1, max_value=2**63),
)


def opens(key: bytes, identity: Identity, sealed: bytes) -> bool:
    try:
        unseal(key, identity, sealed)
    except VaultError as error:
        told = str(error)
    else:
        return True
    assert str(identity) in told
    return False


@given(identities, st.binary(max_size=200))
def test_what_was_sealed_for_a_row_opens_in_it(identity: Identity, plain: bytes) -> None:
    assert unseal(KEY, identity, seal(KEY, identity, plain)) == plain


@given(identities, identities)
def test_what_was_sealed_for_a_row_opens_in_no_other(one: Identity, other: Identity) -> None:
    assert opens(KEY, other, seal(KEY, one, PLAIN)) == (one == other)


def test_identities_whose_texts_run_together_are_told_apart() -> None:
    one, other = Identity("secret", "ab", "c", 1), Identity("secret", "a", "bc", 1)

    assert one.associated() != other.associated()


def test_no_flipped_bit_opens() -> None:
    sealed = seal(KEY, ROW, PLAIN)

    for at in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[at] ^= 1 << bit
            assert not opens(KEY, ROW, bytes(changed)), (at, bit)


def test_nothing_cut_off_or_made_longer_opens() -> None:
    sealed = seal(KEY, ROW, PLAIN)

    assert not any(opens(KEY, ROW, sealed[:length]) for length in range(len(sealed)))
    assert not any(opens(KEY, ROW, sealed[length:]) for length in range(1, len(sealed)))
    assert not opens(KEY, ROW, sealed + b"\0")


def test_no_random_change_opens() -> None:
    rng = random.Random(5)
    sealed = [seal(KEY, Identity("secret", "t", f"n{at}", at + 1), PLAIN) for at in range(50)]

    for _ in range(20_000):
        at, other = rng.sample(range(50), 2)
        kind = rng.randrange(3)
        changed = bytearray(sealed[at])
        if kind == 0:
            changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
        elif kind == 1:
            changed = changed[: rng.randrange(len(changed))]
        else:
            cut = rng.randrange(13, len(changed) + 1)
            changed[:cut] = sealed[other][:cut]
        assert not opens(KEY, Identity("secret", "t", f"n{at}", at + 1), bytes(changed))


def test_another_key_opens_nothing() -> None:
    assert not opens(new_key(), ROW, seal(KEY, ROW, PLAIN))


def test_a_newer_format_is_told_as_such() -> None:
    sealed = b"\x02" + seal(KEY, ROW, PLAIN)[1:]

    with pytest.raises(VaultError, match="its format 2 is not known") as caught:
        unseal(KEY, ROW, sealed)

    assert "'at-key'" in str(caught.value)


def test_nonces_are_never_the_same() -> None:
    nonces = {seal(KEY, ROW, b"")[1:13] for _ in range(50_000)}

    assert len(nonces) == 50_000
