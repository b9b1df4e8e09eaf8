"""Operations by the users' paths: ``POST {category}/{verb}``, with their names of members."""

from typing import Any

import pytest
from tests.api.in_users_words import PHONE, SMS, holder, send, shown
from tests.api.world import MAX_BODY, ApiWorld, code_of, pointer_of

from integrationd.api.roles import Role
from integrationd.api.users.prefix import PREFIX

MAIL = {"to": "ann@x.test", "subject": "Report", "text": "See below"}
PUSH = {"token": "t" * 20, "title": "Alert", "body": "Now"}


@pytest.mark.parametrize(
    ("path", "body"), [("sms/send", SMS), ("email/send", MAIL), ("push/send", PUSH)]
)
async def test_operation_is_accepted_and_stands_in_the_queue(
    world: ApiWorld, path: str, body: dict[str, Any]
) -> None:
    answer = await send(world, path, body)

    made = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{PREFIX}queue/{made['id']}"
    assert (made["operation"], made["status"]) == (path.replace("/", "."), "pending")
    after = await world.client.get(answer.headers["location"], headers={"Prefer": "wait=5"})
    assert after.json()["status"] == "completed"


async def test_operation_takes_the_names_of_the_documents(world: ApiWorld) -> None:
    body = {"phoneNumber": PHONE, "body": "Your code is 1", "smsSenderId": "SCHOOL"}

    answer = await send(world, "sms/send", body, Prefer="wait=5")

    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    payload = (await shown(world, f"queue/{answer.json()['id']}"))["payload"]
    assert payload == {"to": PHONE, "message": "Your code is 1", "sender": "SCHOOL"}


async def test_operation_refuses_names_that_nobody_knows(idle: ApiWorld) -> None:
    answer = await send(idle, "sms/send", {**SMS, "options": {}})

    assert code_of(answer, 422) == "invalid"
    assert pointer_of(answer) == "/payload/options"


async def test_error_points_at_the_name_that_was_given(idle: ApiWorld) -> None:
    answer = await send(idle, "sms/send", {"phoneNumber": "0711", "body": "x"})

    assert code_of(answer, 422) == "invalid"
    assert pointer_of(answer) == "/payload/phoneNumber"


@pytest.mark.parametrize(("number", "name"), [("9", 1), ("1", 1), ("0", 0), ("-3", -1)])
async def test_priority_is_a_number(idle: ApiWorld, number: str, name: int) -> None:
    answer = await send(idle, "sms/send", SMS, f"?priority={number}")

    assert answer.json()["priority"] == name


@pytest.mark.parametrize("query", ["?priority=high", "?priority=1.5", "?surprise=1"])
async def test_option_that_is_none_is_refused(idle: ApiWorld, query: str) -> None:
    assert (await send(idle, "sms/send", SMS, query)).status_code in (400, 422)


async def test_payload_over_the_limit_is_refused(idle: ApiWorld) -> None:
    answer = await send(idle, "sms/send", {"to": PHONE, "body": "x" * MAX_BODY})

    assert code_of(answer, 413) == "too_large"


async def test_who_may_only_read_is_told_so_whatever_the_payload(idle: ApiWorld) -> None:
    client = await holder(idle, Role.READ)

    for body in (b"{", b'{"to":1,"phoneNumber":2}', b""):
        assert code_of(await client.post(f"{PREFIX}sms/send", content=body), 403)


async def test_same_key_gives_the_same_item(idle: ApiWorld) -> None:
    key = {"Idempotency-Key": "fees-1"}
    first = await send(idle, "sms/send", {"to": PHONE, "body": "x"}, **key)

    again = await send(idle, "sms/send", {"to": PHONE, "message": "x"}, **key)
    other = await send(idle, "sms/send", {"to": PHONE, "message": "y"}, **key)

    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert code_of(other, 422) == "idempotency_mismatch"


async def test_operation_of_any_plugin_answers(world: ApiWorld) -> None:
    answer = await send(world, "rehearsal/read", {}, Prefer="wait=5")

    assert answer.status_code == 200
    assert answer.json()["result"] == {"step": "delivered"}
    assert code_of(await send(world, "odd/do", {}), 422) == "unknown_operation"


@pytest.mark.parametrize("word", ["queue", "logs", "configs", "calls", "connections"])
async def test_what_has_routes_is_no_category(idle: ApiWorld, word: str) -> None:
    assert (await send(idle, f"{word}/do", {})).status_code in (404, 405)
