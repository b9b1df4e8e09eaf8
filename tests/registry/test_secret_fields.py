"""Which values of a config are secrets, read from the schema of a provider's own model."""

from typing import Annotated, Any, Literal

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pydantic import BaseModel, Field, FilePath, SecretStr

from integrationd.registry.secret_fields import (
    has_place,
    path_places,
    replaced,
    secret_places,
    value_at,
)


class Bearer(BaseModel):
    kind: Literal["bearer"]
    word: SecretStr


class Plain(BaseModel):
    kind: Literal["plain"]
    word: str


class Account(BaseModel):
    api_key: SecretStr
    username: str
    auth: Annotated[Bearer | Plain, Field(discriminator="kind")] | None = None
    keys: list[Bearer] = []
    extra: dict[str, SecretStr] = {}
    certificate: FilePath | None = None
    spare: SecretStr | None = None


SCHEMA = Account.model_json_schema()
BEARER = {"kind": "bearer", "word": "t"}


@pytest.mark.parametrize(
    ("config", "places"),
    [
        ({"api_key": "k", "username": "u"}, [("api_key",)]),
        ({"auth": BEARER}, [("auth", "word")]),
        ({"auth": {"kind": "plain", "word": "t"}}, []),
        ({"keys": [BEARER, BEARER]}, [("keys", 0, "word"), ("keys", 1, "word")]),
        ({"extra": {"a": "1", "b": "2"}}, [("extra", "a"), ("extra", "b")]),
        ({"spare": "s"}, [("spare",)]),
        ({"spare": None}, [("spare",)]),
        ({"certificate": "/etc/passwd", "username": "u"}, []),
    ],
)
def test_secrets_are_what_the_model_types_so(
    config: dict[str, Any], places: list[tuple[Any, ...]]
) -> None:
    assert secret_places(SCHEMA, config) == places


def test_what_the_model_does_not_know_is_a_secret_by_its_name() -> None:
    assert secret_places(SCHEMA, {"client_secret": "s", "colour": "red"}) == [("client_secret",)]


def test_paths_are_found_apart_from_secrets() -> None:
    assert path_places(SCHEMA, {"api_key": "k", "certificate": "/a"}) == [("certificate",)]


@pytest.mark.parametrize("config", [None, 7, "text", [], {"auth": 7}, {"keys": {"a": 1}}])
def test_config_of_another_shape_is_looked_at_without_a_fault(config: Any) -> None:
    secret_places(SCHEMA, config)
    path_places(SCHEMA, config)


def test_schema_that_refers_to_itself_has_an_end() -> None:
    schema = {
        "$defs": {"Node": {"properties": {"next": {"$ref": "#/$defs/Node"}}}},
        "$ref": "#/$defs/Node",
    }
    config: dict[str, Any] = {}
    for _ in range(100):
        config = {"next": config}

    assert secret_places(schema, config) == []


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abc"), below, max_size=3)
    ),
    max_leaves=8,
)
places = st.lists(st.sampled_from(["a", "b", "c", 0, 1, 2]), max_size=4).map(tuple)


@given(config=values, place=places)
def test_replacing_changes_what_stands_there_and_nothing_else(
    config: Any, place: tuple[str | int, ...]
) -> None:
    if place and not has_place(config, place):
        return

    after = replaced(config, place, "new")

    assert value_at(after, place) == "new"
    assert replaced(after, place, value_at(config, place)) == config


@given(config=values, place=places)
def test_place_that_nothing_leads_to_stays_empty(config: Any, place: tuple[str | int, ...]) -> None:
    if len(place) < 2 or has_place(config, place[:1]):
        return

    assert replaced(config, place, "new") == config
    assert value_at(config, place) is None
