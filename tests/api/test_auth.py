"""Who may call: over TCP the holder of the key, over the socket the right user."""

import os

import anyio
import httpx2
import pytest
from tests.api.keys_at_hand import Shelf, scope
from tests.api.world import KEY, ApiWorld, code_of
from tests.fake_clock import FakeClock

from integrationd.api.auth import Access, AccessRefusedError
from integrationd.api.held_keys import HeldKeys
from integrationd.api.roles import Role
from integrationd.events import Bus


def access(*allowed: int) -> Access:
    clock = FakeClock()
    made = HeldKeys(KEY, Shelf(), Bus(), clock)
    anyio.run(made.load)
    return Access(made, dict.fromkeys(allowed, Role.ADMIN), "var/api.key", clock)


@pytest.mark.parametrize("shown", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {KEY} "])
def test_key_lets_in(shown: str) -> None:
    assert access().identify(scope(shown.encode())).name == "key:bootstrap"


@pytest.mark.parametrize(
    "shown",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        KEY.encode(),
        b"Basic " + KEY.encode(),
        b"Bearer " + KEY.upper().encode(),
        b"Bearer " + KEY[:-1].encode(),
        b"Bearer " + KEY.encode() + b"x",
        b"Bearer \xc3\xa9\xff",
        b"Bearer " + b"a" * 1_000_000,
    ],
)
def test_wrong_key_is_refused(shown: bytes) -> None:
    with pytest.raises(AccessRefusedError) as refused:
        access().identify(scope(shown))

    assert (refused.value.problem.status, refused.value.problem.code) == (401, "key_wrong")
    assert KEY not in refused.value.problem.body().decode()
    assert "var/api.key" in refused.value.problem.hint


def test_missing_key_is_told_apart_from_a_wrong_one() -> None:
    with pytest.raises(AccessRefusedError) as refused:
        access().identify(scope())

    assert refused.value.problem.code == "key_missing"
    assert (b"www-authenticate", b"Bearer") in refused.value.problem.headers()


def test_key_shown_twice_is_refused() -> None:
    with pytest.raises(AccessRefusedError):
        access().identify(scope(f"Bearer {KEY}".encode(), f"Bearer {KEY}".encode()))


@pytest.mark.parametrize("uid", [os.getuid(), 0, 4711])
def test_socket_answers_its_own_user_root_and_those_allowed(uid: int) -> None:
    assert access(4711).identify(scope(uid=uid)).name == f"uid:{uid}"


def test_socket_refuses_other_users_even_with_the_key() -> None:
    with pytest.raises(AccessRefusedError) as refused:
        access(4711).identify(scope(f"Bearer {KEY}".encode(), uid=4712))

    assert (refused.value.problem.status, refused.value.problem.code) == (403, "uid_not_allowed")
    assert "allowed_uids" in refused.value.problem.hint


async def test_everything_but_health_asks_for_the_key(idle: ApiWorld) -> None:
    async with idle.new_client() as stranger:
        for path in ("/v1/calls", "/v1/status", "/metrics", "/v1/none", "/", "/v1/tenants"):
            refused = await stranger.get(path)
            assert code_of(refused, 401) == "key_missing"
            assert refused.headers["www-authenticate"] == "Bearer"
        posted = await stranger.post("/v1/calls", json={"operation": "rehearsal.hold"})
        healthy = [await stranger.get(path) for path in ("/healthz", "/readyz")]

    assert code_of(posted, 401) == "key_missing"
    assert [answer.status_code for answer in healthy] == [200, 200]
    assert (await idle.client.get("/v1/ledger")).json()["total"]["accepted"] == 0


async def test_key_in_the_query_is_refused(idle: ApiWorld) -> None:
    async with idle.new_client() as stranger:
        answers: list[httpx2.Response] = [
            await stranger.get(f"/v1/calls?{name}={KEY}")
            for name in ("key", "api_key", "access_token", "authorization")
        ]

    assert {code_of(answer, 401) for answer in answers} == {"key_missing"}
    assert not any(KEY in answer.text for answer in answers)
