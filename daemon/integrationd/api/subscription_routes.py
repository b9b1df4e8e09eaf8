"""Routes of subscriptions: who is told of which events, and what became of it."""

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.accept import decode
from integrationd.api.paging import options_of, page_of, read_page
from integrationd.api.parts import Parts
from integrationd.api.problems import problem
from integrationd.api.replies import json_reply, problem_reply
from integrationd.api.roles import Caller, Role
from integrationd.api.subscription_side import Again, Made, Shown, Wish
from integrationd.api.subscription_views import (
    DeliveryView,
    MadeSubscriptionView,
    RedeliveryView,
    SubscriptionView,
    TestView,
    delivery_view,
    subscription_fields,
)
from integrationd.api.tenancy import caller_of, no_such_tenant
from integrationd.api.told import PAGE, Page, Table, Told
from integrationd.call import CallState
from integrationd.clock import from_datetime
from integrationd.errors import UnprocessableError
from integrationd.journal import SubscriptionTerms

DAY_S = 86_400.0
_UNSTORED = (b"cache-control", b"no-store")
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=7 * DAY_S)]
_Text = Annotated[str, msgspec.Meta(max_length=200)]
_Secret = Annotated[str, msgspec.Meta(min_length=16, max_length=1000)]
_Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class SubscriptionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a subscription is to be.

    Attributes:
        url: Where events go: ``https://``.
        events: Names of events, prefixes such as ``payment.*``, or ``*`` for all.
        name: What people call it.
        description: What it is for.
        scheme: ``standard`` (Standard Webhooks) or ``simple`` (``X-Signature``).
        secret: What signs; made where absent. Only when it is made: see ``rotate``.
        headers: Sent along with every request. Of a change: those of before where absent.
        schedule: Seconds before each attempt; as the scheme says where absent.
        active: Whether it is told.
        allow_private: Whether the URL may be in a private network, plain http, and of any port.
        tenant: Whose events; of all tenants where null and the caller may.
    """

    url: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
    events: Annotated[list[_Text], msgspec.Meta(min_length=1, max_length=100)] = msgspec.field(
        default_factory=lambda: ["*"]
    )
    name: _Text = ""
    description: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    scheme: Literal["standard", "simple"] = "standard"
    secret: _Secret | None = None
    headers: dict[_Text, Annotated[str, msgspec.Meta(max_length=4000)]] | None = None
    schedule: Annotated[list[_Seconds], msgspec.Meta(min_length=1, max_length=30)] | None = None
    active: bool = True
    allow_private: bool = False
    tenant: str | None = None


class RotateSubscriptionRequest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What is to take a secret's place.

    Attributes:
        secret: The new secret; made where absent.
        overlap: Seconds for which the old one is still good. ``standard`` signs with both until
            then; ``simple`` signs with the old one alone until then.
    """

    secret: _Secret | None = None
    overlap: Annotated[float, msgspec.Meta(ge=0, le=30 * DAY_S)] = DAY_S


class RedeliverRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be delivered once more: one delivery, or the events of a range.

    Attributes:
        delivery: The id of one delivery.
        after: Events with a greater number.
        upto: Events up to this number.
        from_: Events from this time on.
        until: Events from before this time.
        dry_run: Only count.
    """

    delivery: _Text | None = None
    after: _Number | None = None
    upto: _Number | None = None
    from_: dt.datetime | None = msgspec.field(default=None, name="from")
    until: dt.datetime | None = None
    dry_run: bool = False


class SubscriptionRoutes:
    """The routes below ``/v1/subscriptions``."""

    def __init__(self, parts: Parts) -> None:
        self._side = parts.subscriptions
        self._tenants = parts.tenants
        self._clock = parts.clock
        self._masker = parts.masker

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/subscriptions", self.list_all),
            Route("/v1/subscriptions", self.create, methods=["POST"]),
            Route(_ONE, self.show),
            Route(_ONE, self.replace, methods=["PUT"]),
            Route(_ONE, self.remove, methods=["DELETE"]),
            Route(f"{_ONE}/rotate", self.rotate, methods=["POST"]),
            Route(f"{_ONE}/test", self.test, methods=["POST"]),
            Route(f"{_ONE}/deliveries", self.deliveries),
            Route(f"{_ONE}/redeliver", self.redeliver, methods=["POST"]),
        ]

    async def list_all(self, request: Request) -> Response:
        """List the subscriptions, the latest first."""
        page = read_page(request.query_params, ())
        within = caller_of(request).tenant
        found = await self._side.list(within, before=page.before, limit=page.limit)
        items = [self._view(one) for one in found]
        return json_reply(page_of(items, [one.stored.seq for one in found], page)).as_response()

    async def show(self, request: Request) -> Response:
        """Show one subscription."""
        found = await self._side.get(_id(request), caller_of(request).tenant)
        return json_reply(self._view(found)).as_response()

    async def create(self, request: Request) -> Response:
        """Make a subscription; this is the only time that its secret is shown."""
        options_of(request.query_params, ())
        wanted: SubscriptionRequest = decode(SubscriptionRequest, await request.body())
        caller = caller_of(request)
        refusal = _beyond(caller, wanted)
        if refusal is not None:
            return refusal
        tenant = self._tenant_of(caller, wanted.tenant)
        made = await self._side.add(tenant, _wish(wanted), wanted.secret, caller.by)
        return self._made(made)

    async def replace(self, request: Request) -> Response:
        """Change a subscription; one that was switched off goes on from where it stood."""
        wanted: SubscriptionRequest = decode(SubscriptionRequest, await request.body())
        caller = caller_of(request)
        before = await self._side.get(_id(request), caller.tenant)
        refusal = _beyond(caller, wanted)
        if refusal is not None:
            return refusal
        if wanted.tenant not in (None, before.stored.tenant):
            raise UnprocessableError("a subscription stays its tenant's", pointer="/tenant")
        if wanted.secret is not None:
            raise UnprocessableError(
                "a secret is not changed like this",
                pointer="/secret",
                hint="POST to its 'rotate', so that receivers have time to take the new one over.",
            )
        found = await self._side.replace(before.stored.id, caller.tenant, _wish(wanted), caller.by)
        return json_reply(self._view(found)).as_response()

    async def remove(self, request: Request) -> Response:
        """Delete a subscription; its deliveries that wait are called off."""
        caller = caller_of(request)
        await self._side.remove(_id(request), caller.tenant, caller.by)
        return Response(status_code=204)

    async def rotate(self, request: Request) -> Response:
        """Give it a new secret; this is the only time that it is shown."""
        body = await request.body()
        wanted: RotateSubscriptionRequest = (
            decode(RotateSubscriptionRequest, body) if body else RotateSubscriptionRequest()
        )
        caller = caller_of(request)
        made = await self._side.rotate(
            _id(request), caller.tenant, wanted.secret, wanted.overlap, caller.by
        )
        return self._made(made)

    async def test(self, request: Request) -> Response:
        """Send a test event."""
        call = await self._side.test(_id(request), caller_of(request).tenant)
        return json_reply(TestView(delivery=call.id), 202).as_response()

    async def deliveries(self, request: Request) -> Response:
        """List deliveries, the latest first."""
        page = read_page(request.query_params, ("state",))
        state = page.filters.get("state")
        if state is not None and state not in set(CallState):
            raise UnprocessableError(
                f"there is no state {state[:40]!r}; states are: {', '.join(CallState)}"
            )
        found = await self._side.deliveries(
            _id(request),
            caller_of(request).tenant,
            state=state,
            before=page.before,
            limit=page.limit,
        )
        items = [delivery_view(one, self._masker) for one in found]
        return json_reply(page_of(items, [one.call.seq for one in found], page)).as_response()

    async def redeliver(self, request: Request) -> Response:
        """Deliver once more; with ``dry_run`` only count."""
        wanted: RedeliverRequest = decode(RedeliverRequest, await request.body())
        caller, subscription = caller_of(request), _id(request)
        again = _again(wanted)
        if again is None:
            return await self._redeliver_one(caller, subscription, wanted)
        if wanted.dry_run:
            count = await self._side.count_again(subscription, caller.tenant, again)
            return json_reply(RedeliveryView(count=count, dry_run=True)).as_response()
        count = await self._side.tell_again(subscription, caller.tenant, again, caller.by)
        return json_reply(RedeliveryView(count=count), 202).as_response()

    async def _redeliver_one(
        self, caller: Caller, subscription: str, wanted: RedeliverRequest
    ) -> Response:
        if wanted.dry_run:
            await self._side.get(subscription, caller.tenant)
            return json_reply(RedeliveryView(count=1, dry_run=True)).as_response()
        call = await self._side.redeliver(subscription, caller.tenant, wanted.delivery or "")
        return json_reply(RedeliveryView(count=1, delivery=call.id), 202).as_response()

    def _tenant_of(self, caller: Caller, asked: str | None) -> str | None:
        """Return whose events a new subscription is told of; None for everybody's.

        Raises:
            UnprocessableError: There is no such tenant, or it is not the caller's own.
        """
        if caller.tenant is not None and asked not in (None, caller.tenant):
            raise no_such_tenant(asked or "")
        tenant = caller.tenant if asked is None else asked
        if tenant is not None and self._tenants.find(tenant) is None:
            raise no_such_tenant(tenant)
        return tenant

    def _view(self, found: Shown) -> SubscriptionView:
        return SubscriptionView(**subscription_fields(found))

    def _made(self, made: Made) -> Response:
        view = MadeSubscriptionView(secret=made.secret, **subscription_fields(made.shown))
        return json_reply(view, 201, [_UNSTORED]).as_response()


def _id(request: Request) -> str:
    subscription: str = request.path_params["subscription"]
    return subscription


def _beyond(caller: Caller, wanted: SubscriptionRequest) -> Response | None:
    """Refuse a private address to whoever is not of all tenants: it is the machine's network."""
    if not wanted.allow_private or caller.tenant is None:
        return None
    told = problem(
        403,
        "tenant_not_allowed",
        f"{caller.name} is of the tenant {caller.tenant}; allow_private is for admins of all",
        pointer="/allow_private",
        hint="Use an https:// URL that the internet reaches, or ask the operator.",
    )
    return problem_reply(told).as_response()


def _wish(wanted: SubscriptionRequest) -> Wish:
    terms = SubscriptionTerms(
        name=wanted.name,
        description=wanted.description,
        url=wanted.url,
        events=tuple(wanted.events),
        scheme=wanted.scheme,
        schedule_s=tuple(wanted.schedule or ()),
        allow_private=wanted.allow_private,
    )
    headers: Mapping[str, str] | None = wanted.headers
    return Wish(terms=terms, headers=headers, active=wanted.active)


def _again(wanted: RedeliverRequest) -> Again | None:
    """Return the range that is asked for; None where it is one delivery.

    Raises:
        UnprocessableError: It is neither, or both.
    """
    bounds = (wanted.after, wanted.upto, wanted.from_, wanted.until)
    is_range = any(one is not None for one in bounds)
    if is_range == (wanted.delivery is not None):
        raise UnprocessableError(
            "say either which delivery, or which events: after, upto, from, until",
            hint="With dry_run they are only counted.",
        )
    if wanted.delivery is not None:
        return None
    return Again(
        after=wanted.after,
        upto=wanted.upto,
        from_ms=_moment(wanted.from_, "/from"),
        until_ms=_moment(wanted.until, "/until"),
    )


def _moment(at: dt.datetime | None, pointer: str) -> int | None:
    if at is None:
        return None
    try:
        return from_datetime(at)
    except (ValueError, OverflowError) as error:
        raise UnprocessableError(str(error), pointer=pointer) from None


_ONE = "/v1/subscriptions/{subscription}"
TOLD: Table = {
    ("get", "/v1/subscriptions"): Told(
        summary="List the subscriptions, the latest first.",
        gives={200: Page[SubscriptionView]},
        query=PAGE,
        role=Role.STAFF,
    ),
    ("post", "/v1/subscriptions"): Told(
        summary="Make a subscription; this is the only time that its secret is shown.",
        gives={201: MadeSubscriptionView},
        takes=SubscriptionRequest,
        role=Role.ADMIN,
    ),
    ("get", _ONE): Told(
        summary="Show a subscription.", gives={200: SubscriptionView}, role=Role.STAFF
    ),
    ("put", _ONE): Told(
        summary="Change a subscription; one that was switched off goes on where it stood.",
        gives={200: SubscriptionView},
        takes=SubscriptionRequest,
        role=Role.ADMIN,
    ),
    ("delete", _ONE): Told(
        summary="Delete a subscription; its deliveries that wait are called off.",
        gives={204: None},
        role=Role.ADMIN,
    ),
    ("post", f"{_ONE}/rotate"): Told(
        summary="Give a subscription a new secret; this is the only time that it is shown.",
        gives={201: MadeSubscriptionView},
        takes=RotateSubscriptionRequest,
        needs_body=False,
        role=Role.ADMIN,
    ),
    ("post", f"{_ONE}/test"): Told(
        summary="Send a test event to a subscription.", gives={202: TestView}, role=Role.STAFF
    ),
    ("get", f"{_ONE}/deliveries"): Told(
        summary="List deliveries to a subscription, the latest first.",
        gives={200: Page[DeliveryView]},
        query=(*PAGE, "state"),
        personal="all",
        role=Role.STAFF,
    ),
    ("post", f"{_ONE}/redeliver"): Told(
        summary="Deliver one event, or those of a range, once more.",
        gives={200: RedeliveryView, 202: RedeliveryView},
        takes=RedeliverRequest,
        role=Role.STAFF,
    ),
}
