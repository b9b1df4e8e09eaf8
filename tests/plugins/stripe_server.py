"""Stripe on loopback: strict about parameters and keys; its lists know all, its search lags.

What its customers do, and what was charged, is the account's (:mod:`tests.plugins.stripe_account`).
"""

import dataclasses
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from tests.plugins.stripe_account import Account, Object, RefusedError

KEY = "sk_test_made_up"
FORM = "application/x-www-form-urlencoded"
KEY_KEPT_S = 24 * 3600

_PARAMS = {
    "/v1/checkout/sessions": "mode success_url cancel_url client_reference_id customer"
    " customer_email line_items metadata payment_intent_data",
    "/v1/payment_intents": "amount currency automatic_payment_methods customer receipt_email"
    " description metadata",
    "/v1/refunds": "payment_intent charge amount reason metadata",
    "/v1/customers": "email name phone description metadata",
    "/v1/billing_portal/sessions": "customer return_url",
}


class DroppedError(Exception):
    """The connection breaks before the reply."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What goes wrong with one request that does something.

    Attributes:
        status: What it is answered with.
        error: The error in the answer.
        headers: Of the answer.
        acts: Whether it is done all the same; what is, is remembered under the key.
    """

    status: int
    error: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    acts: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """What a key was used for, and what that came to."""

    fingerprint: object
    at_s: float
    status: int
    body: Object


async def undisturbed(_request: Request) -> None:
    """Let every reply through."""


class FakeStripe(Account):
    """Stripe's API for one account, as an ASGI app.

    Attributes:
        troubles: What goes wrong with the next requests that do something.
        before_reply: Called after the effect and before the reply; what it raises is passed on.
        seen: Method, path and parameters of every request.
        search_lag_s: Seconds after which the search knows a new intent.
    """

    def __init__(self, now: Callable[[], float] = time.time, webhook_url: str = "") -> None:
        super().__init__(now, webhook_url)
        self._keys: dict[str, Kept] = {}
        self._under_way: set[str] = set()
        self.troubles: deque[Trouble] = deque()
        self.before_reply: Callable[[Request], Awaitable[None]] = undisturbed
        self.seen: list[tuple[str, str, Object]] = []
        self.search_lag_s = 60.0

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        body = (await request.body()).decode()
        key = request.headers.get("idempotency-key", "")
        is_first = bool(key) and key not in self._under_way
        try:
            response = self._answer(request, body or request.url.query)
            if is_first:
                self._under_way.add(key)
            await self.before_reply(request)
        finally:
            if is_first:
                self._under_way.discard(key)
        await response(scope, receive, send)

    def hold(self, key: str) -> None:
        """Leave a request with this key under way."""
        self._under_way.add(key)

    def forget(self) -> None:
        """Forget all keys, as Stripe may after a day."""
        self._keys.clear()

    def _answer(self, request: Request, given: str) -> Response:
        path, params = request.url.path, nested(given)
        self.seen.append((request.method, path, params))
        headers = {"Request-Id": f"req_{next(self.serial)}"}
        try:
            _check(request)
            if request.method == "GET":
                return JSONResponse(self._read(path, params), headers=headers)
            return self._once(request, params, headers)
        except RefusedError as refused:
            return JSONResponse(refused.body, refused.status, headers)

    def _once(self, request: Request, params: Object, headers: dict[str, str]) -> Response:
        """Do something once for each key; whatever came of it is its answer from then on."""
        key, path = request.headers.get("idempotency-key"), request.url.path
        if key in self._under_way:
            raise RefusedError(409, "In progress", code="idempotency_key_in_use")
        fingerprint = (request.method, path, params)
        kept = self._keys.get(key or "")
        if kept is not None and kept.at_s + KEY_KEPT_S > self.now():
            if kept.fingerprint != fingerprint:
                raise RefusedError(400, "Other parameters", type="idempotency_error")
            headers["Idempotent-Replayed"] = "true"
            return JSONResponse(kept.body, kept.status, headers)
        trouble = self.troubles.popleft() if self.troubles else None
        acts = trouble is None or trouble.acts
        status, body = 200, self._act(*fingerprint) if acts else {}
        if trouble is not None:
            status, body = trouble.status, {"error": dict(trouble.error)}
            headers.update(trouble.headers)
        if key and acts:
            self._keys[key] = Kept(fingerprint, self.now(), status, snapshot(body))
        return JSONResponse(body, status, headers)

    def _read(self, path: str, params: Object) -> Object:
        if path == "/v1/balance":
            return {"object": "balance", "available": []}
        if path == "/v1/payment_intents/search":
            return self._search(params["query"])
        place = path.removeprefix("/v1/")
        kind, _, thing_id = place.rpartition("/")
        if not kind or place == "checkout/sessions":
            return self._list(place, params)
        found = self.find(kind, thing_id)
        intent = self.payments.get(found.get("payment_intent") or "")
        is_whole = intent is not None and "expand" in params
        return found | {"payment_intent": intent} if is_whole else found

    def _list(self, kind: str, params: Object) -> Object:
        created = params.get("created", {})
        first, last = int(created.get("gte", 0)), int(created.get("lte", 1 << 40))
        found = [
            one
            for one in reversed(self.shelf(kind).values())
            if first <= one["created"] <= last
            and all(
                one.get(name) == params.get(name, one.get(name))
                for name in ("payment_intent", "charge")
            )
        ]
        if "starting_after" in params:
            found = found[[one["id"] for one in found].index(params["starting_after"]) + 1 :]
        limit = int(params.get("limit", 10))
        return {"object": "list", "data": found[:limit], "has_more": len(found) > limit}

    def _search(self, query: str) -> Object:
        wanted = re.fullmatch(r"metadata\['(.+)'\]:'(.+)'", query)
        assert wanted is not None
        until = self.now() - self.search_lag_s
        intents = self.shelf("payment_intents").values()
        found = [
            one
            for one in intents
            if one["created"] <= until and one["metadata"].get(wanted[1]) == wanted[2]
        ]
        return {"object": "search_result", "data": found, "has_more": False}

    def _act(self, method: str, path: str, params: Object) -> Object:
        unknown = set(params) - set(_PARAMS.get(path, " ".join(params)).split())
        if unknown:
            raise RefusedError(400, f"Received unknown parameter: {min(unknown)}")
        makers: dict[str, Callable[[Object], Object]] = {
            "/v1/checkout/sessions": self.make_session,
            "/v1/payment_intents": self.make_intent,
            "/v1/refunds": self.make_refund,
            "/v1/customers": self.make_customer,
            "/v1/billing_portal/sessions": self.make_portal,
        }
        if path in makers:
            return makers[path](params)
        found = re.fullmatch(r"/v1/(.+?)/(\w+_\w+)(?:/(\w+))?", path)
        assert found is not None
        return self.change(method, self.find(found[1], found[2]), found[3], params)


def snapshot(body: Object) -> Object:
    """Return a body as it is now, which later changes do not reach."""
    copied: Object = msgspec.json.decode(msgspec.json.encode(body))
    return copied


def nested(form: str) -> Object:
    """Read ``a[b]=v`` as objects in objects."""
    root: Object = {}
    for name, value in parse_qsl(form, keep_blank_values=True):
        *way, last = re.findall(r"[^\[\]]+", name)
        place = root
        for step in way:
            place = place.setdefault(step, {})
        place[last] = value
    return root


def _check(request: Request) -> None:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        raise RefusedError(401, "Invalid API Key provided: sk_test_****_up")
    version = request.headers.get("stripe-version", "")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d\.[a-z]+", version):
        raise RefusedError(400, "Invalid Stripe API version")
    if request.method == "POST" and request.headers.get("content-type") != FORM:
        raise RefusedError(400, "Invalid content type")
