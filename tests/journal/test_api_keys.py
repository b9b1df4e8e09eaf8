"""API keys in the journal: kept by their digest, rotated and revoked, never served damaged."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.fake_clock import START_MS, FakeClock
from tests.journal.cases import KEY, opened, raw

from integrationd.errors import ConflictError, DamagedError, NotFoundError
from integrationd.journal import Journal, NewApiKey, api_keys
from integrationd.journal.salvage import salvage
from integrationd.journal.verify import verify

BY = "uid:1000"
DAMAGE = "UPDATE api_key SET COLUMN = ? WHERE name = 'app-1'"
SECRET = b"idk_0000000000000001_the-secret-part"


def key(number: int = 1, **changes: Any) -> NewApiKey:
    usual: dict[str, Any] = {
        "id": f"{number:016x}",
        "name": f"app-{number}",
        "tenant": None,
        "role": "staff",
        "digest": hashlib.sha256(SECRET).digest(),
        "created_at_ms": START_MS,
    }
    return NewApiKey(**{**usual, **changes})


async def events(journal: Journal) -> list[tuple[str, str | None, Any]]:
    found = await journal.events.after(0, 100)
    return [(one.type, one.tenant, json.loads(one.data)) for one in found]


async def test_key_comes_back_after_a_restart_as_it_was_kept(path: Path) -> None:
    async with opened(path) as journal:
        kept = await journal.api_keys.add(key(tenant="default", expires_at_ms=START_MS + 5), BY)

    async with opened(path) as journal:
        assert list((await journal.api_keys.at_hand()).keys) == [kept]
        assert list(await journal.api_keys.list(None, before=None, limit=5)) == [kept]

    assert kept.expires_at_ms == START_MS + 5
    assert SECRET not in path.read_bytes()


async def test_every_act_is_one_event_that_says_who(journal: Journal) -> None:
    await journal.api_keys.add(key(tenant="default"), BY)
    await journal.api_keys.rotate(key(1).id, key(2), within=None, grace_ms=10, by="key:boss")
    for _ in range(2):
        await journal.api_keys.revoke(key(2).id, within=None, by=BY, now_ms=START_MS + 1)

    told = {"name": "app-1", "role": "staff"}
    assert await events(journal) == [
        ("key.created", "default", {"by": BY, "key": key(1).id, **told}),
        (
            "key.rotated",
            "default",
            {"by": "key:boss", "key": key(2).id, "replaces": key(1).id, **told},
        ),
        ("key.revoked", "default", {"by": BY, "key": key(2).id, **told}),
    ]


async def test_name_is_free_again_only_when_its_key_is_revoked(journal: Journal) -> None:
    await journal.api_keys.add(key(), BY)
    with pytest.raises(ConflictError, match=key().id) as refused:
        await journal.api_keys.add(key(2, name="app-1"), BY)
    assert refused.value.error_code == "name_taken"

    await journal.api_keys.rotate(key().id, key(3), within=None, grace_ms=10, by=BY)
    with pytest.raises(ConflictError):
        await journal.api_keys.add(key(2, name="app-1"), BY)
    await journal.api_keys.revoke(key(3).id, within=None, by=BY, now_ms=START_MS)

    assert (await journal.api_keys.add(key(2, name="app-1"), BY)).name == "app-1"


async def test_rotated_key_hands_down_all_but_its_secret(journal: Journal) -> None:
    await journal.api_keys.add(key(tenant="default", expires_at_ms=START_MS + 1000), BY)
    fresh = key(2, name="", role="", digest=b"n" * 32, created_at_ms=START_MS + 700)

    old, new = await journal.api_keys.rotate(key().id, fresh, within=None, grace_ms=50, by=BY)

    assert (old.replaced_by, old.grace_until_ms) == (new.id, START_MS + 750)
    assert (new.name, new.role, new.tenant) == (old.name, old.role, old.tenant)
    assert (new.digest, new.expires_at_ms) == (b"n" * 32, START_MS + 1700)
    assert list((await journal.api_keys.at_hand()).keys) == [old, new]


async def test_rotation_may_give_another_life(journal: Journal) -> None:
    await journal.api_keys.add(key(expires_at_ms=START_MS + 1000), BY)

    fresh = key(2, expires_at_ms=START_MS + 9)
    _, new = await journal.api_keys.rotate(key().id, fresh, within=None, grace_ms=0, by=BY)

    assert new.expires_at_ms == START_MS + 9


async def test_key_that_is_over_is_not_rotated(journal: Journal) -> None:
    await journal.api_keys.add(key(), BY)
    await journal.api_keys.rotate(key().id, key(2), within=None, grace_ms=10, by=BY)
    await journal.api_keys.revoke(key(2).id, within=None, by=BY, now_ms=START_MS)

    for key_id, code in ((key().id, "key_replaced"), (key(2).id, "key_revoked")):
        with pytest.raises(ConflictError) as refused:
            await journal.api_keys.rotate(key_id, key(3), within=None, grace_ms=10, by=BY)
        assert refused.value.error_code == code
    assert len(await events(journal)) == 3


async def test_revoked_key_stays_listed_and_is_no_longer_at_hand(journal: Journal) -> None:
    await journal.api_keys.add(key(), BY)
    revoked = await journal.api_keys.revoke(key().id, within=None, by=BY, now_ms=START_MS + 1)
    again = await journal.api_keys.revoke(key().id, within=None, by=BY, now_ms=START_MS + 2)

    assert revoked == again
    assert revoked.revoked_at_ms == START_MS + 1
    assert not (await journal.api_keys.at_hand()).keys
    assert list(await journal.api_keys.list(None, before=None, limit=5)) == [revoked]


@pytest.mark.parametrize("within", ["other", "default"])
async def test_key_of_another_tenant_is_not_there(journal: Journal, within: str) -> None:
    """A key of all tenants is not one of any tenant's own."""
    tenant = None if within == "default" else "default"
    await journal.api_keys.add(key(tenant=tenant), BY)

    with pytest.raises(NotFoundError):
        await journal.api_keys.revoke(key().id, within=within, by=BY, now_ms=START_MS)
    with pytest.raises(NotFoundError):
        await journal.api_keys.rotate(key().id, key(2), within=within, grace_ms=0, by=BY)

    assert not await journal.api_keys.list(within, before=None, limit=5)
    assert len((await journal.api_keys.at_hand()).keys) == 1


async def test_list_goes_page_by_page_from_the_latest(journal: Journal) -> None:
    for number in range(5):
        await journal.api_keys.add(key(number), BY)

    first = await journal.api_keys.list(None, before=None, limit=3)
    second = await journal.api_keys.list(None, before=first[-1].seq, limit=3)

    assert [one.name for one in (*first, *second)] == [f"app-{n}" for n in (4, 3, 2, 1, 0)]


async def test_uses_are_noted_and_unknown_keys_among_them_do_no_harm(journal: Journal) -> None:
    await journal.api_keys.add(key(), BY)
    await journal.api_keys.note_uses({key().id: START_MS + 9, "gone": START_MS})

    (found,) = (await journal.api_keys.at_hand()).keys
    assert found.last_used_at_ms == START_MS + 9


async def test_keys_in_memory_are_bounded(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "MOST_KEYS", 1)
    await journal.api_keys.add(key(), BY)

    with pytest.raises(ConflictError) as refused:
        await journal.api_keys.add(key(2), BY)
    with pytest.raises(ConflictError):
        await journal.api_keys.rotate(key().id, key(3), within=None, grace_ms=0, by=BY)

    assert refused.value.error_code == "too_many_keys"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("role", "admin"),
        ("tenant", "other"),
        ("digest", bytes(32)),
        ("expires_at_ms", 1),
        ("revoked_at_ms", None),
        ("id", "00000000000000ff"),
    ],
)
async def test_damaged_key_is_named_and_not_served(path: Path, column: str, value: object) -> None:
    async with opened(path) as journal:
        await journal.api_keys.add(key(), BY)
        await journal.api_keys.add(key(2), BY)
        if value is None:
            await journal.api_keys.revoke(key().id, within=None, by=BY, now_ms=START_MS)
    with raw(path) as db:
        db.execute(DAMAGE.replace("COLUMN", column), (value,))

    async with opened(path) as journal:
        found = await journal.api_keys.at_hand()
        listed = [await journal.api_keys.list(None, before=None, limit=n) for n in (1, 2, 3)]
        with pytest.raises(DamagedError):
            await journal.api_keys.revoke(found.damaged[0], within=None, by=BY, now_ms=START_MS)

    assert [one.name for one in found.keys] == ["app-2"]
    assert listed == [found.keys] * 3
    assert len(found.damaged) == 1
    assert f"API key {found.damaged[0]} fails its checksum" in verify(path, KEY).findings


async def test_salvage_saves_the_keys_that_are_whole(path: Path, clock: FakeClock) -> None:
    async with opened(path) as journal:
        for number in (1, 2):
            await journal.api_keys.add(key(number), BY)
        await journal.api_keys.rotate(key(2).id, key(3), within=None, grace_ms=10, by=BY)
        before = await journal.api_keys.at_hand()
    with raw(path) as db:
        db.execute("UPDATE api_key SET role = 'admin' WHERE name = 'app-1'")

    into = path.with_name("saved.db")
    salvage(path, into, KEY, clock)

    async with opened(into) as journal:
        after = await journal.api_keys.at_hand()
    assert [one.id for one in after.keys] == [key(2).id, key(3).id]
    assert [one.digest for one in after.keys] == [one.digest for one in before.keys[1:]]
