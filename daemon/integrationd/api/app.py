"""The API as one ASGI app: who is calling, the hot routes by hand, everything else by Starlette."""

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from integrationd.api.auth import Access, AccessRefusedError
from integrationd.api.body import ClientGoneError, read_body
from integrationd.api.call_routes import CallRoutes
from integrationd.api.parts import Parts
from integrationd.api.problems import Problem, problem, problem_of
from integrationd.api.replies import Reply, problem_reply
from integrationd.api.resource_routes import ResourceRoutes
from integrationd.api.submit import Submitter
from integrationd.errors import BadRequestError, IntegrationdError

_OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_LATER = ("tenants", "subscriptions", "events", "webhooks", "webhook-endpoints", "keys", "blobs")


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
        try:
            body = await read_body(receive, self._max_body)
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
        resources = ResourceRoutes(parts)
        short = _ShortRoutes(self._submitter, self._max_body)
        routes = [
            *resources.open_routes(),
            Route("/v1/calls/batch", short.batch, methods=["POST"]),
            *CallRoutes(parts).routes(),
            *resources.routes(),
            *[
                Route(f"/v1/{name}{{rest:path}}", _not_available, methods=_METHODS)
                for name in _LATER
            ],
            Route("/v1/{category}/{verb}", short.send, methods=["POST"]),
        ]
        return Starlette(
            routes=routes,
            exception_handlers={
                IntegrationdError: self._on_error,
                ClientGoneError: self._on_gone,
                HTTPException: self._on_http_error,
                Exception: self._on_failure,
            },
        )

    async def _on_error(self, _request: Request, error: Exception) -> Response:
        return problem_reply(problem_of(error)).as_response()

    async def _on_gone(self, _request: Request, _error: Exception) -> Response:
        return Response(status_code=400)

    async def _on_http_error(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = getattr(error, "headers", None) or {}
        response = problem_reply(_routing_problem(status, request)).as_response()
        response.headers.update(headers)
        return response

    async def _on_failure(self, request: Request, error: Exception) -> Response:
        self._log.error("request_failed", path=request.url.path, exc_info=error)
        return problem_reply(problem_of(error)).as_response()


_METHODS = ["GET", "POST", "PUT", "DELETE"]


async def _not_available(request: Request) -> Response:
    told = problem(
        501,
        "not_available",
        f"{request.url.path} is not available in this version",
        hint="See the README for what this version offers.",
    )
    return problem_reply(told).as_response()


class _ShortRoutes:
    """The short form and the batch."""

    def __init__(self, submitter: Submitter, max_body: int) -> None:
        self._submitter = submitter
        self._max_body = max_body

    async def send(self, request: Request) -> Response:
        """``POST /v1/{category}/{verb}``: the body is the payload."""
        operation = f"{request.path_params['category']}.{request.path_params['verb']}"
        body = await read_body(request.receive, self._max_body)
        prefer, key = _call_headers(request.scope)
        options = _once_each(request)
        reply = await self._submitter.short(operation, body, options, prefer, key)
        return reply.as_response()

    async def batch(self, request: Request) -> Response:
        """``POST /v1/calls/batch``."""
        body = await read_body(request.receive, self._max_body)
        reply: Reply = await self._submitter.batch(body)
        return reply.as_response()


def _once_each(request: Request) -> dict[str, str]:
    items = request.query_params.multi_items()
    if len({name for name, _ in items}) != len(items):
        raise BadRequestError("an option is given twice in the query", code="doubled_option")
    return dict(items)


def _call_headers(scope: Scope) -> tuple[str | None, str | None]:
    """Return the ``Prefer`` and ``Idempotency-Key`` headers.

    Raises:
        BadRequestError: The key is given twice.
    """
    prefer = key = None
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            if key is not None:
                raise BadRequestError("Idempotency-Key is given twice", code="doubled_header")
            key = value.decode("latin-1")
        elif name == b"prefer":
            prefer = value.decode("latin-1") if prefer is None else prefer
    return prefer, key


def _routing_problem(status: int, request: Request) -> Problem:
    path = request.url.path
    if status == 404:
        return problem(404, "no_such_path", f"there is nothing at {path}")
    if status == 405:
        return problem(405, "method_not_allowed", f"{request.method} is not possible at {path}")
    return problem(status, "bad_request", "the request cannot be answered")
