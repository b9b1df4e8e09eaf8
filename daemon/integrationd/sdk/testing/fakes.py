"""What stands in for a connection and for the provider at the other end of it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import httpx2

from integrationd.sdk.context import Context
from integrationd.sdk.http import prepare_client
from integrationd.sdk.plugin_file import run_plugin_file
from integrationd.sdk.provider import HttpProviderConfig, Provider, ProviderConfig

Handler: TypeAlias = Callable[[httpx2.Request], httpx2.Response]


@dataclasses.dataclass(frozen=True, slots=True)
class FakeConnection:
    """The connection that a provider under test serves."""

    name: str = "under-test"
    environment: str = "sandbox"
    timeout_s: float = 10.0


@functools.cache
def class_in(path: Path) -> type[Provider]:
    """Run a plugin file, once, and return its provider class.

    Raises:
        PluginFileError: The file cannot be used.
    """
    return run_plugin_file(path).provider


def fake_client(config: ProviderConfig, handler: Handler) -> httpx2.AsyncClient:
    """Make a client like a connection's, whose requests are answered by a function.

    Raises:
        TypeError: The config is not one of a provider that speaks HTTP.
    """
    if not isinstance(config, HttpProviderConfig):
        raise TypeError("Config must derive from HttpProviderConfig to be given ctx.http")
    return prepare_client(
        base_url=config.base_url, timeout_s=10.0, transport=httpx2.MockTransport(handler)
    )


def answered_by(handler: Handler, ctx: Context, made: list[httpx2.Request]) -> Handler:
    """Keep the requests in ``made`` and tell the context what the real transport would tell it."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        made.append(request)
        try:
            response = handler(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            raise
        except httpx2.TransportError:
            ctx.mark_sent()
            raise
        ctx.mark_sent()
        return response

    return answer


def answering(status: int, headers: Mapping[str, str] | None = None) -> Handler:
    """Answer everything with a status and a body that no provider means."""
    return lambda _request: httpx2.Response(status, headers=headers, text="<html>not JSON</html>")


def raising(error: type[httpx2.TransportError]) -> Handler:
    """Answer everything with a transport error."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        raise error("made up for this test", request=request)

    return answer
