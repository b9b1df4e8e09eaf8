"""``GET /v1/openapi.json``: the API told to programs, from the models that the routes work with.

One table says what each route takes and gives; schemas come from the structs themselves. The short
forms are those of the contracts that are loaded at the moment.
"""

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd import __version__
from integrationd.api.openapi_table import (
    HEADERS,
    ROUTES,
    SUBMIT,
    SUBMIT_ROLE,
    Kept,
    OpenApi,
)
from integrationd.api.openapi_words import in_words
from integrationd.api.paging import DEFAULT_LIMIT, LARGEST_LIMIT
from integrationd.api.parts import Parts
from integrationd.api.problems import CONTENT_TYPE, Problem
from integrationd.api.replies import json_reply
from integrationd.api.schemas import CallRequest, CallView
from integrationd.api.submit import OPTIONS
from integrationd.api.told import Told
from integrationd.api.users.forms import in_users_words
from integrationd.api.users.prefix import of_ours
from integrationd.call import CallState
from integrationd.sdk.contract import Contract
from integrationd.sdk.contracts import CATALOGUE

_REFERENCE = "#/components/schemas/{name}"
_VARIABLE = re.compile(r"\{(\w+)\}")
_Json: TypeAlias = dict[str, Any]

_TEXT = {"type": "string"}
_PROBLEM = {"$ref": "#/components/responses/Problem"}
_FILTERS: dict[str, _Json] = {
    "limit": {
        "type": "integer",
        "minimum": 1,
        "maximum": LARGEST_LIMIT,
        "default": DEFAULT_LIMIT,
    },
    "state": {"type": "string", "enum": list(CallState)},
}
_NOT_YET = frozenset({"ordering_key"})


class OpenApiRoutes:
    """The route of the document."""

    def __init__(self, parts: Parts) -> None:
        self._registry = parts.registry

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route("/v1/openapi.json", self.show)]

    async def show(self, _request: Request) -> Response:
        """Show the API to programs."""
        contracts = dict(CATALOGUE)
        for plugin in self._registry.providers():
            for name, served in plugin.operations.items():
                contracts.setdefault(name, served.contract)
        return json_reply(document(contracts.values())).as_response()


def document(contracts: Iterable[Contract]) -> OpenApi:
    """Return the document of the API, with a short form for each of the contracts."""
    routes = dict(ROUTES)
    for contract in contracts:
        category, _, verb = contract.operation.partition(".")
        routes["post", f"/v1/{category}/{verb}"] = told = _short_form(contract)
        routes["post", of_ours(f"/v1/{category}/{verb}")] = in_users_words(told, contract)
    schemas = _Schemas(routes.values())
    paths: dict[str, _Json] = {}
    for (method, path), told in sorted(routes.items(), key=lambda each: each[0][::-1]):
        paths.setdefault(path, {})[method] = _operation(method, path, told, schemas)
    return OpenApi(
        openapi="3.1.0",
        info={"title": "integrationd", "version": __version__},
        paths=paths,
        components={
            "schemas": schemas.components,
            "responses": {"Problem": _content("What is wrong.", CONTENT_TYPE, schemas.of(Problem))},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    )


class _Schemas:
    """The schemas of all models, each once.

    A plugin's own model that has no JSON Schema is told as anything.
    """

    def __init__(self, routes: Iterable[Told]) -> None:
        wanted = [Problem, CallRequest]
        for told in routes:
            for model in (told.takes, *told.gives.values()):
                wanted += model if isinstance(model, tuple) else [model]
        models = [model for model in dict.fromkeys(wanted) if _has_schema(model)]
        found, components = msgspec.json.schema_components(models, ref_template=_REFERENCE)
        self.components = {name: in_words(schema) for name, schema in components.items()}
        self._of = dict(zip(models, found, strict=True))
        problem = self.components["Problem"]
        problem["properties"] = {"type": {"const": "about:blank"}, **problem["properties"]}

    def of(self, model: Any) -> _Json:
        """Return the schema of a model, as a reference; of a tuple, that of any of them."""
        if isinstance(model, tuple):
            return {"anyOf": [self.of(one) for one in model]}
        return self._of.get(model, {})

    def of_option(self, name: str) -> _Json:
        """Return the schema of an option of a short form."""
        kind, _, member = name.partition("_")
        owner, key = ("Reference", member) if kind == "reference" else ("CallRequest", name)
        found = self.components[owner]["properties"].get(key, _TEXT)
        choices = [one for one in found.get("anyOf", ()) if one != {"type": "null"}]
        return choices[0] if choices else dict(found)


def _has_schema(model: Any) -> bool:
    try:
        msgspec.json.schema(model)
    except (TypeError, ValueError):
        return False
    return True


def _short_form(contract: Contract) -> Told:
    return Told(
        summary=contract.summary or f"Accept a call of {contract.operation}.",
        gives={200: CallView, 202: (CallView, Kept)},
        takes=contract.request,
        query=[name for name in OPTIONS if name not in _NOT_YET],
        headers=SUBMIT,
        problems=() if contract.effect else (504,),
        role=SUBMIT_ROLE,
    )


def _operation(method: str, path: str, told: Told, schemas: _Schemas) -> _Json:
    option = schemas.of_option if told.takes is not None else _filter
    operation: _Json = {
        "operationId": "_".join(re.findall(r"\w+", f"{method} {path}")),
        "summary": told.summary,
        "security": [] if told.is_open else [{"key": []}, {}],
        "parameters": [
            *(_parameter("path", name, _TEXT) for name in _VARIABLE.findall(path)),
            *(
                _parameter("query", name, dict(told.shapes.get(name) or option(name)))
                for name in told.query
            ),
            *(_parameter("header", name, HEADERS[name]) for name in told.headers),
        ],
        "responses": {**_answers(told, schemas), "default": _PROBLEM},
    }
    if not told.is_open:
        operation["x-required-role"] = told.role.value
    if told.takes is not None:
        body = _content("", "application/json", schemas.of(told.takes))["content"]
        operation["requestBody"] = {"required": told.needs_body, "content": body}
    return operation


def _answers(told: Told, schemas: _Schemas) -> _Json:
    answers: _Json = {str(status): _PROBLEM for status in told.problems}
    for status, model in told.gives.items():
        kind = "text/plain" if model is str else "application/json"
        empty = {"description": told.summary}
        of_model = _content(told.summary, kind, schemas.of(model)) if model is not None else empty
        answers[str(status)] = of_model
    if told.is_stream:
        answers["200"]["content"]["text/event-stream"] = {"schema": _TEXT}
    return answers


def _filter(name: str) -> _Json:
    return _FILTERS.get(name, _TEXT)


def _parameter(place: str, name: str, schema: _Json) -> _Json:
    return {"in": place, "name": name, "required": place == "path", "schema": schema}


def _content(description: str, kind: str, schema: _Json) -> _Json:
    return {"description": description, "content": {kind: {"schema": schema}}}
