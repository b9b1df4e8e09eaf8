"""The API as one ASGI app: who is calling, the hot routes by hand, everything else by Starlette."""

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from integrationd.api.auth import Access, AccessRefusedError
from integrationd.api.authorisation_routes import AuthorisationRoutes
from integrationd.api.body import ClientGoneError, read_body
from integrationd.api.call_routes import CallRoutes
from integrationd.api.config_routes import ConfigRoutes
from integrationd.api.connection_change_routes import ConnectionChangeRoutes
from integrationd.api.connection_routes import ConnectionRoutes
from integrationd.api.erasure_routes import ErasureRoutes
from integrationd.api.event_routes import EventRoutes
from integrationd.api.idempotency import key_of
from integrationd.api.key_routes import KeyRoutes
from integrationd.api.openapi import OpenApiRoutes
from integrationd.api.openapi_table import ROUTES, SUBMIT_ROLE
from integrationd.api.paging import options_of
from integrationd.api.parts import Parts
from integrationd.api.people import without_personal
from integrationd.api.problems import Problem, problem, problem_of
from integrationd.api.replies import Reply, problem_reply
from integrationd.api.resource_routes import ResourceRoutes
from integrationd.api.roles import role_refusal
from integrationd.api.screening import screen
from integrationd.api.submit import OPTIONS, Submitter
from integrationd.api.subscription_routes import SubscriptionRoutes
from integrationd.api.tenancy import caller_of
from integrationd.api.tenant_routes import TenantRoutes
from integrationd.api.told import Told
from integrationd.api.users.paths import WITH_OPTIONS, UsersPaths
from integrationd.api.users.prefix import OURS, PREFIX, to_ours
from integrationd.api.vault_routes import VaultRoutes
from integrationd.api.webhook_routes import WebhookRoutes
from integrationd.errors import BadRequestError, IntegrationdError
from integrationd.personal import PersonalData

_OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_LATER = ("blobs",)
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_WITH_OPTIONS = frozenset(
    {
        *("/v1/calls", "/v1/attempts", "/v1/webhooks", "/v1/keys", "/metrics", "/v1/events"),
        *("/v1/subscriptions", "/v1/subscriptions/{subscription}/deliveries"),
        *("/v1/vault/secrets", "/v1/vault/secrets/{name}", "/v1/connections/{name}"),
    }
)


class Api:
    """The ASGI app.

    Args:
        parts: What the routes work with.
        access: Decides who may call.
        max_body: The largest body, in bytes.
    """

    def __init__(self, parts: Parts, access: Access, max_body: int) -> None:
        self._access = access
        self._max_body = max_body
        self._submitter = parts.submitter
        self._streams = parts.streams
        self._log = structlog.get_logger("integrationd.api")
        self._starlette = self._application(parts)

    def end_streams(self) -> None:
        """End every stream of events; readers come back to the next daemon."""
        self._streams.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        refusal = screen(scope)
        if refusal is not None:
            await problem_reply(refusal).send(send)
            return
        if path not in _OPEN_PATHS:
            try:
                scope["integrationd.caller"] = self._access.identify(scope)
                scope["integrationd.access"] = self._access
            except AccessRefusedError as error:
                await problem_reply(error.problem).send(send)
                return
        if path == "/v1/calls" and scope["method"] == "POST":
            await self._post_call(scope, receive, send)
            return
        await self._starlette(scope, receive, send)

    async def _post_call(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The hot route, without a framework in between."""
        caller = scope["integrationd.caller"]
        refusal = role_refusal(caller, SUBMIT_ROLE)
        if refusal is not None:
            await problem_reply(refusal).send(send)
            return
        try:
            body = await read_body(receive, self._max_body)
            if scope["query_string"]:
                options_of(QueryParams(scope["query_string"]), ())
            prefer, key = _call_headers(scope)
            reply = await self._submitter.one(caller, body, prefer, key)
        except ClientGoneError:
            return
        except IntegrationdError as error:
            reply = problem_reply(problem_of(error))
        except Exception:  # noqa: BLE001 - the last resort of this route
            self._log.exception("request_failed", path=scope["path"])
            reply = problem_reply(problem_of(RuntimeError()))
        await reply.send(send)

    def _application(self, parts: Parts) -> Starlette:
        resources, submit = ResourceRoutes(parts), _SubmitRoutes(self._submitter, self._max_body)
        strict = [
            Route("/v1/calls/batch", submit.batch, methods=["POST"]),
            *CallRoutes(parts).routes(),
            *resources.routes(),
            *ConnectionRoutes(parts).routes(),
            *ConnectionChangeRoutes(parts).routes(),
            *TenantRoutes(parts).routes(),
            *ErasureRoutes(parts).routes(),
            *AuthorisationRoutes(parts).routes(),
            *ConfigRoutes(parts).routes(),
            *EventRoutes(parts).routes(),
            *WebhookRoutes(parts).routes(),
            *KeyRoutes(parts).routes(),
            *SubscriptionRoutes(parts).routes(),
            *VaultRoutes(parts).routes(),
            *OpenApiRoutes(parts).routes(),
        ]
        guarded = functools.partial(_guarded, personal=parts.personal)
        fixed = [*resources.open_routes(), *map(guarded, strict), *_later_routes()]
        users = UsersPaths(parts, submit.one, submit.short, self._max_body)
        theirs = [*map(guarded, users.routes(strict)), *_later_routes(PREFIX)]
        app = Starlette(
            routes=[
                *fixed,
                _short_route(fixed, submit.short),
                *theirs,
                _short_route(theirs, users.send, PREFIX),
            ],
            exception_handlers={
                IntegrationdError: self._on_error,
                ClientGoneError: self._on_gone,
                HTTPException: self._on_http_error,
                Exception: self._on_failure,
            },
        )
        app.router.redirect_slashes = False
        return app

    async def _on_error(self, _request: Request, error: Exception) -> Response:
        return problem_reply(problem_of(error)).as_response()

    async def _on_gone(self, _request: Request, _error: Exception) -> Response:
        return Response(status_code=400)

    async def _on_http_error(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        allowed = (
            _methods_at(request.scope["path"], self._starlette.routes) if status == 405 else ""
        )
        response = problem_reply(_routing_problem(status, request)).as_response()
        if allowed:
            response.headers["allow"] = allowed
        return response

    async def _on_failure(self, request: Request, error: Exception) -> Response:
        self._log.error("request_failed", path=request.scope["path"], exc_info=error)
        return problem_reply(problem_of(error)).as_response()


class _SubmitRoutes:
    """Accepting calls, but for the hot route."""

    def __init__(self, submitter: Submitter, max_body: int) -> None:
        self._submitter = submitter
        self._max_body = max_body

    async def one(self, request: Request) -> Response:
        """``POST /v1/calls`` under its other address."""
        options_of(request.query_params, ())
        body = await read_body(request.receive, self._max_body)
        prefer, key = _call_headers(request.scope)
        reply = await self._submitter.one(caller_of(request), body, prefer, key)
        return reply.as_response()

    async def short(self, request: Request) -> Response:
        """``POST /v1/{category}/{verb}``: the body is the payload."""
        caller = caller_of(request)
        refusal = role_refusal(caller, SUBMIT_ROLE)
        if refusal is not None:
            return problem_reply(refusal).as_response()
        operation = f"{request.path_params['category']}.{request.path_params['verb']}"
        body = await read_body(request.receive, self._max_body)
        prefer, key = _call_headers(request.scope)
        options = options_of(request.query_params, OPTIONS)
        reply = await self._submitter.short(caller, operation, body, options, prefer, key)
        return reply.as_response()

    async def batch(self, request: Request) -> Response:
        """``POST /v1/calls/batch``."""
        body = await read_body(request.receive, self._max_body)
        if _call_headers(request.scope)[1] is not None:
            raise BadRequestError(
                "a batch has no key of its own", hint="Give its calls an idempotency_key each."
            )
        reply: Reply = await self._submitter.batch(caller_of(request), body)
        return reply.as_response()


def _guarded(route: Route, personal: PersonalData) -> Route:
    """Return the route with refusals: of who has not its role, and of options it would ignore.

    What it answers is masked where the table says so.
    """
    methods = sorted(route.methods or ())
    told = {method: _told(method, route.path) for method in methods}
    roles = {method: one.role for method, one in told.items()}
    shown = {method: one.personal for method, one in told.items()}
    takes_options = to_ours(route.path) in _WITH_OPTIONS or route.path in WITH_OPTIONS

    async def answer(request: Request) -> Response:
        refusal = role_refusal(request.scope["integrationd.caller"], roles[request.method])
        if refusal is not None:
            return problem_reply(refusal).as_response()
        if not takes_options:
            options_of(request.query_params, ())
        response: Response = await route.endpoint(request)
        caller = request.scope["integrationd.caller"]
        return without_personal(response, shown[request.method], caller.role, personal)

    return Route(route.path, answer, methods=methods)


def _told(method: str, path: str) -> Told:
    """Return what the table says of a route; one that is not in it is not served."""
    return ROUTES["get" if method == "HEAD" else method.lower(), path]


def _later_routes(below: str = OURS) -> list[Route]:
    """Return the routes of what a later version offers."""
    paths = [f"{below}{name}{rest}" for name in _LATER for rest in ("", "/{rest:path}")]
    return [Route(path, _not_available, methods=_METHODS) for path in paths]


async def _not_available(request: Request) -> Response:
    told = problem(
        501,
        "not_available",
        f"{request.method} {request.scope['path']} is not available in this version",
        hint="See the README for what this version offers.",
    )
    return problem_reply(told).as_response()


def _short_route(fixed: Iterable[Route], endpoint: Callable[..., Any], below: str = OURS) -> Route:
    """Return the short form's route; what other routes begin with is no category."""
    taken = {
        route.path.removeprefix(below).partition("/")[0]
        for route in fixed
        if route.path.startswith(below)
    }
    found = Route(f"{below}{{category}}/{{verb}}", endpoint, methods=["POST"])
    words = "|".join(sorted(map(re.escape, taken)))
    found.path_regex = re.compile(rf"^{below}(?!(?:{words})/)(?P<category>[^/]+)/(?P<verb>[^/]+)$")
    return found


def _call_headers(scope: Scope) -> tuple[str, str | None]:
    """Return the ``Prefer`` and ``Idempotency-Key`` headers.

    Raises:
        BadRequestError: The key is given twice, or is not UTF-8.
    """
    prefer, keys = [], []
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            keys.append(value)
        elif name == b"prefer":
            prefer.append(value.decode("latin-1"))
    return ",".join(prefer), key_of(keys)


def _methods_at(path: str, routes: Iterable[BaseRoute]) -> str:
    """Return what the ``Allow`` header says about a path."""
    found = [one for one in routes if isinstance(one, Route) and one.path_regex.match(path)]
    # A path that is there by name is not one of those with a gap that it would fill, too.
    named = [one for one in found if one.path == path]
    methods = {"POST"} if path == "/v1/calls" else set()
    return ", ".join(sorted(methods.union(*(one.methods or () for one in named or found))))


def _routing_problem(status: int, request: Request) -> Problem:
    path = request.scope["path"]
    if status == 404:
        return problem(404, "no_such_path", f"there is nothing at {path}")
    if status == 405:
        return problem(405, "method_not_allowed", f"{request.method} is not possible at {path}")
    return problem(status, "bad_request", "the request cannot be answered")
