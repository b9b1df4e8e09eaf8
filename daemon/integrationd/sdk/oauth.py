"""OAuth 2.0: what a provider declares of its authorization server, and the requests to it.

Source: RFC 6749, RFC 7009, RFC 7523, RFC 7636, RFC 9207 and RFC 9700,
    https://www.rfc-editor.org/rfc/rfc6749, read 2026-11-21.
"""

import base64
import dataclasses
import email.utils
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

import httpx2
import msgspec
from pydantic import SecretStr

from integrationd.clock import Clock
from integrationd.sdk import classify
from integrationd.sdk.assertion import KIND, client_assertion, read_signing_key
from integrationd.sdk.http import PreparedClient
from integrationd.sdk.outcome import Rejected, Retryable, Throttled, Uncertain
from integrationd.sdk.token_keeping import Rotation, Token, TokenRequestError

Grant: TypeAlias = Literal["client_credentials", "authorization_code"]
Authentication: TypeAlias = Literal[
    "client_secret_basic", "client_secret_post", "none", "private_key_jwt"
]

LONGEST_SKEW_S = 30.0

_FORM = "application/x-www-form-urlencoded"
_SECONDS = re.compile(r"[0-9]{1,10}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
# What the server says of the grant itself; where a person gave it, a person has to give it anew.
_GRANT_IS_OVER = frozenset(
    {"invalid_grant", "access_denied", "interaction_required", "consent_required", "login_required"}
)
_LATER = frozenset({"temporarily_unavailable", "server_error"})
_SLOWER = frozenset({"slow_down", "authorization_pending"})
_BAD_CLIENT = "invalid_client"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OAuth:
    """What a provider declares of its authorization server.

    Endpoints are paths below the connection's ``base_url``, or whole addresses.

    Attributes:
        token_endpoint: Where tokens are asked for.
        client_id: Who asks.
        client_secret: What proves it; None with ``none`` and ``private_key_jwt``.
        private_key: PEM of an RSA, P-256 or Ed25519 key, for ``private_key_jwt``.
        key_id: By which the server finds its public half.
        grant: What a token is given for.
        authentication: How the client proves itself at the endpoints.
        authorization_endpoint: Where a person consents; a whole address.
        revocation_endpoint: Where tokens are given back; empty where there is none.
        issuer: What the server calls itself; checked where it says so on the way back.
        scopes: What is asked for.
        token_parameters: More parameters of token requests: ``audience``, ``resource``.
        authorization_parameters: More parameters of the address that a person opens.
        rotation: What becomes of a refresh token that was used; ``strict`` where in doubt.
        default_lifetime_s: For how long a token is good where the server does not say.
    """

    token_endpoint: str
    client_id: str
    client_secret: SecretStr | None = None
    private_key: SecretStr | None = None
    key_id: str = ""
    grant: Grant = "client_credentials"
    authentication: Authentication = "client_secret_basic"
    authorization_endpoint: str = ""
    revocation_endpoint: str = ""
    issuer: str = ""
    scopes: Sequence[str] = ()
    token_parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    authorization_parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    rotation: Rotation = "strict"
    default_lifetime_s: float = 3600.0

    @property
    def scope(self) -> str:
        """What is asked for, as it is sent."""
        return " ".join(self.scopes)

    @property
    def fingerprint(self) -> str:
        """A digest of what a token is bound to; with another one it is of no use."""
        bound = (self.token_endpoint, self.client_id, self.grant, self.scope)
        return hashlib.sha256(msgspec.msgpack.encode(bound)).hexdigest()


def code_challenge(verifier: str) -> str:
    """Return the S256 challenge of a code verifier (RFC 7636, section 4.2).

    Raises:
        ValueError: The verifier is not 43 to 128 of the characters that it may have.
    """
    if not _VERIFIER.fullmatch(verifier):
        raise ValueError("a code verifier has 43 to 128 characters of A-Z a-z 0-9 - . _ ~")
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def authorization_url(profile: OAuth, *, redirect_uri: str, state: str, verifier: str) -> str:
    """Return the address that a person opens to consent.

    Raises:
        ValueError: The profile has no such address.
    """
    if urlsplit(profile.authorization_endpoint).scheme not in ("http", "https"):
        raise ValueError("authorization_endpoint is not a whole address")
    asked = {
        **profile.authorization_parameters,
        "response_type": "code",
        "client_id": profile.client_id,
        "redirect_uri": redirect_uri,
        "state": state,
        "code_challenge": code_challenge(verifier),
        "code_challenge_method": "S256",
    }
    if profile.scope:
        asked["scope"] = profile.scope
    mark = "&" if "?" in profile.authorization_endpoint else "?"
    return f"{profile.authorization_endpoint}{mark}{urlencode(asked)}"


class TokenRequests:
    """Makes one connection's requests to its authorization server.

    Args:
        profile: What the provider declares.
        client: The connection's client.
        clock: Where time is read.
    """

    def __init__(self, profile: OAuth, client: httpx2.AsyncClient, clock: Clock) -> None:
        self._profile = profile
        self._client = client
        self._clock = clock
        self._skew_s = 0.0

    async def fetch(self, refresh_token: str | None) -> Token:
        """Get a token: by the client's own credentials, or by a refresh token.

        Raises:
            TokenRequestError: There is none.
        """
        profile = self._profile
        if profile.grant == "client_credentials":
            form = {"grant_type": "client_credentials"}
        elif refresh_token is not None:
            form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        else:
            nobody = Rejected(reason="not_authorised", detail="Nobody has consented yet.")
            raise TokenRequestError(nobody, is_over=True)
        # The same each time: some servers bind a refresh token to the scope it was given for.
        scope = {"scope": profile.scope} if profile.scope else {}
        return await self._token({**profile.token_parameters, **form, **scope})

    async def exchange(self, code: str, redirect_uri: str, verifier: str) -> Token:
        """Get the first token for the code that a person's consent brought.

        Raises:
            TokenRequestError: There is none; the code is spent all the same.
        """
        form = {
            **self._profile.token_parameters,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        return await self._token(form)

    async def revoke(self, token: str, hint: str) -> None:
        """Give a token back.

        Args:
            token: The token.
            hint: ``refresh_token`` or ``access_token``.

        Raises:
            TokenRequestError: The server has not said that it is void.
        """
        form = {"token": token, "token_type_hint": hint}
        response = await self._post(self._profile.revocation_endpoint, form)
        if response.status_code != httpx2.codes.OK:
            raise _refusal(response, _members(response), self._clock.now_ms())

    async def _token(self, form: Mapping[str, str]) -> Token:
        response = await self._post(self._profile.token_endpoint, form)
        said = _members(response)
        if self._is_our_clock(response, said):
            response = await self._post(self._profile.token_endpoint, form)
            said = _members(response)
        return self._read(response, said)

    def _is_our_clock(self, response: httpx2.Response, said: Mapping[str, str]) -> bool:
        """Say whether an assertion was refused since our clock and the server's differ."""
        if self._profile.authentication != "private_key_jwt" or said.get("error") != _BAD_CLIENT:
            return False
        before_s, self._skew_s = self._skew_s, skew_s(response, self._clock.now_ms())
        return abs(self._skew_s - before_s) > LONGEST_SKEW_S

    def _read(self, response: httpx2.Response, said: Mapping[str, str]) -> Token:
        access_token = said.get("access_token", "")
        if not response.is_success or "error" in said:
            raise _refusal(response, said, self._clock.now_ms())
        if not access_token:
            unreadable = Retryable(
                reason="no_token", detail="The token endpoint's answer has no token.", sent=False
            )
            raise TokenRequestError(unreadable, in_doubt=True)
        life = said.get("expires_in", "").partition(".")[0]
        is_told = _SECONDS.fullmatch(life) is not None
        # The client's own credentials get another one at any time, without a refresh token.
        refreshes = self._profile.grant == "authorization_code"
        return Token(
            access_token=access_token,
            expires_in_s=float(life) if is_told else self._profile.default_lifetime_s,
            refresh_token=(said.get("refresh_token") or None) if refreshes else None,
            token_type=said.get("token_type") or "Bearer",
            scope=said.get("scope") or None,
        )

    async def _post(self, endpoint: str, form: Mapping[str, str]) -> httpx2.Response:
        client, path, address = self._addressed(endpoint)
        fields, headers = self._authenticated(address)
        try:
            return await client.post(
                path,
                content=urlencode({**form, **fields}).encode(),
                headers={"Content-Type": _FORM, "Accept": "application/json", **headers},
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _unanswered(error) from error

    def _addressed(self, endpoint: str) -> tuple[httpx2.AsyncClient, str, str]:
        """Return the client for an endpoint, what it is given, and the whole address."""
        parts = urlsplit(endpoint)
        if not parts.scheme:
            return self._client, endpoint, f"{str(self._client.base_url).rstrip('/')}{endpoint}"
        if not isinstance(self._client, PreparedClient):
            return self._client, endpoint, endpoint
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        return self._client.beside(f"{parts.scheme}://{parts.netloc}"), path, endpoint

    def _authenticated(self, address: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return the fields and headers by which the client proves itself."""
        profile = self._profile
        secret = profile.client_secret.get_secret_value() if profile.client_secret else ""
        match profile.authentication:
            case "client_secret_basic":
                pair = f"{quote_plus(profile.client_id)}:{quote_plus(secret)}"
                return {}, {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
            case "client_secret_post":
                return {"client_id": profile.client_id, "client_secret": secret}, {}
            case "none":
                return {"client_id": profile.client_id}, {}
            case "private_key_jwt":
                return self._asserted(address), {}

    def _asserted(self, address: str) -> dict[str, str]:
        profile = self._profile
        pem = profile.private_key.get_secret_value() if profile.private_key else ""
        try:
            key = read_signing_key(pem)
        except ValueError as error:
            bad = Rejected(reason="bad_credentials", detail=f"No access token: {error}.")
            raise TokenRequestError(bad) from None
        assertion = client_assertion(
            key,
            client_id=profile.client_id,
            audience=address,
            key_id=profile.key_id,
            now_s=round(self._clock.now_ms() / 1000 + self._skew_s),
        )
        return {
            "client_id": profile.client_id,
            "client_assertion_type": KIND,
            "client_assertion": assertion,
        }


def skew_s(response: httpx2.Response, now_ms: int) -> float:
    """Return by how much the server's clock is ahead of ours, seconds; 0 where it is near."""
    try:
        at = email.utils.parsedate_to_datetime(response.headers.get("Date", ""))
        ahead_s = at.timestamp() - now_ms / 1000
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return ahead_s if abs(ahead_s) > LONGEST_SKEW_S else 0.0


def _members(response: httpx2.Response) -> Mapping[str, str]:
    """Return what an answer says, in JSON or as a form; empty where it says nothing readable."""
    try:
        said: Any = msgspec.json.decode(response.content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        text = response.content[:65_536].decode("utf-8", "replace")
        said = dict(parse_qsl(text)) if "=" in text and "<" not in text else {}
    if not isinstance(said, dict):
        return {}
    return {
        name: str(value)
        for name, value in said.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    }


def _refusal(response: httpx2.Response, said: Mapping[str, str], now_ms: int) -> TokenRequestError:
    """Say what an answer without a token means; whatever it is, the call has not been sent."""
    wait_s = classify.retry_after_s(response.headers.get("Retry-After", ""), now_ms)
    error = classify.excerpt(said.get("error", "").encode())
    detail = _in_words(response, error, said)
    status = response.status_code
    if status == httpx2.codes.TOO_MANY_REQUESTS or error in _SLOWER:
        return TokenRequestError(Throttled(wait_s=wait_s, detail=detail))
    if error in _LATER or status >= httpx2.codes.INTERNAL_SERVER_ERROR:
        later = Retryable(reason="no_token", detail=detail, sent=False, wait_s=wait_s)
        refused = status == httpx2.codes.SERVICE_UNAVAILABLE or error == "temporarily_unavailable"
        return TokenRequestError(later, in_doubt=not refused)
    if error in _GRANT_IS_OVER:
        return TokenRequestError(Rejected(reason=error, detail=detail), is_over=True)
    if error == _BAD_CLIENT or (not error and status == httpx2.codes.UNAUTHORIZED):
        return TokenRequestError(Rejected(reason="bad_credentials", detail=detail))
    return TokenRequestError(Rejected(reason=error or f"http_{status}", detail=detail))


def _in_words(response: httpx2.Response, error: str, said: Mapping[str, str]) -> str:
    more = classify.excerpt(said.get("error_description", "").encode())
    if not error:
        return f"The authorization server answered {response.status_code} and gave no token."
    # Nothing follows the word "token" and a colon, since that would be masked as one.
    return f"The authorization server said {error}{f': {more}' if more else ''}".rstrip(".") + "."


def _unanswered(error: Exception) -> TokenRequestError:
    match classify.of_error(error):
        case Rejected() as refused:
            return TokenRequestError(refused)
        case Throttled() as throttled:
            return TokenRequestError(throttled)
        case Retryable(reason=reason, detail=detail, sent=False):
            told = f"No access token could be asked for. {detail}"
            return TokenRequestError(Retryable(reason=reason, detail=told, sent=False))
        case Retryable(reason=reason) | Uncertain(reason=reason):
            told = f"The token endpoint was asked, but there was no answer to read: {reason}."
            unknown = Retryable(reason=reason, detail=told, sent=False)
            return TokenRequestError(unknown, in_doubt=True)
