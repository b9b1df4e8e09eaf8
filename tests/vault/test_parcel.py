"""Export files: only the passphrase opens them, and nothing of them can be changed."""

import random

import pytest

from integrationd.errors import VaultError
from integrationd.vault import ExportedSecret, pack, unpack

PASSPHRASE = "correct horse battery"
SECRETS = [
    ExportedSecret(tenant="default", name="a", value="canary-é-1"),
    ExportedSecret(tenant="default", name="b", value="canary-2\n"),
]


def test_export_opens_with_its_passphrase() -> None:
    content = pack(SECRETS, PASSPHRASE, cost=10)

    assert unpack(content, PASSPHRASE) == SECRETS
    assert b"canary" not in content


def test_export_costs_whoever_guesses_64_mib_at_a_time() -> None:
    content = pack(SECRETS, PASSPHRASE)

    assert (content[8], content[9], content[10]) == (16, 8, 2)
    assert unpack(content, PASSPHRASE) == SECRETS


def test_export_does_not_open_with_another_passphrase() -> None:
    with pytest.raises(VaultError, match="the passphrase is another"):
        unpack(pack(SECRETS, PASSPHRASE, cost=4), PASSPHRASE + " ")


def test_export_refuses_a_short_passphrase() -> None:
    with pytest.raises(VaultError, match="under 12 characters"):
        pack(SECRETS, "short")


def test_export_that_was_changed_or_cut_off_does_not_open() -> None:
    content = pack(SECRETS, PASSPHRASE, cost=2)
    rng = random.Random(3)

    for at in range(len(content)):
        if at in (8, 10):
            # The cost and the passes, tried below: they would only take longer here.
            continue
        changed = bytearray(content)
        changed[at] ^= rng.randrange(1, 256)
        with pytest.raises(VaultError):
            unpack(bytes(changed), PASSPHRASE)
    for length in range(0, len(content), 7):
        with pytest.raises(VaultError):
            unpack(content[:length], PASSPHRASE)


@pytest.mark.parametrize(("at", "value"), [(8, 0), (8, 19), (8, 255), (9, 255), (10, 0), (10, 99)])
def test_export_cannot_ask_for_endless_work(at: int, value: int) -> None:
    content = bytearray(pack(SECRETS, PASSPHRASE, cost=2))
    content[at] = value

    with pytest.raises(VaultError, match="more than scrypt is given"):
        unpack(bytes(content), PASSPHRASE)


def test_export_shows_no_value_of_its_secrets() -> None:
    assert "canary" not in repr(SECRETS)
