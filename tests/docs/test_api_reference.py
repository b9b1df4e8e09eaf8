"""docs/api.md says what the API is now, and the API's document is one."""

import json
import re
from typing import Any

import jsonschema_rs
import msgspec
import openapi_spec_validator
import pytest
from tests.docs.api_reference import PAGE, reference
from tests.docs.examples import BODIES

from integrationd.api.openapi import document
from integrationd.sdk import CATALOGUE, Contract

HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(#([^)]+)\)")


@pytest.fixture(scope="module")
def api() -> Any:
    return json.loads(msgspec.json.encode(document(CATALOGUE.values())))


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_page_is_that_of_the_api_as_it_is_now() -> None:
    assert PAGE.read_text() == reference().text(), "run 'make docs'"


def test_links_on_the_page_lead_to_headings_that_are_there_once() -> None:
    text = PAGE.read_text()
    anchors = [anchor(heading) for heading in HEADING.findall(text)]

    assert set(LINK.findall(text)) <= set(anchors)
    assert len(anchors) == len(set(anchors))


def test_examples_keep_the_schemas_of_their_routes(api: Any) -> None:
    wrong = {}
    for route, schema, body in reference().bodies():
        checked = jsonschema_rs.validator_for({**schema, "components": api["components"]})
        wrong[route] = [str(error) for error in checked.iter_errors(body)]

    assert not {route: errors for route, errors in wrong.items() if errors}


@pytest.mark.parametrize("contract", CATALOGUE.values(), ids=lambda contract: contract.operation)
def test_examples_of_operations_keep_their_contracts(contract: Contract) -> None:
    body = BODIES.get(("post", f"/v1/{contract.operation.replace('.', '/')}"), {})

    msgspec.json.decode(json.dumps(body), type=contract.request)


def test_examples_are_of_routes_that_exist(api: Any) -> None:
    routes = {(method, path) for path, methods in api["paths"].items() for method in methods}

    assert set(BODIES) <= routes


def test_document_is_valid_openapi(api: Any) -> None:
    openapi_spec_validator.validate(api)
