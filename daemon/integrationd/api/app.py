"""The API as one ASGI app: who is calling, the hot routes by hand, everything else by Starlette."""

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
from integrationd.api.body import ClientGoneError, read_body
from integrationd.api.call_routes import CallRoutes
from integrationd.api.config_routes import ConfigRoutes
from integrationd.api.connection_routes import ConnectionRoutes
from integrationd.api.key_routes import KeyRoutes
from integrationd.api.openapi import OpenApiRoutes
from integrationd.api.openapi_table import ROUTES, SUBMIT_ROLE
from integrationd.api.paging import options_of
from integrationd.api.parts import Parts
from integrationd.api.problems import Problem, problem, problem_of
from integrationd.api.replies import Reply, problem_reply
from integrationd.api.resource_routes import ResourceRoutes
from integrationd.api.roles import Role, role_refusal
from integrationd.api.screening import screen
from integrationd.api.submit import OPTIONS, Submitter
from integrationd.api.vault_routes import VaultRoutes
from integrationd.api.webhook_routes import WebhookRoutes
from integrationd.errors import BadRequestError, IntegrationdError

_OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_LATER = ("tenants", "subscriptions", "events", "blobs")
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_WITH_OPTIONS = frozenset({"/v1/calls", "/v1/attempts", "/v1/webhooks", "/v1/keys", "/metrics"})


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
        self._log = structlog.get_logger("integrationd.api")
        self._starlette = self._application(parts)

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
            except AccessRefusedError as error:
                await problem_reply(error.problem).send(send)
                return
        if path == "/v1/calls" and scope["method"] == "POST":
            await self._post_call(scope, receive, send)
            return
        await self._starlette(scope, receive, send)

    async def _post_call(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The hot route, without a framework in between."""
        refusal = role_refusal(scope["integrationd.caller"], SUBMIT_ROLE)
        if refusal is not None:
            await problem_reply(refusal).send(send)
            return
        try:
            body = await read_body(receive, self._max_body)
            if scope["query_string"]:
                options_of(QueryParams(scope["query_string"]), ())
            prefer, key = _call_headers(scope)
            reply = await self._submitter.one(body, prefer, key)
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
            *ConfigRoutes(parts).routes(),
            *WebhookRoutes(parts).routes(),
            *KeyRoutes(parts).routes(),
            *VaultRoutes(parts).routes(),
            *OpenApiRoutes(parts).routes(),
        ]
        fixed = [*resources.open_routes(), *map(_guarded, strict), *_later_routes()]
        app = Starlette(
            routes=[*fixed, _short_route(fixed, submit.short)],
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

    async def short(self, request: Request) -> Response:
        """``POST /v1/{category}/{verb}``: the body is the payload."""
        refusal = role_refusal(request.scope["integrationd.caller"], SUBMIT_ROLE)
        if refusal is not None:
            return problem_reply(refusal).as_response()
        operation = f"{request.path_params['category']}.{request.path_params['verb']}"
        body = await read_body(request.receive, self._max_body)
        prefer, key = _call_headers(request.scope)
        options = options_of(request.query_params, OPTIONS)
        reply = await self._submitter.short(operation, body, options, prefer, key)
        return reply.as_response()

    async def batch(self, request: Request) -> Response:
        """``POST /v1/calls/batch``."""
        body = await read_body(request.receive, self._max_body)
        if _call_headers(request.scope)[1] is not None:
            raise BadRequestError(
                "a batch has no key of its own", hint="Give its calls an idempotency_key each."
            )
        reply: Reply = await self._submitter.batch(body)
        return reply.as_response()


def _guarded(route: Route) -> Route:
    """Return the route with refusals: of who has not its role, and of options it would ignore."""
    methods = sorted(route.methods or ())
    roles = {method: _role_of(method, route.path) for method in methods}

    async def answer(request: Request) -> Response:
        refusal = role_refusal(request.scope["integrationd.caller"], roles[request.method])
        if refusal is not None:
            return problem_reply(refusal).as_response()
        if route.path not in _WITH_OPTIONS:
            options_of(request.query_params, ())
        response: Response = await route.endpoint(request)
        return response

    return Route(route.path, answer, methods=methods)


def _role_of(method: str, path: str) -> Role:
    """Return the role that the table asks for; a route that is not in it is not served."""
    return ROUTES["get" if method == "HEAD" else method.lower(), path].role


def _later_routes() -> list[Route]:
    """Return the routes of what a later version offers."""
    paths = [f"/v1/{name}{below}" for name in _LATER for below in ("", "/{rest:path}")]
    everything = ["/api/v1/integrations/{rest:path}", *paths]
    return [
        Route("/v1/connections", _not_available, methods=["POST"]),
        Route("/v1/connections/{name}", _not_available, methods=["PUT", "DELETE"]),
        *[
            Route(f"/v1/connections/{{name}}/{verb}", _not_available, methods=["POST"])
            for verb in ("test", "pause", "resume")
        ],
        *[Route(path, _not_available, methods=_METHODS) for path in everything],
    ]


async def _not_available(request: Request) -> Response:
    told = problem(
        501,
        "not_available",
        f"{request.method} {request.scope['path']} is not available in this version",
        hint="See the README for what this version offers.",
    )
    return problem_reply(told).as_response()


def _short_route(fixed: Iterable[Route], endpoint: Callable[..., Any]) -> Route:
    """Return the short form's route; what other routes begin with is no category."""
    taken = {route.path.split("/")[2] for route in fixed if route.path.startswith("/v1/")}
    found = Route("/v1/{category}/{verb}", endpoint, methods=["POST"])
    words = "|".join(sorted(map(re.escape, taken)))
    found.path_regex = re.compile(rf"^/v1/(?!(?:{words})/)(?P<category>[^/]+)/(?P<verb>[^/]+)$")
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
    if len(keys) > 1:
        raise BadRequestError("Idempotency-Key is given twice", code="doubled_header")
    try:
        return ",".join(prefer), keys[0].decode() if keys else None
    except UnicodeDecodeError:
        raise BadRequestError("Idempotency-Key is not UTF-8", code="bad_idempotency_key") from None


def _methods_at(path: str, routes: Iterable[BaseRoute]) -> str:
    """Return what the ``Allow`` header says about a path."""
    methods = {"POST"} if path == "/v1/calls" else set()
    for route in routes:
        if isinstance(route, Route) and route.path_regex.match(path):
            methods |= route.methods or set()
    return ", ".join(sorted(methods))


def _routing_problem(status: int, request: Request) -> Problem:
    path = request.scope["path"]
    if status == 404:
        return problem(404, "no_such_path", f"there is nothing at {path}")
    if status == 405:
        return problem(405, "method_not_allowed", f"{request.method} is not possible at {path}")
    return problem(status, "bad_request", "the request cannot be answered")
