"""The catalogue of events: names, reserved words, and that it tells what the code appends."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from integrationd.event_types import (
    EVENT_TYPES,
    RESERVED,
    TYPE_LIMIT,
    is_reserved,
    is_type,
    is_type_pattern,
)
from integrationd.sdk.contracts import CATALOGUE

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "events.md"
# Event types stand in modules that name one of these.
MAKERS = re.compile(r"\b(EventRecord|call_event|Notice)\b|\bevent\.tell\(")
# Built of a prefix and one of these words.
STATES = {
    "call": "completed failed expired cancelled waiting unknown needs_attention contradicted"
    " retried resolved",
    "config": "applied rejected",
    "plugin": "loaded rejected gone",
    "subscription": "created changed rotated disabled redelivered deleted",
    "sms": "delivered failed",
    "email": "delivered failed bounced complained read",
    "whatsapp": "sent delivered read failed",
}
BUILT = {f"{prefix}.{word}" for prefix, words in STATES.items() for word in words.split()}


def literals(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def appended() -> set[str]:
    """Return the texts that look like the type of an event, wherever events are made."""
    own = {name for name in texts_of("daemon") if not name.startswith("integrationd.")}
    # Plugins name their providers' own events, too; ours are of the categories of operations.
    categories = {operation.partition(".")[0] for operation in CATALOGUE}
    theirs = {name for name in texts_of("plugins") if name.partition(".")[0] in categories}
    return {name for name in own | theirs if is_reserved(name) and name not in CATALOGUE}


def texts_of(tree: str) -> set[str]:
    makers = [path for path in (ROOT / tree).rglob("*.py") if MAKERS.search(path.read_text())]
    return {text for path in makers for text in literals(path) if is_type(text)}


def test_every_event_that_the_code_appends_is_in_the_catalogue() -> None:
    assert appended() - EVENT_TYPES.keys() == set()


def test_catalogue_has_no_event_that_nothing_appends() -> None:
    assert EVENT_TYPES.keys() - appended() - BUILT == set()


def test_words_of_built_types_stand_in_the_code() -> None:
    texts = "".join(path.read_text() for path in (ROOT / "daemon").rglob("*.py"))
    words = {word for words in STATES.values() for word in words.split()}

    assert {word for word in words if f'"{word}"' not in texts} == set()


@pytest.mark.parametrize(("name", "told"), EVENT_TYPES.items())
def test_catalogue_is_of_names_and_sentences(name: str, told: str) -> None:
    assert is_type(name)
    assert is_reserved(name)
    assert told[0].isupper()
    assert told.endswith(".")


def test_guide_tells_every_event_as_the_catalogue_does() -> None:
    rows = re.findall(r"^\| `([a-z_]+[.][a-z_.]+)` \| (.+?) \|$", GUIDE.read_text(), re.MULTILINE)

    assert dict(rows) == dict(EVENT_TYPES)


@pytest.mark.parametrize(
    "name", ["customer.enrolled", "reward.issued", "budget.threshold", "a.b", "a.b_2.c", "a1.2"]
)
def test_apps_may_publish(name: str) -> None:
    assert is_type(name)
    assert is_type_pattern(name)
    assert not is_reserved(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "reward", "Reward.issued", "reward.", ".issued", "reward..issued", "reward issued"),
        *("reward.issued\n", "reward.*", "1a.b", "réward.issued", "a." + "b" * TYPE_LIMIT),
    ],
)
def test_no_name_of_an_event(name: str) -> None:
    assert not is_type(name)


@pytest.mark.parametrize("pattern", ["*", "payment.*", "call.completed", "a.b.*", "reward"])
def test_patterns_are_names_and_prefixes(pattern: str) -> None:
    assert is_type_pattern(pattern)


@pytest.mark.parametrize("pattern", ["", "**", "pay*", "*.failed", "payment.*.x", "a.[b]", "a.?"])
def test_no_pattern(pattern: str) -> None:
    assert not is_type_pattern(pattern)


def test_reserved_words_leave_the_users_own_free() -> None:
    assert not RESERVED & {"customer", "reward", "budget", "order", "invoice", "student"}
