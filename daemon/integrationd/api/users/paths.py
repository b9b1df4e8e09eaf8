"""The users' paths in one table: each is a path of ``/v1``, answered by the same parts.

What the users' documents name has their words. Everything else of ``/v1`` answers below the same
address exactly as it does there.
"""

from collections.abc import Iterable, Mapping

from starlette.routing import Route

from integrationd.api.call_routes import CallRoutes
from integrationd.api.connection_routes import ConnectionRoutes
from integrationd.api.parts import Parts
from integrationd.api.resource_routes import ResourceRoutes
from integrationd.api.told import Table, Told
from integrationd.api.users import config_routes, log_routes, provider_routes, queue_routes
from integrationd.api.users.config_routes import ConfigRoutes
from integrationd.api.users.log_routes import LogRoutes
from integrationd.api.users.passing import Endpoint
from integrationd.api.users.prefix import OURS, PREFIX, of_ours
from integrationd.api.users.provider_routes import ProviderRoutes
from integrationd.api.users.queue_routes import QueueRoutes
from integrationd.api.webhook_routes import WebhookRoutes

TOLD: Table = {
    **provider_routes.TOLD,
    **config_routes.TOLD,
    **log_routes.TOLD,
    **queue_routes.TOLD,
}
WITH_OPTIONS = frozenset(path for (_, path), told in TOLD.items() if told.query)


class UsersPaths:
    """The routes below ``/api/v1/integrations/``.

    Args:
        parts: What the routes work with.
        one: Answers ``POST /v1/calls``.
        short: Answers ``POST /v1/{category}/{verb}``.
        max_body: The largest payload, in bytes.
    """

    def __init__(self, parts: Parts, one: Endpoint, short: Endpoint, max_body: int) -> None:
        webhooks = WebhookRoutes(parts)
        self._one = one
        self._queue = QueueRoutes(parts, CallRoutes(parts), short, max_body)
        self._logs = LogRoutes(parts, ResourceRoutes(parts), webhooks)
        self._configs = ConfigRoutes(parts)
        self._providers = ProviderRoutes(parts, ConnectionRoutes(parts), webhooks)

    @property
    def send(self) -> Endpoint:
        """``POST {category}/{verb}``."""
        return self._queue.send

    def routes(self, ours: Iterable[Route]) -> list[Route]:
        """Return the routes: those in the users' words, and all others of ``/v1``."""
        own = [
            Route(PREFIX + path, endpoint, methods=[method])
            for (method, path), endpoint in self._table().items()
        ]
        return [*own, *_same(ours, TOLD)]

    def _table(self) -> Mapping[tuple[str, str], Endpoint]:
        return {
            ("GET", "providers"): self._providers.providers,
            ("GET", "providers/{category}"): self._providers.providers,
            ("GET", "configs"): self._configs.list_configs,
            ("POST", "configs"): self._configs.create,
            ("GET", "configs/{name}"): self._configs.show,
            ("PUT", "configs/{name}"): self._configs.change,
            ("DELETE", "configs/{name}"): self._configs.delete,
            ("POST", "configs/{name}/test"): self._configs.test,
            ("GET", "webhooks"): self._providers.endpoints,
            ("GET", "webhooks/{webhook_id}"): self._providers.endpoint_or_webhook,
            ("GET", "logs"): self._logs.list_logs,
            ("GET", "logs/{log_id}"): self._logs.show,
            ("GET", "queue"): self._queue.list_queue,
            ("GET", "queue/{call_id}"): self._queue.show,
            ("DELETE", "queue/{call_id}"): self._queue.cancel,
            ("POST", "queue/{call_id}/retry"): self._queue.retry,
            ("POST", "calls"): self._one,
        }


def with_users_paths(ours: Table) -> Table:
    """Return the table of ``/v1`` with the users' paths beside its own."""
    same = {(method, of_ours(path)): told for (method, path), told in _below(ours)}
    return {**ours, **same, **TOLD}


def _below(table: Table) -> Iterable[tuple[tuple[str, str], Told]]:
    return [(route, told) for route, told in table.items() if route[1].startswith(OURS)]


def _same(ours: Iterable[Route], own: Table) -> list[Route]:
    """Return routes that answer what those of ``/v1`` answer, but for what is the users' own."""
    found = []
    for route in ours:
        path = of_ours(route.path)
        methods = [
            method for method in sorted(route.methods or ()) if (method.lower(), path) not in own
        ]
        if route.path.startswith(OURS) and set(methods) - {"HEAD"}:
            found.append(Route(path, route.endpoint, methods=methods))
    return found
