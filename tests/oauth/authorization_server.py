"""An authorization server on loopback, and the service that its tokens open: strict and scripted.

A refresh token is void once it was used; using it again voids the whole family, as RFC 9700 asks.
"""

import base64
import dataclasses
import hashlib
import itertools
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from tests.sdk.scripted_server import Peer, Received, serving

CLIENT, SECRET = "shop & co", "s3cret+of the:shop"
TOKEN, REVOKE, SEND = "/oauth/token", "/oauth/revoke", "/v1/messages"

Fault = Callable[[Peer, "Answer"], Awaitable[None]]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is to be answered, and with which headers."""

    status: int
    body: Any
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_bytes(self) -> bytes:
        content = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        named = {"Content-Type": "application/json", **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        head = f"HTTP/1.1 {self.status} X\r\n{lines}Content-Length: {len(content)}\r\n\r\n"
        return head.encode() + content


class AuthorizationServer:
    """The server's books.

    Attributes:
        url: Where it is.
        asked: Every token request, as its form.
        counts: Token requests by grant, and requests to the service.
        script: Answers or faults for the next token requests, before the books are asked.
        lifetime_s: How long access tokens are good, as it says.
        rotates: Whether a refresh voids the refresh token that it was made with.
        good: The access tokens that the service takes.
        refresh: The refresh token that is good now, of each family.
        voided: Families that were voided since a spent refresh token was used again.
        revoked: Tokens that were given back.
    """

    def __init__(self, *, lifetime_s: float = 3600, rotates: bool = True) -> None:
        self.url = ""
        self.asked: list[dict[str, str]] = []
        self.received: list[Received] = []
        self.counts: Counter[str] = Counter()
        self.script: deque[Answer | Fault] = deque()
        self.lifetime_s = lifetime_s
        self.rotates = rotates
        self.good: set[str] = set()
        self.refresh: dict[str, int] = {}
        self.voided: set[int] = set()
        self.spent: dict[str, int] = {}
        self.codes: dict[str, str] = {}
        self.revoked: list[str] = []
        self.revocation = Answer(200, {})
        self._numbers = itertools.count(1)

    def new_code(self, code: str, challenge: str) -> None:
        """Let a code be exchanged, once, by whoever knows the verifier."""
        self.codes[code] = challenge

    def consent(self) -> str:
        """Return the refresh token of a new family."""
        return self._refresh_token(next(self._numbers))

    def expire(self) -> None:
        """Void every access token."""
        self.good.clear()

    async def answer(self, peer: Peer) -> None:
        """Answer one request."""
        request = await peer.request()
        self.received.append(request)
        path = request.target.partition("?")[0]
        if path == SEND:
            await peer.send(self._served(request).to_bytes())
        elif path == REVOKE:
            self.revoked.append(dict(parse_qsl(request.body.decode()))["token"])
            await peer.send(self.revocation.to_bytes())
        else:
            await self._give(peer, request)

    async def _give(self, peer: Peer, request: Received) -> None:
        form = dict(parse_qsl(request.body.decode()))
        self.asked.append(form)
        self.counts[form["grant_type"]] += 1
        scripted = self.script.popleft() if self.script else None
        if isinstance(scripted, Answer):
            await peer.send(scripted.to_bytes())
            return
        given = self._given(form, request)
        if scripted is not None:
            await scripted(peer, given)
        else:
            await peer.send(given.to_bytes())

    def _given(self, form: dict[str, str], request: Received) -> Answer:
        if not self._knows(form, request):
            return Answer(401, {"error": "invalid_client"})
        match form["grant_type"]:
            case "client_credentials":
                return self._token(None)
            case "authorization_code":
                return self._exchanged(form)
            case "refresh_token":
                return self._refreshed(form["refresh_token"])
            case _:
                return Answer(400, {"error": "unsupported_grant_type"})

    def _knows(self, form: dict[str, str], request: Received) -> bool:
        kind, _, content = request.headers.get("authorization", "").partition(" ")
        if kind == "Basic":
            name, _, secret = base64.b64decode(content).decode().partition(":")
            return (unquote_plus(name), unquote_plus(secret)) == (CLIENT, SECRET)
        if "client_secret" in form:
            return (form["client_id"], form["client_secret"]) == (CLIENT, SECRET)
        return form.get("client_id") == CLIENT

    def _exchanged(self, form: dict[str, str]) -> Answer:
        challenge = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if challenge != base64.urlsafe_b64encode(digest).rstrip(b"=").decode():
            return Answer(400, {"error": "invalid_grant"})
        return self._token(self._refresh_token(next(self._numbers)))

    def _refreshed(self, token: str) -> Answer:
        family = self.refresh.get(token)
        if family is None or family in self.voided:
            self.voided.add(self.spent.get(token, 0))
            return Answer(
                400, {"error": "invalid_grant", "error_description": "grant request is invalid"}
            )
        if not self.rotates:
            return self._token(None)
        del self.refresh[token]
        self.spent[token] = family
        return self._token(self._refresh_token(family))

    def _refresh_token(self, family: int) -> str:
        token = f"refresh-{next(self._numbers)}-made-up"
        self.refresh[token] = family
        return token

    def _token(self, refresh_token: str | None) -> Answer:
        token = f"access-{next(self._numbers)}-made-up"
        self.good.add(token)
        said: dict[str, Any] = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": self.lifetime_s,
        }
        if refresh_token is not None:
            said["refresh_token"] = refresh_token
        return Answer(200, said)

    def _served(self, request: Received) -> Answer:
        self.counts["send"] += 1
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token in self.good:
            self.counts["taken"] += 1
            return Answer(200, {"id": f"m-{self.counts['taken']}"})
        self.counts["refused"] += 1
        header = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        return Answer(401, {"error": "invalid_token"}, header)


@asynccontextmanager
async def authorization_server(
    server: AuthorizationServer | None = None,
) -> AsyncIterator[AuthorizationServer]:
    """Serve on loopback."""
    books = server or AuthorizationServer()

    async def script(peer: Peer) -> None:
        while True:
            await books.answer(peer)

    async with serving(script) as seen:
        books.url = seen.url
        yield books


async def lost(peer: Peer, _answer: Answer) -> None:
    """Close without the answer, after everything was done."""
    peer.reset()
    raise ConnectionResetError
