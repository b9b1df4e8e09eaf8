"""A certified authorization server judges what we send it."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr
from tests.oauth.authorization_server import CLIENT, SECRET
from tests.oauth.oidc import INSTALL_S, consent, judge
from tests.oauth.world import BY, PUBLIC_URL, World, opened

from integrationd.sdk.oauth import OAuth, TokenRequests
from integrationd.sdk.testing import FakeClock
from integrationd.sdk.token_keeping import TokenRequestError
from integrationd.webhooks.consent import PATH

pytestmark = pytest.mark.timeout(INSTALL_S + 120)

REDIRECT = f"{PUBLIC_URL}{PATH}"
BY_CONSENT = {"grant": "authorization_code", "scope": "openid offline_access messages"}
MACHINE, SIGNER, OPEN = "machine", "signer", "open"
KEY = ec.generate_private_key(ec.SECP256R1())


def jwk() -> dict[str, Any]:
    numbers = KEY.public_key().public_numbers()
    x, y = (
        base64.urlsafe_b64encode(one.to_bytes(32, "big")).rstrip(b"=").decode()
        for one in (numbers.x, numbers.y)
    )
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "k1", "use": "sig", "alg": "ES256"}


def clients() -> list[dict[str, Any]]:
    person = {
        "grant_types": ["authorization_code", "refresh_token"],
        "redirect_uris": [REDIRECT],
        "response_types": ["code"],
    }
    alone = {"grant_types": ["client_credentials"], "redirect_uris": [], "response_types": []}
    signing = {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [jwk()]}}
    posting = {"token_endpoint_auth_method": "client_secret_post"}
    nameless = {"token_endpoint_auth_method": "none"}
    return [
        {"client_id": CLIENT, "client_secret": SECRET, **person},
        {"client_id": MACHINE, "client_secret": SECRET, **alone, **posting},
        {"client_id": SIGNER, **alone, **signing, "token_endpoint_auth_signing_alg": "ES256"},
        {"client_id": OPEN, **person, **nameless},
    ]


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with judge(clients()) as address:
        yield address


def config(issuer: str, **changed: Any) -> dict[str, Any]:
    return {**BY_CONSENT, "issuer": issuer, **changed}


async def authorised(world: World) -> dict[str, str]:
    """Have a person consent, and return what came back."""
    begun = await world.consents.begin(world.connection, BY)
    back = await consent(begun.url, begun.redirect_uri)
    ended = await world.consents.finish(back)
    assert ended.status == 200, ended
    return back


async def introspected(issuer: str, token: str) -> bool:
    """Ask the judge whether a token is good."""
    async with httpx2.AsyncClient() as client:
        answer = await client.post(
            f"{issuer}/oauth/introspect",
            data={"token": token, "client_id": MACHINE, "client_secret": SECRET},
        )
    active: bool = answer.json()["active"]
    return active


async def test_code_with_pkce_brings_a_token(issuer: str, tmp_path: Path) -> None:
    async with opened(World(tmp_path, issuer, config(issuer))) as world:
        back = await authorised(world)
        token = await world.token()
        source = world.connection.tokens(world.clock)

    assert back["iss"] == issuer
    assert await introspected(issuer, token)
    assert source is not None
    assert source.refresh_token


async def test_public_client_needs_nothing_but_pkce(issuer: str, tmp_path: Path) -> None:
    public = config(issuer, client_id=OPEN, authentication="none")
    async with opened(World(tmp_path, issuer, public)) as world:
        await authorised(world)

        assert await introspected(issuer, await world.token())


async def test_rotated_tokens_are_followed_from_one_refresh_to_the_next(
    issuer: str, tmp_path: Path
) -> None:
    seen = set()
    async with opened(World(tmp_path, issuer, config(issuer))) as world:
        await authorised(world)
        source = world.connection.tokens(world.clock)
        assert source is not None
        token = await world.token()
        for _ in range(5):
            seen.add(source.refresh_token)
            token = await world.token(refused=token)
            assert await introspected(issuer, token)

    assert len(seen) == 5


async def test_many_callers_cost_no_consent(issuer: str, tmp_path: Path) -> None:
    got: list[str] = []
    async with opened(World(tmp_path, issuer, config(issuer))) as world:
        await authorised(world)
        refused = await world.token()

        async def ask() -> None:
            got.append(await world.token(refused=refused))

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(ask)
        again = await world.token(refused=got[0])

    assert len(set(got)) == 1
    assert await introspected(issuer, again)


async def test_wrong_verifier_is_refused(issuer: str, tmp_path: Path) -> None:
    async with opened(World(tmp_path, issuer, config(issuer))) as world:
        begun = await world.consents.begin(world.connection, BY)
        back = await consent(begun.url, begun.redirect_uri)
        profile, client = world.connection.provider.oauth(), world.connection.client
        assert profile is not None
        assert client is not None
        with pytest.raises(TokenRequestError, match="invalid_grant"):
            await TokenRequests(profile, client, world.clock).exchange(
                back["code"], begun.redirect_uri, "v" * 43
            )


async def test_code_that_is_used_again_costs_the_consent_and_says_so(
    issuer: str, tmp_path: Path
) -> None:
    async with opened(World(tmp_path, issuer, config(issuer))) as world:
        back = await authorised(world)
        token = await world.token()
        profile, client = world.connection.provider.oauth(), world.connection.client
        assert profile is not None
        assert client is not None
        with pytest.raises(TokenRequestError, match="invalid_grant"):
            await TokenRequests(profile, client, world.clock).exchange(
                back["code"], REDIRECT, world.consents._verifier(back["state"])
            )
        with pytest.raises(TokenRequestError, match="authorised by a person"):
            await world.token(refused=token)
        events = await world.events()

    assert events[-1][0] == "connection.needs_authorisation"


async def test_person_who_says_no_is_told_so(issuer: str, tmp_path: Path) -> None:
    async with opened(World(tmp_path, issuer, config(issuer))) as world:
        begun = await world.consents.begin(world.connection, BY)
        async with httpx2.AsyncClient(follow_redirects=True, timeout=30) as browser:
            page = await browser.get(begun.url)
            answer = await browser.get(f"{page.url}/abort", follow_redirects=False)
            while not answer.headers["location"].startswith(REDIRECT):
                target = answer.headers["location"]
                answer = await browser.get(target, follow_redirects=False)
        back = dict(httpx2.URL(answer.headers["location"]).params)
        ended = await world.consents.finish(back)

    assert ended.status == 403


async def test_token_that_was_given_back_is_void(issuer: str, tmp_path: Path) -> None:
    async with opened(World(tmp_path, issuer, config(issuer))) as world:
        await authorised(world)
        token = await world.token()
        source = world.connection.tokens(world.clock)
        assert source is not None
        refresh_token = source.refresh_token
        assert refresh_token is not None

        await world.consents.give_back(world.connection, BY)

        assert not await introspected(issuer, token)
        assert not await introspected(issuer, refresh_token)


@pytest.mark.parametrize("authentication", ["client_secret_post", "private_key_jwt"])
async def test_client_gets_tokens_by_its_own_credentials(
    issuer: str, tmp_path: Path, authentication: Any
) -> None:
    pem = KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    profile = OAuth(
        token_endpoint="/oauth/token",
        client_id=MACHINE if authentication == "client_secret_post" else SIGNER,
        client_secret=SecretStr(SECRET),
        private_key=SecretStr(pem.decode()),
        key_id="k1",
        authentication=authentication,
        scopes=["messages"],
    )
    now_ms = await _now_ms(issuer)
    async with opened(World(tmp_path, issuer)) as world:
        client = world.connection.client
        assert client is not None
        token = await TokenRequests(profile, client, FakeClock(now_ms)).fetch(None)

    assert token.scope == "messages"
    assert await introspected(issuer, token.access_token)


async def test_clock_that_is_wrong_is_put_right_by_the_server(issuer: str, tmp_path: Path) -> None:
    pem = KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    profile = OAuth(
        token_endpoint="/oauth/token",
        client_id=SIGNER,
        private_key=SecretStr(pem.decode()),
        authentication="private_key_jwt",
    )
    async with opened(World(tmp_path, issuer)) as world:
        client = world.connection.client
        assert client is not None
        made = TokenRequests(profile, client, FakeClock(await _now_ms(issuer) - 7_200_000))

        assert (await made.fetch(None)).access_token


async def _now_ms(issuer: str) -> int:
    """Return the judge's time."""
    import email.utils  # noqa: PLC0415 - only here

    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"{issuer}/.well-known/openid-configuration")
    return round(email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp() * 1000)
