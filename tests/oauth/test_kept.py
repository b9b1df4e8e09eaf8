"""Tokens in the journal: sealed, durable, and honest about a refresh that was cut off."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.oauth.authorization_server import AuthorizationServer, lost
from tests.oauth.world import BY_CONSENT, INSTANCE_KEY, World, opened
from tests.plugins.mpesa_provider import CONFIG, MPESA
from tests.plugins.mpesa_server import FakeDaraja, daraja

from integrationd.journal import NewToken, TokenSecret, oauth_rows, sqlite
from integrationd.journal.salvage import salvage
from integrationd.journal.verify import verify
from integrationd.journal.writer import Transaction
from integrationd.sdk.testing import FakeClock
from integrationd.sdk.token_keeping import TokenRequestError


async def keep(world: World, refresh_token: str | None, life_s: float = 3600) -> None:
    """Keep a token that a person has authorised."""
    home = world.tokens.home(world.connection)
    assert home is not None
    now_ms = world.clock.now_ms()
    new = NewToken(
        secret=TokenSecret(
            access_token="access-0-made-up", refresh_token=refresh_token, made_for=home.made_for
        ),
        token_type="Bearer",
        scope=None,
        obtained_at_ms=now_ms,
        expires_at_ms=now_ms + round(life_s * 1000),
    )
    async with world.vault.keyring(make=True) as keyring:
        await world.journal.oauth_tokens.keep(keyring, world.place, new, 0, surely=False)


async def mark(world: World) -> None:
    """Leave the row as a kill in the middle of a refresh does."""
    row = await world.journal.oauth_tokens.get(world.place)
    assert row is not None
    await world.journal.oauth_tokens.begin(world.place, row.generation, "an earlier run")


def stored(directory: Path) -> bytes:
    return b"".join(one.read_bytes() for one in directory.glob("journal.db*"))


# What is kept


async def test_token_outlives_the_run_that_got_it(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    async with opened(World(tmp_path, server.url)) as first:
        token = await first.token()
    async with opened(World(tmp_path, server.url, clock=first.clock)) as second:
        again = await second.token()

    assert (token, server.counts["client_credentials"]) == (again, 1)


async def test_token_is_nowhere_in_the_clear(server: AuthorizationServer, tmp_path: Path) -> None:
    async with opened(World(tmp_path, server.url, BY_CONSENT)) as world:
        refresh_token = server.consent()
        await keep(world, refresh_token, life_s=0)
        token = await world.token()

    for secret in (token, refresh_token, *server.refresh):
        assert secret.encode() not in stored(tmp_path)
        assert world.masker.text(f"said {secret} again") == "said *** again" or secret in (
            refresh_token,
        )


async def test_token_is_bound_to_client_scope_and_server(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    async with opened(World(tmp_path, server.url)) as first:
        token = await first.token()
    async with opened(World(tmp_path, server.url, {"scope": "more"}, first.clock)) as second:
        other = await second.token()

    assert token != other
    assert server.counts["client_credentials"] == 2


async def test_token_of_one_tenant_is_sealed_under_its_own_key(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    async with opened(World(tmp_path, server.url, tenant="hill-school")) as world:
        await world.token()
        found = await world.journal.secrets.sealed()
        row = await world.journal.oauth_tokens.get(world.place)

    assert [key.tenant for key in found.keys] == ["hill-school"]
    assert row is not None
    assert (row.tenant, row.connection) == ("hill-school", "mail")


@pytest.mark.parametrize("column", ["generation", "tenant", "connection"])
async def test_row_that_was_moved_opens_nowhere(
    server: AuthorizationServer, tmp_path: Path, column: str
) -> None:
    async with opened(World(tmp_path, server.url)) as world:
        await world.token()
        row = await world.journal.oauth_tokens.get(world.place)
        assert row is not None
        wrong: Any = 99 if column == "generation" else "another"
        moved = msgspec.structs.replace(row, **{column: wrong})
        async with world.vault.keyring(make=False) as keyring:
            with pytest.raises(Exception, match="OAuth token of connection"):
                await world.journal.oauth_tokens.open(keyring, moved)


async def test_row_that_was_changed_costs_a_token_but_no_call(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    async with opened(World(tmp_path, server.url)) as first:
        await first.token()
        row = await first.journal.oauth_tokens.get(first.place)
        assert row is not None
        sealed = row.sealed[:-1] + bytes([row.sealed[-1] ^ 1])
        await first.journal.write(
            lambda tx: oauth_rows.store(tx.db, msgspec.structs.replace(row, sealed=sealed))
        )
    async with opened(World(tmp_path, server.url, clock=first.clock)) as second:
        assert await second.token() in server.good
        assert await second.token() in server.good

    assert server.counts["client_credentials"] == 2


async def test_row_that_is_damaged_is_replaced(server: AuthorizationServer, tmp_path: Path) -> None:
    def damage(transaction: Transaction) -> None:
        transaction.db.execute("UPDATE oauth_token SET token_type = 'other'")

    async with opened(World(tmp_path, server.url)) as first:
        await first.token()
        await first.journal.write(damage)
    async with opened(World(tmp_path, server.url, clock=first.clock)) as second:
        assert await second.token() in server.good
        row = await second.journal.oauth_tokens.get(second.place)

    assert row is not None
    assert row.token_type == "Bearer"


async def test_damage_is_noticed_and_what_is_sound_is_salvaged(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    async with opened(World(tmp_path, server.url)) as world:
        token = await world.token()
    path, saved = tmp_path / "journal.db", tmp_path / "saved"
    saved.mkdir()
    salvage(path, saved / "journal.db", INSTANCE_KEY, world.clock)
    (tmp_path / "master.key").rename(saved / "master.key")
    async with opened(World(saved, server.url, clock=world.clock)) as again:
        kept_token = await again.token()
    sound = verify(path, INSTANCE_KEY)
    db = sqlite.connect(path)
    db.execute("UPDATE oauth_token SET scope = 'everything'")
    db.commit()
    db.close()

    assert kept_token == token
    assert not sound.findings
    assert any("OAuth token" in one for one in verify(path, INSTANCE_KEY).findings)


async def test_rotation_of_all_keys_leaves_tokens_readable(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    async with opened(World(tmp_path, server.url)) as first:
        token = await first.token()
        await first.vault.rotate("uid:0", data_keys=True)
        await first.vault.rotate("uid:0", data_keys=False)
    async with opened(World(tmp_path, server.url, clock=first.clock)) as second:
        assert await second.token() == token


async def test_token_works_in_memory_where_no_vault_can_be_made(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    (tmp_path / "master.key").write_text("no key")
    (tmp_path / "master.key").chmod(0o600)
    async with opened(World(tmp_path, server.url)) as world:
        token = await world.token()
        again = await world.token()
        renewed = await world.token(refused=token)
        row = await world.journal.oauth_tokens.get(world.place)

    assert (token, row) == (again, None)
    assert renewed != token
    assert server.counts["client_credentials"] == 2


async def test_provider_with_a_way_of_its_own_keeps_its_tokens_in_the_same_place(
    tmp_path: Path,
) -> None:
    fake = FakeDaraja()
    async with daraja(fake) as there:
        async with opened(World(tmp_path, there.url, CONFIG, plugin=MPESA)) as first:
            token = await first.token()
        async with opened(World(tmp_path, there.url, CONFIG, first.clock, plugin=MPESA)) as second:
            again = await second.token()
            renewed = await second.token(refused=again)
        changed = {**CONFIG, "consumer_secret": "another-secret"}
        async with opened(World(tmp_path, there.url, changed, first.clock, plugin=MPESA)) as third:
            assert third.connection.tokens(third.clock) is not None
            await third.tokens.run_once()
            source = third.connection.tokens(third.clock)

    assert (token, fake.tokens_issued) == (again, 2)
    assert renewed != token
    assert source is not None
    assert source.held is None


# A refresh that was cut off


@pytest.mark.parametrize("rotation", ["overlap", "strict"])
async def test_refresh_that_was_cut_off_before_the_server_saw_it_is_made_again(
    server: AuthorizationServer, tmp_path: Path, rotation: str
) -> None:
    config = {**BY_CONSENT, "rotation": rotation}
    async with opened(World(tmp_path, server.url, config)) as first:
        await keep(first, server.consent())
        await mark(first)
    async with opened(World(tmp_path, server.url, config, first.clock)) as second:
        await second.tokens.run_once()
        row = await second.journal.oauth_tokens.get(second.place)
        token = await second.token()

    assert (server.counts["refresh_token"], token in server.good) == (1, True)
    assert row is not None
    assert (row.refreshing_by, row.needs_consent) == (None, 0)


async def test_refresh_whose_answer_was_lost_in_a_crash_needs_a_person_and_says_so(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    async with opened(World(tmp_path, server.url, BY_CONSENT)) as first:
        refresh_token = server.consent()
        await keep(first, refresh_token)
        await mark(first)
    server._refreshed(refresh_token)
    async with opened(World(tmp_path, server.url, BY_CONSENT, first.clock)) as second:
        await second.tokens.run_once()
        needs = second.tokens.needs(second.connection)
        events = await second.events()
    first.clock.advance(3600)
    async with opened(World(tmp_path, server.url, BY_CONSENT, first.clock)) as third:
        await third.tokens.run_once()
        with pytest.raises(TokenRequestError) as caught:
            await third.token()

    assert "invalid_grant" in needs
    assert [kind for kind, _data in events] == ["connection.needs_authorisation"]
    assert "invalid_grant" in json.dumps(events[0][1])
    assert getattr(caught.value.failure, "reason", "") == "needs_authorisation"
    assert server.counts["refresh_token"] == 1


async def test_both_answers_lost_leave_a_mark_for_the_next_need(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    async with opened(World(tmp_path, server.url, BY_CONSENT)) as world:
        await keep(world, server.consent(), life_s=0)
        server.script.extend([lost, lost])
        with pytest.raises(TokenRequestError):
            await world.token()
        row = await world.journal.oauth_tokens.get(world.place)
        with pytest.raises(TokenRequestError, match="authorised by a person"):
            await world.token()

    assert row is not None
    assert row.refreshing_by is not None
    assert server.counts["refresh_token"] == 3


# Ahead of the end


async def test_token_in_use_is_renewed_ahead_of_its_end(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    clock = FakeClock()
    async with opened(World(tmp_path, server.url, clock=clock)) as world:
        token = await world.token()
        clock.advance(3600 * 0.74)
        await world.tokens.run_once()
        before = server.counts["client_credentials"]
        clock.advance(3600 * 0.12)
        await world.tokens.run_once()
        after = server.counts["client_credentials"]
        renewed = await world.token()

    assert (before, after) == (1, 2)
    assert renewed != token


async def test_nothing_is_renewed_ahead_while_the_link_is_down(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    clock, down = FakeClock(), {"mail"}
    async with opened(World(tmp_path, server.url, clock=clock)) as world:
        world.tokens.hold_while(lambda connection: connection in down)
        await world.token()
        clock.advance(3600 * 0.9)
        await world.tokens.run_once()
        during = server.counts["client_credentials"]
        down.clear()
        await world.tokens.run_once()

    assert (during, server.counts["client_credentials"]) == (1, 2)


async def test_token_that_nobody_uses_is_left_to_end(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    server.lifetime_s = 30 * 86_400
    clock = FakeClock()
    async with opened(World(tmp_path, server.url, clock=clock)) as world:
        await world.token()
        clock.advance(29 * 86_400)
        await world.tokens.run_once()

    assert server.counts["client_credentials"] == 1


async def test_renewal_ahead_that_failed_is_put_off(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    clock = FakeClock()
    async with opened(World(tmp_path, server.url, clock=clock)) as world:
        token = await world.token()
        clock.advance(3600 * 0.9)
        server.script.extend([lost])
        for _ in range(5):
            await world.tokens.run_once()
        asked = server.counts["client_credentials"]
        same = await world.token()
        clock.advance(400)
        await world.tokens.run_once()

    assert (asked, same) == (2, token)
    assert server.counts["client_credentials"] == 3
