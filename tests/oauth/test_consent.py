"""A person's consent: begun once, ended once, taken back; and a page for everything that fails."""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from tests.oauth.authorization_server import Answer, AuthorizationServer, lost
from tests.oauth.world import BY, BY_CONSENT, PUBLIC_URL, World, opened
from tests.webhooks.world import HookWorld

from integrationd.errors import ConflictError, VaultError
from integrationd.journal import StoredConnection
from integrationd.sdk.token_keeping import TokenRequestError
from integrationd.settings import Settings
from integrationd.webhooks.consent import PATH, Ended, nothing_begun, page


@pytest.fixture
async def world(server: AuthorizationServer, tmp_path: Path) -> AsyncIterator[World]:
    async with opened(World(tmp_path, server.url, BY_CONSENT)) as made:
        yield made


async def begin(world: World, server: AuthorizationServer) -> dict[str, str]:
    """Begin, consent at the server, and return what it sends the person back with."""
    begun = await world.consents.begin(world.connection, BY)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.url).query).items()}
    server.new_code("the-code", asked["code_challenge"])
    return {"code": "the-code", "state": asked["state"]}


# The way there and back


async def test_consent_brings_a_token_that_calls_use(
    world: World, server: AuthorizationServer
) -> None:
    back = await begin(world, server)

    ended = await world.consents.finish(back)

    assert ended.status == 200
    assert "mail is authorised" in ended.text
    assert await world.token() in server.good
    assert world.authorised == [("mail", BY)]
    assert await world.events() == [
        ("connection.authorised", {"by": BY, "from": BY.where, "scope": None})
    ]
    assert server.asked[0]["redirect_uri"] == f"{PUBLIC_URL}{PATH}"
    assert (
        world.consents.needs(world.connection),
        world.tokens.is_authorised(world.connection),
    ) == (
        "",
        True,
    )


async def test_address_to_open_is_at_the_server_and_good_for_ten_minutes(
    world: World, server: AuthorizationServer
) -> None:
    begun = await world.consents.begin(world.connection, BY)

    assert begun.url.startswith(f"{server.url}/oauth/authorize?")
    assert begun.redirect_uri == f"{PUBLIC_URL}{PATH}"
    assert begun.expires_at.timestamp() * 1000 == world.clock.now_ms() + 600_000


async def test_consent_may_end_after_a_restart(server: AuthorizationServer, tmp_path: Path) -> None:
    async with opened(World(tmp_path, server.url, BY_CONSENT)) as first:
        back = await begin(first, server)
    async with opened(World(tmp_path, server.url, BY_CONSENT, first.clock)) as second:
        ended = await second.consents.finish(back)

        assert ended.status == 200
        assert await second.token() in server.good


async def test_nothing_in_the_journal_opens_what_was_begun(
    world: World, server: AuthorizationServer
) -> None:
    back = await begin(world, server)
    verifier = world.consents._verifier(back["state"])

    stored = b"".join(one.read_bytes() for one in world.directory.glob("journal.db*"))

    assert back["state"].encode() not in stored
    assert verifier.encode() not in stored


async def test_new_consent_takes_the_place_of_an_old_one(
    world: World, server: AuthorizationServer
) -> None:
    await world.consents.finish(await begin(world, server))
    before = await world.token()

    await world.consents.finish(await begin(world, server))

    assert await world.token() != before


@pytest.mark.parametrize(
    ("webhooks", "expected"),
    [
        ({"listen": "127.0.0.1:8701"}, f"http://127.0.0.1:8701{PATH}"),
        ({"listen": "[::1]:8701"}, f"http://[::1]:8701{PATH}"),
        ({"listen": "0.0.0.0:8701", "public_url": PUBLIC_URL}, f"{PUBLIC_URL}{PATH}"),
    ],
)
async def test_people_come_back_to_the_public_address_or_to_this_machine(
    world: World, webhooks: Mapping[str, Any], expected: str
) -> None:
    world.settings = Settings.model_validate({"webhooks": webhooks})

    assert (await world.consents.begin(world.connection, BY)).redirect_uri == expected


# What cannot be begun


@pytest.mark.parametrize("webhooks", [{}, {"listen": "0.0.0.0:8701"}])
async def test_consent_needs_an_address_to_come_back_to(
    world: World, webhooks: Mapping[str, Any]
) -> None:
    world.settings = Settings.model_validate({"webhooks": webhooks})

    with pytest.raises(ConflictError, match="no address") as caught:
        await world.consents.begin(world.connection, BY)

    assert "public_url" in caught.value.hint


async def test_connection_with_credentials_of_its_own_needs_no_consent(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    async with opened(World(tmp_path, server.url)) as world:
        with pytest.raises(ConflictError, match="nobody's consent"):
            await world.consents.begin(world.connection, BY)


async def test_nobody_is_sent_off_while_nothing_could_be_kept(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    (tmp_path / "master.key").write_text("no key")
    (tmp_path / "master.key").chmod(0o600)
    async with opened(World(tmp_path, server.url, BY_CONSENT)) as world:
        with pytest.raises(VaultError):
            await world.consents.begin(world.connection, BY)


# What fails on the way back


async def test_state_is_good_once(world: World, server: AuthorizationServer) -> None:
    back = await begin(world, server)
    await world.consents.finish(back)

    ended = await world.consents.finish(back)

    assert (ended.status, server.counts["authorization_code"]) == (400, 1)
    assert "used before" in ended.text
    assert await world.token() in server.good


async def test_state_is_good_for_ten_minutes(world: World, server: AuthorizationServer) -> None:
    back = await begin(world, server)
    world.clock.advance(600)

    ended = await world.consents.finish(back)

    assert (ended.status, server.asked) == (400, [])


@pytest.mark.parametrize("state", [None, "", "made-up", "\udc80" * 3, "x" * 100_000])
async def test_state_that_was_never_given_out_is_refused(
    world: World, server: AuthorizationServer, state: str | None
) -> None:
    back = await begin(world, server)

    query = {"code": back["code"], **({} if state is None else {"state": state})}
    ended = await world.consents.finish(query)

    assert (ended.status, server.asked) == (400, [])


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"error": "access_denied"}, 403, "not given your consent"),
        ({"error": "server_error", "error_description": "<b>"}, 502, "server_error <b>"),
        ({}, 400, "no code"),
        ({"code": ""}, 400, "no code"),
    ],
)
async def test_refusal_of_the_server_is_told_in_words(
    world: World,
    server: AuthorizationServer,
    query: Mapping[str, str],
    status: int,
    words: str,
) -> None:
    back = await begin(world, server)

    ended = await world.consents.finish({"state": back["state"], **query})

    assert (ended.status, server.asked) == (status, [])
    assert words in ended.text
    assert "Begin again" in ended.text


async def test_answer_of_another_server_is_refused(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    config = {**BY_CONSENT, "issuer": "https://id.example"}
    async with opened(World(tmp_path, server.url, config)) as world:
        wrong = await world.consents.finish(
            {**await begin(world, server), "iss": "https://id.example/"}
        )
        right = await world.consents.finish(
            {**await begin(world, server), "iss": "https://id.example"}
        )

    assert (wrong.status, right.status) == (400, 200)
    assert "another server" in wrong.text
    assert server.counts["authorization_code"] == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Answer(400, {"error": "invalid_grant"}), "invalid_grant"),
        (Answer(500, b"oops"), "answer was lost"),
        (lost, "answer was lost"),
    ],
)
async def test_exchange_that_fails_has_to_be_begun_again(
    world: World, server: AuthorizationServer, fault: Any, words: str
) -> None:
    back = await begin(world, server)
    server.script.append(fault)

    ended = await world.consents.finish(back)

    assert ended.status == 502
    assert words in ended.text
    assert "Begin again" in ended.text
    assert server.counts["authorization_code"] == 1
    with pytest.raises(TokenRequestError, match="nobody has authorised it yet"):
        await world.token()


async def test_connection_that_was_changed_meanwhile_has_to_be_begun_again(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    async with opened(World(tmp_path, server.url, BY_CONSENT)) as first:
        back = await begin(first, server)
    config = {**BY_CONSENT, "scope": "everything"}
    async with opened(World(tmp_path, server.url, config, first.clock)) as second:
        ended = await second.consents.finish(back)

    assert (ended.status, server.asked) == (409, [])


async def test_beginning_over_and_over_fills_no_disk(
    world: World, server: AuthorizationServer
) -> None:
    for _ in range(30):
        back = await begin(world, server)

    rows = await world.journal.rows("SELECT count(*) FROM oauth_state")
    assert rows[0][0] == 20
    assert (await world.consents.finish(back)).status == 200


# Taking it back


async def test_token_that_was_given_back_is_void_and_gone(
    world: World, server: AuthorizationServer
) -> None:
    await world.consents.finish(await begin(world, server))
    source = world.connection.tokens(world.clock)
    assert source is not None
    refresh_token = source.refresh_token

    given = await world.consents.give_back(world.connection, BY)

    assert (given.connection, given.revoked) == ("mail", True)
    assert server.revoked == [refresh_token]
    assert await world.journal.oauth_tokens.get(world.place) is None
    assert (await world.events())[-1] == (
        "connection.authorisation_revoked",
        {"by": BY, "from": BY.where},
    )
    with pytest.raises(TokenRequestError, match="nobody has authorised it yet"):
        await world.token()


async def test_token_that_the_server_does_not_void_is_kept(
    world: World, server: AuthorizationServer
) -> None:
    await world.consents.finish(await begin(world, server))
    server.revocation = Answer(503, {}, {"Retry-After": "9"})

    with pytest.raises(TokenRequestError) as caught:
        await world.consents.give_back(world.connection, BY)

    assert getattr(caught.value.failure, "wait_s", None) == 9.0
    assert await world.token() in server.good


async def test_server_without_a_way_to_void_is_only_forgotten(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    async with opened(World(tmp_path, server.url, {**BY_CONSENT, "revokes": False})) as world:
        await world.consents.finish(await begin(world, server))

        given = await world.consents.give_back(world.connection, BY)

        assert (given.revoked, server.revoked) == (False, [])
        assert await world.journal.oauth_tokens.get(world.place) is None


async def kept(world: World) -> list[Any]:
    return [
        await world.journal.oauth_tokens.get(world.place),
        *await world.journal.rows("SELECT connection FROM oauth_state"),
    ]


async def keep_connection(world: World) -> None:
    row = StoredConnection(
        id="mail",
        tenant=None,
        settings='{"provider": "mail"}',
        created_at_ms=1,
        changed_at_ms=1,
    )
    await world.journal.directory.keep_connection(row, None, BY)


async def remove(world: World) -> None:
    async with world.consents.giving_up(world.connection, BY):
        await world.journal.directory.delete_connection("mail", BY, lambda _lane: False)


async def test_removed_connection_gives_its_token_back(
    world: World, server: AuthorizationServer
) -> None:
    await keep_connection(world)
    await world.consents.finish(await begin(world, server))
    held = world.connection.tokens(world.clock)
    assert held is not None
    refresh_token = held.refresh_token
    await world.consents.begin(world.connection, BY)

    await remove(world)

    assert server.revoked == [refresh_token]
    assert await kept(world) == [None]


async def test_provider_that_voids_nothing_keeps_nobody_from_removing_a_connection(
    world: World, server: AuthorizationServer
) -> None:
    await keep_connection(world)
    await world.consents.finish(await begin(world, server))
    server.revocation = Answer(503, {})

    await remove(world)
    await world.registry.replace([])
    await world.registry.replace([world._spec])

    assert await kept(world) == [None]
    with pytest.raises(TokenRequestError, match="nobody has authorised it yet"):
        await world.token()


async def test_connection_without_a_token_is_removed_without_a_word_to_the_provider(
    world: World, server: AuthorizationServer
) -> None:
    await remove(world)

    assert server.revoked == []
    assert [kind for kind, _ in await world.events()] == ["connection.deleted"]


# The page


def test_page_leaks_nothing_and_escapes_what_it_is_told() -> None:
    headers, body = page(Ended(200, "A <b>title</b>", "<script>x</script> & 'more'"))

    named = dict(headers)
    assert named[b"referrer-policy"] == b"no-referrer"
    assert named[b"cache-control"] == b"no-store"
    assert named[b"content-security-policy"].startswith(b"default-src 'none'")
    assert b"<script>" not in body
    assert b"&lt;script&gt;" in body
    assert int(named[b"content-length"]) == len(body)


async def test_listener_ends_consents_by_get_alone(tmp_path: Path) -> None:
    asked: list[Mapping[str, str]] = []

    async def finish(query: Mapping[str, str]) -> Ended:
        asked.append(query)
        return Ended(200, "Authorised", "You can close this window.")

    async with listening(tmp_path, finish) as client:
        found = await client.get(PATH, params={"state": "s 1", "code": "c"})
        posted = await client.post(PATH, content=b"state=s")
        below = await client.get(f"{PATH}/more")

    assert (found.status_code, posted.status_code, below.status_code) == (200, 404, 404)
    assert asked == [{"state": "s 1", "code": "c"}]
    assert re.search(r"<h1>Authorised</h1>", found.text)
    assert found.headers["content-type"].startswith("text/html")


async def test_listener_knows_of_no_consent_where_none_can_be_begun(tmp_path: Path) -> None:
    async with listening(tmp_path, nothing_begun) as client:
        assert (await client.get(PATH)).status_code == 404


@contextlib.asynccontextmanager
async def listening(directory: Path, finish: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Return a client of a webhook listener."""
    world = HookWorld(directory)
    world.hooks.take_back(finish)
    async with world.running(delivers=False):
        yield world.client
