"""The webhook listener without its journal: the ceiling that durable keeping is measured against.

The same server, paths, signature check and reading; a webhook is forgotten once it is answered.
"""

import gc
import sys
from typing import Any, cast

import anyio
import msgspec
import uvloop
from tests.bench.children import order_of

from integrationd.api.listeners import bind_tcp
from integrationd.api.server import ApiServer
from integrationd.clock import SystemClock
from integrationd.events import Bus
from integrationd.journal import Inbox, Received, StoredWebhook
from integrationd.masking import Masker
from integrationd.registry import (
    ConnectionSpec,
    Registry,
    builtin_plugins,
    load_plugins,
    plugin_files,
)
from integrationd.settings import ConnectionWebhooks
from integrationd.supervisor import SWITCH_INTERVAL_S
from integrationd.webhooks.addresses import Addresses
from integrationd.webhooks.app import WebhookApp
from integrationd.webhooks.receiver import Receiver
from integrationd.webhooks.sources import Networks, Pace

RATE = 1_000_000


class _Forgetful:
    """An inbox that keeps nothing."""

    def __init__(self) -> None:
        self._last_seq = 0

    async def keep(self, received: Received) -> tuple[StoredWebhook, bool]:
        self._last_seq += 1
        return StoredWebhook(seq=self._last_seq, **msgspec.structs.asdict(received)), False


async def _serve(key: str) -> None:
    clock, bus = SystemClock(), Bus()
    registry = Registry(load_plugins(plugin_files([builtin_plugins()]), clock))
    config: dict[str, Any] = {"secret_key": key}
    naira = ConnectionSpec(
        name="naira", provider="paystack", environment="sandbox", config=config, timeout_s=30
    )
    await registry.replace([naira])
    receiver = Receiver(
        cast("Inbox", _Forgetful()),
        registry,
        lambda _connection: ConnectionWebhooks(),
        Masker(),
        bus,
        clock,
        lambda _kept: None,
    )
    app = WebhookApp(receiver, registry, Addresses(bytes(32)), _no_call, clock)
    app.use(Networks(()), Pace(clock, RATE, RATE), 256 * 1024)
    listener = bind_tcp("127.0.0.1:0")
    server = ApiServer(app, [listener])
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve)
        await server.started()
        print(listener.getsockname()[1], flush=True)
        gc.collect()
        gc.freeze()


async def _no_call(_call_id: str) -> None:
    return None


if __name__ == "__main__":
    order = order_of(sys.argv)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(50_000, 20, 100)
    uvloop.run(_serve(order["key"]))
