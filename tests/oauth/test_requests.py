"""Requests to an authorization server: what is sent, and what each answer means."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pydantic import SecretStr
from tests.oauth.authorization_server import CLIENT, SECRET, Answer, AuthorizationServer, lost
from tests.sdk.scripted_server import unused_port

from integrationd.sdk.http import prepare_client
from integrationd.sdk.oauth import OAuth, TokenRequests, authorization_url, code_challenge
from integrationd.sdk.outcome import Rejected, Retryable, Throttled
from integrationd.sdk.testing import FakeClock
from integrationd.sdk.token_keeping import TokenRequestError

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


def profile(**changed: Any) -> OAuth:
    given: dict[str, Any] = {
        "token_endpoint": "/oauth/token",
        "revocation_endpoint": "/oauth/revoke",
        "client_id": CLIENT,
        "client_secret": SecretStr(SECRET),
    }
    return OAuth(**given | changed)


@pytest.fixture
async def client(server: AuthorizationServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with prepare_client(base_url=server.url, timeout_s=5, allow_private=True) as made:
        yield made


def requests(client: httpx2.AsyncClient, **changed: Any) -> TokenRequests:
    return TokenRequests(profile(**changed), client, FakeClock())


def form_of(server: AuthorizationServer) -> dict[str, str]:
    return server.asked[-1]


async def refusal(made: TokenRequests, refresh_token: str | None = None) -> TokenRequestError:
    with pytest.raises(TokenRequestError) as caught:
        await made.fetch(refresh_token)
    return caught.value


# What is sent


async def test_secret_goes_form_encoded_into_basic(
    server: AuthorizationServer, client: httpx2.AsyncClient
) -> None:
    token = await requests(client).fetch(None)

    sent = server.received[0].headers
    plain = base64.b64decode(sent["authorization"].removeprefix("Basic ")).decode()
    assert plain == "shop+%26+co:s3cret%2Bof+the%3Ashop"
    assert sent["content-type"] == "application/x-www-form-urlencoded"
    assert token.access_token in server.good


async def test_secret_goes_into_the_form_where_the_server_wants_it_there(
    server: AuthorizationServer, client: httpx2.AsyncClient
) -> None:
    await requests(client, authentication="client_secret_post").fetch(None)

    assert form_of(server) | {"client_id": CLIENT, "client_secret": SECRET} == form_of(server)
    assert "authorization" not in server.received[0].headers


async def test_scope_and_more_parameters_are_sent_each_time(
    server: AuthorizationServer, client: httpx2.AsyncClient
) -> None:
    asking = {"scopes": ["a", "b"], "token_parameters": {"audience": "https://api.example"}}
    await requests(client, **asking).fetch(None)
    refresh_token = server.consent()
    await requests(client, grant="authorization_code", **asking).fetch(refresh_token)

    assert [one["scope"] for one in server.asked] == ["a b", "a b"]
    assert {one["audience"] for one in server.asked} == {"https://api.example"}


async def test_exchange_sends_code_verifier_and_the_same_address(
    server: AuthorizationServer, client: httpx2.AsyncClient
) -> None:
    server.new_code("the-code", code_challenge(VERIFIER))
    made = requests(client, grant="authorization_code", authentication="none")

    token = await made.exchange("the-code", "https://x.test/oauth/callback", VERIFIER)

    assert form_of(server) == {
        "grant_type": "authorization_code",
        "code": "the-code",
        "redirect_uri": "https://x.test/oauth/callback",
        "code_verifier": VERIFIER,
        "client_id": CLIENT,
    }
    assert token.refresh_token in server.refresh


async def test_endpoint_may_be_on_another_host(server: AuthorizationServer) -> None:
    async with prepare_client(
        base_url=f"http://127.0.0.1:{unused_port()}/api", timeout_s=5, allow_private=True
    ) as elsewhere:
        token = await requests(elsewhere, token_endpoint=f"{server.url}/oauth/token").fetch(None)

    assert token.access_token in server.good


def test_challenge_is_that_of_rfc_7636() -> None:
    """Appendix B."""
    assert code_challenge(VERIFIER) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.mark.parametrize("bad", ["", "a" * 42, "a" * 129, "a" * 42 + "+"])
def test_verifier_of_another_shape_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="43 to 128"):
        code_challenge(bad)


def test_address_to_open_has_all_that_the_server_needs() -> None:
    asked = profile(
        authorization_endpoint="https://id.example/authorize?kind=shop",
        scopes=["a", "b"],
        authorization_parameters={"access_type": "offline", "state": "not this one"},
    )

    url = authorization_url(
        asked, redirect_uri="https://x.test/oauth/callback", state="s1", verifier=VERIFIER
    )

    assert url.startswith("https://id.example/authorize?kind=shop&")
    assert parse_qs(urlsplit(url).query) == {
        "kind": ["shop"],
        "access_type": ["offline"],
        "response_type": ["code"],
        "client_id": [CLIENT],
        "redirect_uri": ["https://x.test/oauth/callback"],
        "state": ["s1"],
        "code_challenge": ["E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"],
        "code_challenge_method": ["S256"],
        "scope": ["a b"],
    }


def test_address_to_open_needs_a_whole_endpoint() -> None:
    with pytest.raises(ValueError, match="whole address"):
        authorization_url(profile(), redirect_uri="x", state="s", verifier=VERIFIER)


# Assertions


def pem(key: Any) -> SecretStr:
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return SecretStr(text.decode())


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def verify(key: Any, content: bytes, signature: bytes) -> None:
    public = key.public_key()
    match public:
        case rsa.RSAPublicKey():
            public.verify(signature, content, padding.PKCS1v15(), hashes.SHA256())
        case ec.EllipticCurvePublicKey():
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            public.verify(encode_dss_signature(r, s), content, ec.ECDSA(hashes.SHA256()))
        case _:
            public.verify(signature, content)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (rsa.generate_private_key(65537, 2048), "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
    ids=["rsa", "p256", "ed25519"],
)
async def test_assertion_is_signed_for_this_endpoint_and_this_minute(
    server: AuthorizationServer, client: httpx2.AsyncClient, key: Any, name: str
) -> None:
    made = requests(
        client,
        authentication="private_key_jwt",
        client_secret=None,
        private_key=pem(key),
        key_id="k1",
    )

    await made.fetch(None)

    header, claims, signature = form_of(server)["client_assertion"].split(".")
    verify(key, f"{header}.{claims}".encode(), decoded(signature))
    assert json.loads(decoded(header)) == {"alg": name, "typ": "JWT", "kid": "k1"}
    said = json.loads(decoded(claims))
    now_s = FakeClock().now_ms() // 1000
    assert (said["iss"], said["sub"], said["aud"]) == (CLIENT, CLIENT, f"{server.url}/oauth/token")
    assert (said["iat"], said["exp"]) == (now_s, now_s + 60)
    assert len(said["jti"]) >= 32


@pytest.mark.parametrize("ahead_s", [3600, -3600])
async def test_assertion_is_repeated_once_by_the_servers_clock(
    server: AuthorizationServer, client: httpx2.AsyncClient, ahead_s: int
) -> None:
    theirs = httpx2.Response(200, headers={"Date": http_date(ahead_s)}).headers["Date"]
    refused = Answer(401, {"error": "invalid_client"}, {"Date": theirs})
    server.script.append(refused)
    key = ed25519.Ed25519PrivateKey.generate()
    made = requests(client, authentication="private_key_jwt", private_key=pem(key))

    await made.fetch(None)

    times = [
        json.loads(decoded(one["client_assertion"].split(".")[1]))["iat"] for one in server.asked
    ]
    assert times[1] - times[0] == ahead_s


async def test_assertion_is_not_repeated_where_the_clocks_agree(
    server: AuthorizationServer, client: httpx2.AsyncClient
) -> None:
    server.script.append(Answer(401, {"error": "invalid_client"}, {"Date": http_date(29)}))
    key = ed25519.Ed25519PrivateKey.generate()
    made = requests(client, authentication="private_key_jwt", private_key=pem(key))

    error = await refusal(made)

    assert (error.failure.__class__, len(server.asked)) == (Rejected, 1)


@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n"])
async def test_key_that_is_none_is_told(client: httpx2.AsyncClient, text: str) -> None:
    made = requests(client, authentication="private_key_jwt", private_key=SecretStr(text))

    error = await refusal(made)

    assert isinstance(error.failure, Rejected)
    assert "private key" in error.failure.detail


def http_date(ahead_s: int) -> str:
    import email.utils  # noqa: PLC0415 - only here

    return email.utils.formatdate(FakeClock().now_ms() / 1000 + ahead_s, usegmt=True)


# What is answered


async def test_answer_may_be_a_form(
    server: AuthorizationServer, client: httpx2.AsyncClient
) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    server.script.append(Answer(200, b"access_token=abc%2B1&expires_in=60&scope=a+b", form))

    token = await requests(client).fetch(None)

    assert (token.access_token, token.expires_in_s, token.scope) == ("abc+1", 60.0, "a b")


@pytest.mark.parametrize(
    ("said", "life_s"),
    [({"expires_in": "300"}, 300.0), ({"expires_in": 299.9}, 299.0), ({}, 1800.0)]
    + [({"expires_in": bad}, 1800.0) for bad in ("", "soon", None, True, -5)],
)
async def test_life_is_the_declared_one_where_the_server_does_not_say(
    server: AuthorizationServer,
    client: httpx2.AsyncClient,
    said: Mapping[str, Any],
    life_s: float,
) -> None:
    server.script.append(Answer(200, {"access_token": "abc", **said}))

    token = await requests(client, default_lifetime_s=1800.0).fetch(None)

    assert token.expires_in_s == life_s


async def test_refresh_token_is_none_of_the_clients_own_grant(
    server: AuthorizationServer, client: httpx2.AsyncClient
) -> None:
    server.script.append(Answer(200, {"access_token": "abc", "refresh_token": "def"}))

    assert (await requests(client).fetch(None)).refresh_token is None


REFUSALS: list[tuple[Answer, type, bool, bool]] = [
    (Answer(400, {"error": "invalid_grant"}), Rejected, False, True),
    (Answer(200, {"error": "invalid_grant"}), Rejected, False, True),
    (Answer(200, b"error=invalid_grant&error_description=over"), Rejected, False, True),
    (Answer(400, {"error": "interaction_required"}), Rejected, False, True),
    (Answer(401, {"error": "invalid_client"}), Rejected, False, False),
    (Answer(401, b"<html>no</html>"), Rejected, False, False),
    (Answer(400, {"error": "invalid_scope"}), Rejected, False, False),
    (Answer(403, b"no"), Rejected, False, False),
    (Answer(302, b"", {"Location": "https://elsewhere.example/"}), Rejected, False, False),
    (Answer(400, {"error": "slow_down"}), Throttled, False, False),
    (Answer(429, b"", {"Retry-After": "7"}), Throttled, False, False),
    (Answer(503, b"", {"Retry-After": "7"}), Retryable, False, False),
    (Answer(400, {"error": "temporarily_unavailable"}), Retryable, False, False),
    (Answer(500, b"oops"), Retryable, True, False),
    (Answer(400, {"error": "server_error"}), Retryable, True, False),
    (Answer(200, b"<html>a=b</html>"), Retryable, True, False),
    (Answer(200, b"[1]"), Retryable, True, False),
    (Answer(200, {"token_type": "Bearer"}), Retryable, True, False),
]


@pytest.mark.parametrize(("answer", "kind", "in_doubt", "is_over"), REFUSALS)
async def test_answer_without_a_token_says_what_follows(
    server: AuthorizationServer,
    client: httpx2.AsyncClient,
    answer: Answer,
    kind: type,
    in_doubt: bool,
    is_over: bool,
) -> None:
    server.script.append(answer)

    error = await refusal(requests(client, grant="authorization_code"), "refresh-me")

    assert (type(error.failure), error.in_doubt, error.is_over) == (kind, in_doubt, is_over)
    assert getattr(error.failure, "sent", False) is False
    assert error.failure.detail
    if "Retry-After" in answer.headers:
        assert getattr(error.failure, "wait_s", None) == 7.0


async def test_lost_answer_is_in_doubt(
    server: AuthorizationServer, client: httpx2.AsyncClient
) -> None:
    server.script.append(lost)

    error = await refusal(requests(client))

    assert (type(error.failure), error.in_doubt) == (Retryable, True)


async def test_request_that_never_left_is_in_no_doubt() -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    async with prepare_client(base_url=url, timeout_s=5, allow_private=True) as nobody:
        error = await refusal(requests(nobody))

    assert isinstance(error.failure, Retryable)
    assert (error.failure.reason, error.failure.sent) == ("connection_refused", False)
    assert not error.in_doubt


async def test_nobody_is_asked_without_a_refresh_token(
    server: AuthorizationServer, client: httpx2.AsyncClient
) -> None:
    error = await refusal(requests(client, grant="authorization_code"))

    assert error.is_over
    assert not server.asked


# Giving back


async def test_token_is_given_back_with_its_kind(
    server: AuthorizationServer, client: httpx2.AsyncClient
) -> None:
    await requests(client).revoke("refresh-1", "refresh_token")

    assert server.revoked == ["refresh-1"]
    assert b"token_type_hint=refresh_token" in server.received[-1].body


@pytest.mark.parametrize("status", [204, 400, 404, 500, 503])
async def test_token_is_void_only_after_a_200(
    server: AuthorizationServer, client: httpx2.AsyncClient, status: int
) -> None:
    server.revocation = Answer(status, {})

    with pytest.raises(TokenRequestError):
        await requests(client).revoke("refresh-1", "refresh_token")
