"""docs/users-paths.md says what the users' paths are."""

import re
from pathlib import Path

import pytest

from integrationd.api.openapi_table import ROUTES
from integrationd.api.users import log_routes, queue_routes, words
from integrationd.api.users.paths import TOLD
from integrationd.api.users.payloads import NAMES
from integrationd.api.users.prefix import PREFIX
from integrationd.api.webhook_routes import STATES
from integrationd.call import CallState
from integrationd.webhooks.app import ALIASES

PAGE = (Path(__file__).parents[2] / "docs" / "users-paths.md").read_text()
SPAN = re.compile(r"`([^`]+)`")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def route(text: str, below: str = "") -> tuple[str, str]:
    method, _, path = text.partition(" ")
    return method.lower(), below + path


def test_page_names_every_path_with_its_role() -> None:
    told = {route(SPAN.findall(path)[0], PREFIX): role for path, role, _, _ in rows("Paths")}

    assert told == {one: told.role.value for one, told in TOLD.items()}


def test_what_a_path_is_stands_in_the_table_of_v1() -> None:
    for _, _, ours, _ in rows("Paths"):
        assert {route(one) for one in SPAN.findall(ours)} <= ROUTES.keys()


def test_page_gives_every_state_its_word() -> None:
    told = {SPAN.findall(state)[0]: SPAN.findall(word)[0] for state, word in rows("Queue")}

    assert told == {state.value: words.queue_status(state) for state in CallState}


def test_page_gives_every_exchange_its_word() -> None:
    attempts: list[tuple[str, str]] = []
    webhooks: list[tuple[str, str]] = []
    for said, word in rows("Logs"):
        place = webhooks if said.startswith("a webhook") else attempts
        place += [(one, SPAN.findall(word)[0]) for one in SPAN.findall(said)]

    reasons = {(one, "timeout") for one in words.TIMEOUTS}
    outcomes = {(one, words.log_status(one, None)) for one in words._OUTCOMES}
    assert set(attempts) == outcomes | reasons
    assert set(webhooks) == {(one, words.webhook_status(one)) for one in STATES}


@pytest.mark.parametrize(
    ("title", "filters"), [("Queue", queue_routes.FILTERS), ("Logs", log_routes.FILTERS)]
)
def test_page_names_every_filter(title: str, filters: tuple[str, ...]) -> None:
    line = next(one for one in section(title).splitlines() if one.startswith("Filters:"))

    assert [one for one in SPAN.findall(line) if one not in words.DIRECTIONS] == list(filters)


def test_page_names_every_name_in_payloads() -> None:
    told = {
        (SPAN.findall(operation)[0], SPAN.findall(theirs)[0], SPAN.findall(ours)[0])
        for operation, theirs, ours in rows("Names in payloads")
    }

    assert told == {
        (operation, theirs, ".".join(renamed.to))
        for operation, names in NAMES.items()
        for theirs, renamed in names.items()
    }


def test_page_names_the_paths_of_webhooks() -> None:
    told = {SPAN.findall(path)[0]: SPAN.findall(code)[0] for path, code in rows("Webhooks in")}

    assert {path: code for path, (code, _) in ALIASES.items()}.items() <= told.items()
    for path in told.keys() - ALIASES.keys():
        assert path == f"/webhooks/{told[path]}"
