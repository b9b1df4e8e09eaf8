"""The OpenAPI document: it tells of the routes that exist, from the models that they work with."""

from typing import Any

import msgspec
import pytest
from starlette.routing import Route
from tests.api.world import ApiWorld

from integrationd.api.app import _not_available
from integrationd.api.openapi import document
from integrationd.api.users.prefix import PREFIX, of_ours
from integrationd.sdk import CATALOGUE, Contract, Result
from integrationd.sdk.contract import Request

# The hot route has no Route; short forms stand in the document once for each contract.
BY_HAND = {("post", "/v1/calls")}
TEMPLATES = {("post", "/v1/{category}/{verb}"), ("post", f"{PREFIX}{{category}}/{{verb}}")}


async def told(world: ApiWorld) -> dict[str, Any]:
    answer = await world.client.get("/v1/openapi.json")
    assert answer.status_code == 200
    shown: dict[str, Any] = answer.json()
    return shown


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def served(world: ApiWorld) -> set[tuple[str, str]]:
    """Return every method and path that the app answers with more than a 501."""
    return BY_HAND | {
        (method.lower(), route.path.replace(":path", ""))
        for route in world.app._starlette.routes
        if isinstance(route, Route) and route.endpoint is not _not_available
        for method in route.methods or ()
        if method != "HEAD"
    }


async def test_document_tells_of_the_routes_that_exist_and_no_others(idle: ApiWorld) -> None:
    paths = (await told(idle))["paths"]
    listed = {(method, path) for path, methods in paths.items() for method in methods}
    plugins = idle.registry.versions.values()
    operations = {*CATALOGUE, *(name for plugin in plugins for name in plugin.operations)}
    paths_of = [f"/v1/{name.replace('.', '/')}" for name in operations]
    short = {("post", path) for one in paths_of for path in (one, of_ours(one))}

    assert short <= listed
    assert listed - short == served(idle) - TEMPLATES


async def test_document_names_everything_once_and_all_that_it_refers_to(idle: ApiWorld) -> None:
    shown = await told(idle)
    names = [one["operationId"] for path in shown["paths"].values() for one in path.values()]
    parts = {
        f"#/components/{kind}/{name}"
        for kind, named in shown["components"].items()
        for name in named
    }

    assert shown["openapi"].startswith("3.1")
    assert len(names) == len(set(names))
    assert references(shown) <= parts


async def test_options_of_a_short_form_have_the_types_of_the_request(idle: ApiWorld) -> None:
    shown = await told(idle)
    send = shown["paths"]["/v1/sms/send"]["post"]
    options = {one["name"]: one["schema"] for one in send["parameters"]}

    assert options["expires_in"] == {"type": "number"}
    assert sorted(options["priority"]["enum"]) == ["high", "low", "normal"]
    assert options["reference_id"]["maxLength"] == 255


async def test_only_health_is_open(idle: ApiWorld) -> None:
    shown = await told(idle)

    assert {
        path
        for path, methods in shown["paths"].items()
        for one in methods.values()
        if one["security"] == []
    } == {"/healthz", "/readyz"}
    async with idle.new_client() as stranger:
        assert (await stranger.get("/v1/openapi.json")).status_code == 401


def test_model_without_a_schema_is_told_as_anything() -> None:
    class Odd(Request, frozen=True):
        value: complex

    shown = document([Contract(operation="odd.do", request=Odd, result=Result)])
    body = shown.paths["/v1/odd/do"]["post"]["requestBody"]

    assert body["content"]["application/json"]["schema"] == {}


def test_two_models_of_one_name_are_told_apart() -> None:
    def contract(verb: str, kind: type) -> Contract:
        made = msgspec.defstruct("Act", [("value", kind)], bases=(Request,), module=f"own.{verb}")
        return Contract(operation=f"odd.{verb}", request=made, result=Result)

    shown = document([contract("one", int), contract("two", str)])
    bodies = [
        shown.paths[f"/v1/odd/{verb}"]["post"]["requestBody"]["content"]["application/json"]
        for verb in ("one", "two")
    ]

    assert bodies[0]["schema"]["$ref"] != bodies[1]["schema"]["$ref"]


async def test_reference_of_the_wrong_form_is_told_in_words(idle: ApiWorld) -> None:
    body = {"operation": "rehearsal.hold", "reference": {"type": "a\n", "id": "1"}}

    refused = (await idle.client.post("/v1/calls", json=body)).json()

    assert refused["pointer"] == "/reference/type"
    assert refused["detail"].endswith("expected: text without control characters")


@pytest.mark.parametrize("name", ["x", "limit"])
async def test_document_takes_no_options(idle: ApiWorld, name: str) -> None:
    answer = await idle.client.get(f"/v1/openapi.json?{name}=1")

    assert answer.json()["code"] == "unknown_option"
