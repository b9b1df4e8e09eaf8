"""Keys in memory: known without the journal, kept in step with it, slowed down if wrong."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from tests.api.keys_at_hand import Shelf, scope
from tests.api.world import KEY
from tests.fake_clock import START_MS, FakeClock

from integrationd.api import bad_keys
from integrationd.api.auth import Access, AccessRefusedError
from integrationd.api.bad_keys import BURST, INTERVAL_S, MOST_SOURCES, BadKeys
from integrationd.api.held_keys import AGAIN_S, USES_EVERY_MS, HeldKeys, MadeKey
from integrationd.api.problems import Problem
from integrationd.api.roles import Caller
from integrationd.events import Bus, JournalMoved
from integrationd.journal import StoredApiKey


@contextlib.asynccontextmanager
async def running(door: "Door") -> AsyncIterator[None]:
    """Keep the keys in memory up to date."""
    async with anyio.create_task_group() as group:
        group.start_soon(door.held_keys.run)
        yield
        group.cancel_scope.cancel()


def stored(key: MadeKey, **changes: Any) -> StoredApiKey:
    usual: dict[str, Any] = {
        "seq": 1,
        "id": key.id,
        "name": "shop",
        "tenant": None,
        "role": "read",
        "digest": key.digest,
        "created_at_ms": START_MS,
    }
    return StoredApiKey(**{**usual, **changes})


class Door:
    """Who is let in, over a store of keys that can fail."""

    def __init__(self, *keys: StoredApiKey) -> None:
        self.clock, self.bus, self.shelf = FakeClock(), Bus(), Shelf(*keys)
        self.held_keys = HeldKeys(KEY, self.shelf, self.bus, self.clock)
        self.access = Access(self.held_keys, {}, "api.key", self.clock)

    def show(self, key: str, source: str = "127.0.0.1") -> Caller | Problem:
        try:
            return self.access.identify(scope(f"Bearer {key}".encode(), source=source))
        except AccessRefusedError as error:
            return error.problem

    def code(self, key: str, source: str = "127.0.0.1") -> str:
        answer = self.show(key, source)
        return answer.code if isinstance(answer, Problem) else answer.name

    def ready(self) -> None:
        self.bus.publish(JournalMoved(condition="ready", reason=""))


def test_made_keys_are_all_different_and_hide_themselves() -> None:
    keys = [MadeKey.make() for _ in range(1000)]

    assert len({key.text for key in keys}) == len({key.id for key in keys}) == 1000
    assert not [key for key in keys if key.text in repr(key)]
    assert all(len(key.text) == len("idk_") + 16 + 1 + 43 for key in keys)


@pytest.mark.parametrize(
    "bend",
    [
        lambda key: key.text[:-1],
        lambda key: f"{key.text}x",
        lambda key: key.text.swapcase(),
        lambda key: f"idk_{key.id}_",
        lambda key: f"idk_{key.id}",
        lambda key: key.id,
        lambda key: key.text.replace(key.id, MadeKey.make().id),
        lambda key: f"{key.text.rpartition('_')[0]}_{KEY}",
        lambda key: key.digest.hex(),
        lambda key: "idk_",
        lambda key: "idk__",
        lambda key: "_" * 1000,
    ],
)
async def test_only_the_whole_key_is_the_key(bend: Any) -> None:
    key = MadeKey.make()
    door = Door(stored(key))
    await door.held_keys.load()

    assert door.code(key.text) == "key:shop"
    assert door.code(bend(key)) == "key_wrong"


async def test_shown_keys_are_never_repeated() -> None:
    key = MadeKey.make()
    door = Door()
    await door.held_keys.load()

    told = [door.show(f"{key.text}{number}") for number in range(BURST + 5)]

    assert all(isinstance(one, Problem) and key.text[:20] not in str(one) for one in told)


async def test_until_the_keys_are_read_only_the_key_of_the_file_is_known() -> None:
    key = MadeKey.make()
    door = Door(stored(key))

    assert door.code(KEY) == "key:bootstrap"
    refused = door.show(key.text)
    assert isinstance(refused, Problem)
    assert (refused.status, refused.code, refused.retry_after_s) == (503, "keys_not_read", 1)
    await door.held_keys.load()
    assert door.code(key.text) == "key:shop"


async def test_keys_are_read_as_soon_as_the_journal_answers() -> None:
    key = MadeKey.make()
    door = Door(stored(key))
    door.shelf.is_open = False
    async with running(door):
        await door.clock.advance(3 * AGAIN_S)
        assert door.code(key.text) == "keys_not_read"
        door.shelf.is_open = True
        await door.clock.advance(AGAIN_S)
        assert door.code(key.text) == "key:shop"


async def test_keys_are_read_anew_when_the_journal_comes_back() -> None:
    """What was written while the disk failed may or may not be kept."""
    key, other = MadeKey.make(), MadeKey.make()
    door = Door(stored(key))
    async with running(door):
        await door.clock.advance(0)
        door.shelf.keys = [stored(other, name="other")]
        door.ready()
        await door.clock.advance(0)

        assert (door.code(key.text), door.code(other.text)) == ("key_wrong", "key:other")


async def test_change_while_the_keys_are_read_is_not_lost() -> None:
    key = MadeKey.make()

    class Slow(Shelf):
        async def at_hand(self) -> Any:
            found = await super().at_hand()
            if self.keys:
                self.keys = ()
                door.held_keys.hold(stored(key, revoked_at_ms=START_MS))
            return found

    door = Door()
    door.shelf = Slow(stored(key))
    door.held_keys._store = door.shelf
    await door.held_keys.load()

    assert door.code(key.text) == "key_wrong"


async def test_key_that_is_shut_out_stays_out_until_it_is_revoked() -> None:
    key = MadeKey.make()
    door = Door(stored(key))
    await door.held_keys.load()
    door.held_keys.shut_out(key.id, None)

    door.held_keys.hold(stored(key, replaced_by="x", grace_until_ms=START_MS + 1000))
    held = door.code(key.text)
    await door.held_keys.load()

    assert (held, door.code(key.text)) == ("key_wrong", "key_wrong")


async def test_damaged_keys_need_a_person() -> None:
    door = Door()
    door.shelf.damaged = ["00000000000000ff"]
    await door.held_keys.load()

    (told,) = door.held_keys.problems()
    assert "00000000000000ff" in told


async def test_uses_are_noted_once_a_minute_at_most() -> None:
    keys = [MadeKey.make() for _ in range(2)]
    door = Door(*[stored(key, name=f"app-{n}") for n, key in enumerate(keys)])
    async with running(door):
        for _ in range(180):
            await door.clock.advance(1)
            for key in (*keys, MadeKey.make()):
                door.code(key.text)
            door.code(KEY)
        await door.clock.advance(0)

    noted = [at_ms for uses in door.shelf.uses for at_ms in uses.values()]
    assert len(noted) == 6
    assert {min(noted), max(noted)} == {START_MS + 1000, START_MS + 1000 + 2 * USES_EVERY_MS}
    assert {key_id for uses in door.shelf.uses for key_id in uses} == {key.id for key in keys}


async def test_uses_that_cannot_be_noted_do_no_harm() -> None:
    key = MadeKey.make()
    door = Door(stored(key))
    async with running(door):
        await door.clock.advance(0)
        door.shelf.is_open = False
        for _ in range(3):
            assert door.code(key.text) == "key:shop"
            await door.clock.advance(USES_EVERY_MS / 1000)
        door.shelf.is_open = True
        assert door.code(key.text) == "key:shop"
        await door.clock.advance(0)

    assert len(door.shelf.uses) == 1


async def test_refused_use_is_no_use() -> None:
    key = MadeKey.make()
    door = Door(stored(key, expires_at_ms=START_MS))
    async with running(door):
        await door.clock.advance(0)
        assert door.code(key.text) == "key_expired"
        await door.clock.advance(0)

    assert not door.shelf.uses


# Wrong keys


async def test_source_of_wrong_keys_is_slowed_down() -> None:
    door = Door()
    await door.held_keys.load()
    codes = [door.code(f"idk_wrong_{number}") for number in range(BURST)]
    refused = door.show("idk_wrong_again")

    assert set(codes) == {"key_wrong"}
    assert isinstance(refused, Problem)
    assert (refused.status, refused.code) == (429, "too_many_bad_keys")
    assert 0 < refused.retry_after_s <= INTERVAL_S
    assert (b"retry-after", str(refused.retry_after_s).encode()) in refused.headers()
    await door.clock.advance(refused.retry_after_s)
    assert [door.code("idk_wrong_x") for _ in range(2)] == ["key_wrong", "too_many_bad_keys"]
    await door.clock.advance(BURST * INTERVAL_S)
    assert {door.code("idk_wrong_x") for _ in range(BURST)} == {"key_wrong"}


async def test_wrong_keys_shut_out_neither_right_ones_nor_other_sources() -> None:
    key = MadeKey.make()
    door = Door(stored(key))
    await door.held_keys.load()
    for _ in range(10 * BURST):
        door.code("idk_wrong")

    assert door.code("idk_wrong") == "too_many_bad_keys"
    assert door.code(key.text) == "key:shop"
    assert door.code(KEY) == "key:bootstrap"
    assert door.code("idk_wrong", source="127.0.0.2") == "key_wrong"


def test_sources_are_remembered_only_so_many() -> None:
    bad = BadKeys(FakeClock())
    for number in range(MOST_SOURCES + 10):
        bad.count(f"source-{number}")

    assert len(bad) == MOST_SOURCES


def test_flood_of_wrong_keys_is_one_line_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(bad_keys.log, "warning", lambda _event, **more: told.append(more))
    bad = BadKeys(FakeClock())
    for _ in range(1000):
        bad.count("127.0.0.1")

    assert [(one["source"], one["count"]) for one in told] == [("127.0.0.1", 1)]


async def test_keys_that_are_missing_are_not_counted() -> None:
    door = Door()
    await door.held_keys.load()
    for _ in range(2 * BURST):
        with pytest.raises(AccessRefusedError) as refused:
            door.access.identify(scope())

    assert refused.value.problem.code == "key_missing"
