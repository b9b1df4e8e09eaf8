"""The daemon's API without its journal: the ceiling that durable acceptance is measured against.

The same server, access check, decoding, validation and reply; the route is Starlette's, and a call
is forgotten as soon as it has been answered.
"""

import gc
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import anyio
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.bench.children import order_of

from integrationd.api.accept import Acceptor
from integrationd.api.auth import Access
from integrationd.api.held_keys import HeldKeys, KeyStore
from integrationd.api.listeners import bind_tcp
from integrationd.api.ports import Placement
from integrationd.api.server import ApiServer
from integrationd.api.submit import Submitter
from integrationd.api.waiting import Waiters
from integrationd.clock import SystemClock
from integrationd.delivery.routing import Routing
from integrationd.events import Bus
from integrationd.journal import Journal, NewCall, Receipt
from integrationd.registry import (
    Connection,
    ConnectionSpec,
    Registry,
    Tenants,
    builtin_plugins,
    load_plugins,
    plugin_files,
)
from integrationd.settings import Settings
from integrationd.supervisor import SWITCH_INTERVAL_S

GIVE_UP_AFTER_S = 3 * 86_400.0


class _Forgetful:
    """A journal that keeps nothing."""

    def __init__(self) -> None:
        self.calls = self
        self._last_seq = 0

    async def accept(self, new: Sequence[NewCall]) -> list[Receipt]:
        return [self._receipt(one) for one in new]

    def _receipt(self, new: NewCall) -> Receipt:
        self._last_seq += 1
        call = new.call.replace(seq=self._last_seq, parts=len(new.recipients))
        return Receipt(call=call, call_id=call.id)


class _Place:
    def __init__(self, routing: Routing) -> None:
        self.for_new_call = routing.for_new_call

    def give_up_after_s(self, _connection: Connection | None) -> float:
        return GIVE_UP_AFTER_S


async def _serve(key: str, config: Mapping[str, Any]) -> None:
    clock = SystemClock()
    registry = Registry(load_plugins(plugin_files([builtin_plugins()]), clock))
    await registry.replace(
        [
            ConnectionSpec(
                name="shop", provider="http", environment="sandbox", config=config, timeout_s=30
            )
        ]
    )
    journal = cast("Journal", _Forgetful())
    place = cast("Placement", _Place(Routing(registry, Settings())))
    acceptor = Acceptor(journal, place, Tenants(), clock)
    submitter = Submitter(acceptor, journal, Waiters(Bus(), clock))
    access = Access(HeldKeys(key, cast("KeyStore", None), Bus(), clock), {}, "api.key", clock)
    listener = bind_tcp("127.0.0.1:0")
    server = ApiServer(_application(submitter, access), [listener])
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve)
        await server.started()
        print(listener.getsockname()[1], flush=True)
        gc.collect()
        gc.freeze()


def _application(submitter: Submitter, access: Access) -> Starlette:
    async def post_call(request: Request) -> Response:
        caller = access.identify(request.scope)
        headers = request.headers
        body = await request.body()
        reply = await submitter.one(
            caller, body, headers.get("prefer"), headers.get("idempotency-key")
        )
        return reply.as_response()

    return Starlette(routes=[Route("/v1/calls", post_call, methods=["POST"])])


if __name__ == "__main__":
    order = order_of(sys.argv)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(50_000, 20, 100)
    uvloop.run(_serve(order["key"], order["config"]))
