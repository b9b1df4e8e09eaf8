"""``make docs``: docs/api.md, made from the API's own OpenAPI document."""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from tests.docs.examples import BODIES
from tests.docs.problem_codes import problem_codes
from tests.docs.schemas import Schema, example_of, in_short, name_of, words_of

from integrationd.api.openapi import document
from integrationd.api.submit import OPTIONS
from integrationd.api.users.prefix import PREFIX, to_ours
from integrationd.sdk import CATALOGUE

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
Route: TypeAlias = tuple[str, str]
Told: TypeAlias = Mapping[str, Any]

_INTRODUCTION = Path(__file__).with_name("introduction.md").read_text()
_TITLES = {
    "calls": "Calls",
    "events": "Events",
    "subscriptions": "Subscriptions",
    "attempts": "Attempts",
    "webhooks": "Webhooks",
    "webhook-endpoints": "Webhooks",
    "connections": "Connections",
    "providers": "Providers",
    "tenants": "Tenants",
    "keys": "API keys",
    "vault": "The vault",
    "config": "Configuration",
}
_REST = "The daemon"
_USERS = f"Below {PREFIX}"
_USERS_NOTE = (
    f"All of the above answers below `{PREFIX}` in place of `/v1/`, too. Some of it has other names"
    " and words there, for apps that were written for these; the short forms take these options."
)
_SHORT_NOTE = (
    "`POST /v1/{category}/{verb}` accepts a call like `POST /v1/calls`: the body is the payload"
    " alone, and these options may stand in the query. Role and answers are the same."
)


class Reference:
    """The page.

    Args:
        api: The OpenAPI document.
    """

    def __init__(self, api: Told) -> None:
        self._schemas: Mapping[str, Schema] = api["components"]["schemas"]
        self._routes: dict[Route, Told] = {
            (method, path): told
            for path, methods in api["paths"].items()
            for method, told in methods.items()
        }
        self._short = {
            ("post", f"{prefix}{name.replace('.', '/')}")
            for name in CATALOGUE
            for prefix in ("/v1/", PREFIX)
        }
        self._shown: set[str] = set()

    def text(self) -> str:
        """Return the page."""
        groups = self._groups()
        users = groups.pop(_USERS, [])
        parts = [_INTRODUCTION, *_contents([*groups, "Operations", _USERS])]
        for title in sorted(groups, key=_place_of):
            parts += [f"## {title}", *self._all(groups[title])]
        parts += ["## Operations", *self._operations()]
        parts += [f"## {_USERS}", _USERS_NOTE, *self._all(users)]
        parts += ["## Shapes", *self._shapes(), "## Problems", *_problems()]
        return "\n".join(part.rstrip("\n") + "\n" for part in parts)

    def _groups(self) -> dict[str, list[Route]]:
        groups: dict[str, list[Route]] = defaultdict(list)
        for route in self._routes:
            if route not in self._short and not self._is_as_ours(route):
                groups[_group_of(route[1])].append(route)
        return groups

    def _is_as_ours(self, route: Route) -> bool:
        """Say whether this is a route of ``/v1`` under its other address, and nothing else."""
        method, path = route
        twin = self._routes.get((method, to_ours(path)))
        if twin is None or not path.startswith(PREFIX):
            return False
        return {**twin, "operationId": ""} == {**self._routes[route], "operationId": ""}

    def _all(self, routes: Iterable[Route]) -> Iterator[str]:
        for route in routes:
            yield from self._route(route)

    def _route(self, route: Route) -> Iterator[str]:
        (method, path), told = route, self._routes[route]
        yield f"### {method.upper()} {path}"
        role = told.get("x-required-role")
        yield f"{told['summary']} {f'Role: `{role}`.' if role else 'Open to everybody.'}"
        yield from self._parameters(told["parameters"])
        yield from self._body(told)
        yield f"Answers: {self._answers(told)}."
        yield self._curl(route)

    def _parameters(self, parameters: Sequence[Told]) -> Iterator[str]:
        for place, title in (("query", "Options"), ("header", "Headers")):
            found = [one for one in parameters if one["in"] == place]
            if found:
                told = [f"`{one['name']}` ({in_short(one['schema'])})" for one in found]
                yield f"{title}: {'; '.join(told)}."

    def _body(self, told: Told) -> Iterator[str]:
        if "requestBody" not in told:
            return
        schema = _json_of(told["requestBody"])
        is_needed = "" if told["requestBody"]["required"] else ", which may be left out"
        members = self._members(schema)
        if not members:
            yield f"Body{is_needed}: {self._linked(schema)}."
            return
        yield _table((f"member of the body{is_needed}", "type", "means"), members)

    def _members(self, schema: Schema) -> list[tuple[str, ...]]:
        model = self._schemas.get(name_of(schema), schema)
        needed = set(model.get("required", ()))
        return [
            (_bold(name, name in needed), self._linked(member), words_of(member))
            for name, member in model.get("properties", {}).items()
        ]

    def _linked(self, schema: Schema) -> str:
        """Return a type in short, and remember the models that it links to."""
        told = in_short(schema) if schema else ""
        self._shown.update(re.findall(r"\[(\w+)\]\(#", told))
        return told

    def _answers(self, told: Told) -> str:
        found = [
            f"{status} {self._answer(answer)}".strip()
            for status, answer in sorted(told["responses"].items())
            if status != "default"
        ]
        return ", ".join(found)

    def _answer(self, answer: Told) -> str:
        if "content" not in answer:
            return ""
        kinds = answer["content"]
        told = [
            self._listed(kinds[kind]["schema"]) if kind == "application/json" else f"`{kind}`"
            for kind in kinds
        ]
        return " or ".join(told)

    def _listed(self, schema: Schema) -> str:
        """Return the type of an answer; of a page of a list, that of its items."""
        items = self._schemas.get(name_of(schema), {}).get("properties", {}).get("items")
        if name_of(schema).startswith("Page_") and items is not None:
            return f"a page of {self._linked(items['items'])}"
        return self._linked(schema)

    def _curl(self, route: Route) -> str:
        method, path = route
        address = re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), path)
        words = ["curl -s --unix-socket var/integrationd.sock"]
        if method not in ("get", "post") or (method == "post" and not self._example(route)):
            words.append(f"-X {method.upper()}")
        words.append(f"http://localhost{address}")
        if example := self._example(route):
            words.append(f"\\\n  -d '{example}'")
        return f"```sh\n{' '.join(words)}\n```"

    def _example(self, route: Route) -> str:
        if "requestBody" not in self._routes[route]:
            return ""
        return json.dumps(self.body_of(route), ensure_ascii=False)

    def body_of(self, route: Route) -> Any:
        """Return the body that a route is shown with; None if it takes none."""
        told = self._routes[route].get("requestBody")
        if told is None:
            return None
        if route in BODIES:
            return BODIES[route]
        return example_of(_json_of(told), self._schemas)

    def bodies(self) -> Iterator[tuple[Route, Schema, Any]]:
        """Yield each route that takes a body, its schema, and the body that is shown."""
        for route, told in self._routes.items():
            if "requestBody" in told and self._is_shown(route) and not self._is_as_ours(route):
                yield route, _json_of(told["requestBody"]), self.body_of(route)

    def _is_shown(self, route: Route) -> bool:
        return route not in self._short or not route[1].startswith(PREFIX)

    def _operations(self) -> Iterator[str]:
        yield _SHORT_NOTE
        options = self._members({"$ref": "#/components/schemas/CallRequest"})
        rows = [row for row in options if row[0].strip("*`") in OPTIONS]
        rows += [("`reference_type`, `reference_id`", "string", "The members of `reference`.")]
        yield _table(("option", "type", "means"), rows)
        for route in sorted(self._short & self._routes.keys()):
            if self._is_shown(route):
                told = self._routes[route]
                yield f"### POST {route[1]}"
                yield str(told["summary"])
                yield from self._body(told)
                yield self._curl(route)

    def _shapes(self) -> Iterator[str]:
        done: set[str] = set()
        found: dict[str, str] = {}
        while left := self._shown - done:
            name = min(left)
            done.add(name)
            found[name] = self._shape(name)
        yield from (found[name] for name in sorted(found))

    def _shape(self, name: str) -> str:
        schema = self._schemas[name]
        head = f"### {name}\n\n{words_of(schema)}".rstrip()
        return f"{head}\n\n{_table(('member', 'type', 'means'), self._members(schema))}"


def _group_of(path: str) -> str:
    if path.startswith(PREFIX):
        return _USERS
    parts = path.strip("/").split("/")
    return _TITLES.get(parts[1], _REST) if len(parts) > 1 and parts[0] == "v1" else _REST


def _place_of(title: str) -> int:
    titles = [*dict.fromkeys(_TITLES.values()), _REST]
    return titles.index(title)


def _contents(titles: Iterable[str]) -> Iterator[str]:
    ordered = [*sorted((one for one in titles if one in _known()), key=_place_of)]
    rest = [one for one in titles if one not in _known()]
    links = [f"[{one}](#{_anchor(one)})" for one in [*ordered, *rest, "Shapes", "Problems"]]
    yield " · ".join(links)


def _known() -> set[str]:
    return {*_TITLES.values(), _REST}


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _problems() -> Iterator[str]:
    rows = [(str(one.status), f"`{one.code}`", one.says) for one in problem_codes()]
    yield _table(("status", "code", "says"), rows)


def _json_of(body: Told) -> Schema:
    schema: Schema = body["content"]["application/json"]["schema"]
    return schema


def _bold(name: str, is_needed: bool) -> str:
    return f"**`{name}`**" if is_needed else f"`{name}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(one) for one in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|").replace("\n", " ")


def reference() -> Reference:
    """Return the page of the API as it is now."""
    return Reference(json.loads(msgspec.json.encode(document(CATALOGUE.values()))))


if __name__ == "__main__":
    PAGE.write_text(reference().text())
    sys.exit(0)
