"""Connections are built beside those that serve, checked as a set, and swapped in one step."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from integrationd.errors import NotFoundError
from integrationd.registry import Connection, ConnectionSpec, Registry, load_plugins
from integrationd.sdk.testing import FakeClock
from integrationd.settings.table import RejectedConfigError

SECRET = "s3cret-value"
PAPER = """
from integrationd.sdk import *


class Paper(Provider):
    code = "paper"

    class Config(ProviderConfig):
        colour: str
        copies: int = 1
        api_key: SecretStr = SecretStr("")

    def __init__(self, config, connection):
        super().__init__(config, connection)
        self.closed = 0
        if config.colour == "broken":
            raise RuntimeError("out of paper")

    async def aclose(self):
        self.closed += 1
        if self.config.colour == "sticky":
            raise OSError("jammed")

    @operation("sms.send", repeat_safe=False)
    async def send(self, request, ctx):
        return Delivered()
"""
WEB = """
from integrationd.sdk import *


class Web(Provider):
    code = "web"

    class Config(HttpProviderConfig):
        base_url: str = "https://api.x.test"

    @operation("sms.send", repeat_safe=False)
    async def send(self, request, ctx):
        return Delivered()

    @operation("sms.balance", repeat_safe=True)
    async def balance(self, request, ctx):
        return Delivered()
"""


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    paths = []
    for name, source in (("paper", PAPER), ("torn", "x = (\n"), ("web", WEB)):
        paths.append(tmp_path / f"{name}.py")
        paths[-1].write_text(source)
    registry = Registry(load_plugins(paths, FakeClock()))
    yield registry
    await registry.aclose()


def spec(name: str, provider: str = "paper", **changes: Any) -> ConnectionSpec:
    given: dict[str, Any] = {
        "environment": "sandbox",
        "config": {"colour": "white"} if provider == "paper" else {},
        "timeout_s": 5.0,
    }
    return ConnectionSpec(name=name, provider=provider, **(given | changes))


def names(connections: list[Connection] | tuple[Connection, ...]) -> list[str]:
    return [connection.name for connection in connections]


async def test_registry_lists_what_is_loaded_and_what_is_not(registry: Registry) -> None:
    assert [version.code for version in registry.providers()] == ["paper", "web"]
    assert [fault.path.name for fault in registry.faults] == ["torn.py"]


async def test_connection_knows_its_plugin_and_its_validated_config(registry: Registry) -> None:
    await registry.replace([spec("desk", config={"colour": "red", "copies": "2"})])

    found = registry.connection("desk")

    assert (found.name, found.code, found.environment) == ("desk", "paper", "sandbox")
    assert found.provider.config.copies == 2
    assert found.provider.connection is found
    assert found.client is None


async def test_connection_has_a_client_where_the_provider_speaks_http(registry: Registry) -> None:
    await registry.replace([spec("api", "web")])

    found = registry.connection("api")

    assert found.client is not None
    assert str(found.client.base_url).startswith("https://api.x.test")


async def test_connection_that_is_not_there_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="there is no connection 'desk'"):
        registry.connection("desk")


async def test_serving_names_enabled_connections_in_file_order(registry: Registry) -> None:
    await registry.replace(
        [spec("z", "web"), spec("a"), spec("off", enabled=False), spec("m", "web")]
    )

    assert names(registry.serving("sms.send")) == ["z", "a", "m"]
    assert names(registry.serving("sms.balance")) == ["z", "m"]
    assert registry.serving("email.send") == []


async def test_route_keeps_the_given_order_and_skips_who_cannot(registry: Registry) -> None:
    await registry.replace([spec("a"), spec("b"), spec("off", enabled=False)])

    assert names(registry.route("sms.send", ["b", "gone", "off", "a"])) == ["b", "a"]


async def test_replace_tells_all_that_is_wrong_at_once(registry: Registry) -> None:
    specs = [
        spec("one", config={"copies": "many", "size": "A4", "api_key": SECRET}),
        spec("two", "fax"),
        spec("three", "torn"),
        spec("four", config={"colour": "broken", "api_key": SECRET}),
        spec("five"),
    ]

    with pytest.raises(RejectedConfigError) as caught:
        await registry.replace(specs)

    told = {problem.where: problem.reason for problem in caught.value.problems}
    assert told["connections.one.config.colour"] == "is missing"
    assert "valid integer" in told["connections.one.config.copies"]
    assert "its fields are: colour, copies, api_key" in told["connections.one.config.size"]
    assert told["connections.two.provider"] == (
        "no plugin has the code 'fax'; loaded are: paper, web"
    )
    assert "torn.py:1: SyntaxError" in told["connections.three.provider"]
    assert "RuntimeError: out of paper" in told["connections.four"]
    assert len(told) == 6
    assert SECRET not in str(caught.value) + repr(specs)


async def test_replace_changes_nothing_when_one_is_wrong(registry: Registry) -> None:
    await registry.replace([spec("desk")])

    with pytest.raises(RejectedConfigError):
        await registry.replace([spec("new"), spec("two", "fax")])

    assert names(registry.connections()) == ["desk"]


async def test_replace_returns_those_that_served_before(registry: Registry) -> None:
    await registry.replace([spec("desk")])
    old = registry.connection("desk")

    before = await registry.replace([spec("desk", timeout_s=9.0)])

    assert before == (old,)
    assert registry.connection("desk") is not old
    await old.retire()


async def test_retire_waits_for_the_attempts_that_hold_the_connection(registry: Registry) -> None:
    await registry.replace([spec("desk")])
    old = registry.connection("desk")
    await registry.replace([])
    provider: Any = old.provider

    async with anyio.create_task_group() as tasks:
        with old.held(), old.held():
            tasks.start_soon(old.retire)
            await anyio.wait_all_tasks_blocked()
            assert provider.closed == 0

    assert provider.closed == 1


async def test_aclose_closes_all_even_when_one_fails(registry: Registry) -> None:
    await registry.replace(
        [spec("a"), spec("b", config={"colour": "sticky"}), spec("c", "web"), spec("d")]
    )
    connections = registry.connections()

    await registry.aclose()

    plain: list[Any] = [connections[0].provider, connections[3].provider]
    assert [provider.closed for provider in plain] == [1, 1]
    assert connections[2].client is not None
    assert connections[2].client.is_closed
    assert registry.connections() == ()
