"""The users' configs: connections, made, changed and tested in their words."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from integrationd.api.accept import decode
from integrationd.api.connection_change_routes import ConnectionChangeRoutes, ConnectionGone
from integrationd.api.connection_routes import ConnectionRoutes
from integrationd.api.directory_views import ConnectionTestView
from integrationd.api.paging import options_of
from integrationd.api.parts import Parts
from integrationd.api.roles import Role
from integrationd.api.tenancy import caller_of
from integrationd.api.told import Page, Table, Told
from integrationd.api.users.config_views import (
    ConfigChange,
    ConfigItem,
    ConfigRequest,
    ConfigTest,
    ConnectionShown,
    config_item,
    config_test,
    connection_to_keep,
    connection_to_make,
    point_back,
)
from integrationd.api.users.passing import (
    Endpoint,
    answered_with,
    is_refusal,
    passed_on,
    told_in,
)
from integrationd.api.users.prefix import PREFIX
from integrationd.errors import RequestError

_CONFIGS = f"{PREFIX}configs"
_CONFIG = f"{_CONFIGS}/{{name}}"


class ConfigRoutes:
    """Answers below ``configs``."""

    def __init__(self, parts: Parts) -> None:
        self._connections = ConnectionRoutes(parts)
        self._changes = ConnectionChangeRoutes(parts)

    async def list_configs(self, request: Request) -> Response:
        """List the configs that the caller may use."""
        answer = await passed_on(request, self._connections.connections, path={})
        if is_refusal(answer):
            return answer
        items = [config_item(one) for one in told_in(answer, Page[ConnectionShown]).items]
        return answered_with(answer, {"items": items, "next": None})

    async def show(self, request: Request) -> Response:
        """Show one config."""
        return _in_their_words(await self._now(request))

    async def create(self, request: Request) -> Response:
        """Make a config and let it serve."""
        said: ConfigRequest = decode(ConfigRequest, await request.body())
        body = connection_to_make(said, caller_of(request).tenant)
        return await self._changed(request, self._changes.create, said, body)

    async def change(self, request: Request) -> Response:
        """Change what is said of a config; the rest stays."""
        said: ConfigChange = decode(ConfigChange, await request.body())
        now = await self._now(request)
        if is_refusal(now):
            return now
        body = connection_to_keep(said, told_in(now, ConnectionShown))
        return await self._changed(request, self._changes.change, said, body)

    async def delete(self, request: Request) -> Response:
        """Delete a config; with ``drain`` it goes when no calls wait on it any more."""
        options_of(request.query_params, ("drain",))
        return await passed_on(request, self._changes.delete, path=request.path_params)

    async def test(self, request: Request) -> Response:
        """Try a config's credentials, without any effect."""
        answer = await passed_on(request, self._changes.test, path=request.path_params)
        if is_refusal(answer):
            return answer
        found = config_test(request.path_params["name"], told_in(answer, ConnectionTestView))
        return answered_with(answer, found)

    async def _now(self, request: Request) -> Response:
        return await passed_on(
            request, self._connections.connection, path=request.path_params, query={}
        )

    async def _changed(
        self, request: Request, endpoint: Endpoint, said: ConfigChange, body: dict[str, Any]
    ) -> Response:
        try:
            answer = await passed_on(
                request,
                endpoint,
                path=request.path_params,
                query={},
                body=msgspec.json.encode(body),
            )
        except RequestError as error:
            point_back(said, error)
            raise
        return _in_their_words(answer)


def _in_their_words(answer: Response) -> Response:
    if is_refusal(answer):
        return answer
    return answered_with(answer, config_item(told_in(answer, ConnectionShown)))


TOLD: Table = {
    ("get", _CONFIGS): Told(
        summary="List configs: connections in the users' words.",
        gives={200: Page[ConfigItem]},
        role=Role.READ,
    ),
    ("post", _CONFIGS): Told(
        summary="Make a config and let it serve.",
        gives={201: ConfigItem},
        takes=ConfigRequest,
        role=Role.ADMIN,
    ),
    ("get", _CONFIG): Told(summary="Show one config.", gives={200: ConfigItem}, role=Role.READ),
    ("put", _CONFIG): Told(
        summary="Change what is said of a config; the rest stays.",
        gives={200: ConfigItem},
        takes=ConfigChange,
        role=Role.ADMIN,
    ),
    ("delete", _CONFIG): Told(
        summary="Delete a config; with drain it goes after its last call.",
        gives={200: ConnectionGone, 202: ConnectionGone},
        query=("drain",),
        role=Role.ADMIN,
    ),
    ("post", f"{_CONFIG}/test"): Told(
        summary="Try a config's credentials, without any effect.",
        gives={200: ConfigTest},
        role=Role.ADMIN,
    ),
}
