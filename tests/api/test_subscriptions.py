"""Subscriptions over the API: made, shown without secrets, changed, rotated, told, deleted."""

import json
from typing import Any

import httpx2
import pytest
from tests.api.world import ApiWorld, code_of, pointer_of

URL = "https://shop.example/hooks"


async def made(client: httpx2.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await client.post("/v1/subscriptions", json={"url": URL, **more})
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def test_secret_is_shown_once_and_is_nowhere_else(idle: ApiWorld) -> None:
    answer = await idle.client.post(
        "/v1/subscriptions", json={"url": URL, "headers": {"Authorization": "Bearer h1dden-value"}}
    )
    shown = answer.json()
    one = f"/v1/subscriptions/{shown['id']}"
    texts = [
        (await idle.client.get(path)).text for path in (one, "/v1/subscriptions", "/v1/events")
    ]

    assert answer.headers["cache-control"] == "no-store"
    assert shown["secret"].startswith("whsec_")
    assert shown["headers"] == ["Authorization"]
    assert (shown["state"], shown["tenant"], shown["scheme"]) == ("active", None, "standard")
    assert not [text for text in texts if shown["secret"] in text or "h1dden-value" in text]


async def test_simple_scheme_has_a_plain_secret_and_its_own_events(idle: ApiWorld) -> None:
    shown = await made(idle.client, scheme="simple", events=["payment.*", "customer.enrolled"])

    assert not shown["secret"].startswith("whsec_")
    assert len(shown["secret"]) >= 32
    assert shown["events"] == ["payment.*", "customer.enrolled"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"url": "http://shop.example/"}, "/url"),
        ({"url": "https://127.0.0.1/"}, "/url"),
        ({"url": "https://localhost./"}, "/url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "/url"),
        ({"url": "https://user:word@shop.example/"}, "/url"),
        ({"url": "https://shop.example:25/"}, "/url"),
        ({"url": "unix:/run/app.sock"}, "/url"),
        ({"events": ["payment.*.x"]}, "/events/0"),
        ({"events": ["ok.fine", "[a-z]*"]}, "/events/1"),
        ({"events": []}, "/events"),
        ({"headers": {"webhook-signature": "v1,x"}}, "/headers"),
        ({"headers": {"Connection": "close"}}, "/headers"),
        ({"secret": "this is no standard secret"}, "/secret"),
        ({"schedule": [-1]}, "/schedule/0"),
        ({"scheme": "md5"}, "/scheme"),
        ({"tenant": "nobody"}, "/tenant"),
    ],
)
async def test_what_cannot_work_is_refused_by_its_member(
    idle: ApiWorld, changes: dict[str, Any], pointer: str
) -> None:
    answer = await idle.client.post("/v1/subscriptions", json={"url": URL, **changes})

    assert answer.status_code == 422, answer.text
    assert pointer_of(answer).startswith(pointer.rpartition("/0")[0] or pointer)
    assert (await idle.client.get("/v1/subscriptions")).json()["items"] == []


async def test_change_keeps_secret_and_headers_that_it_does_not_name(idle: ApiWorld) -> None:
    shown = await made(idle.client, headers={"X-Own": "a"}, name="before")
    one = f"/v1/subscriptions/{shown['id']}"

    changed = await idle.client.put(one, json={"url": URL, "name": "after", "active": False})
    refused = await idle.client.put(one, json={"url": URL, "secret": shown["secret"]})

    assert changed.status_code == 200, changed.text
    view = changed.json()
    assert (view["name"], view["headers"], view["state"]) == ("after", ["X-Own"], "paused")
    assert refused.status_code == 422
    assert pointer_of(refused) == "/secret"


async def test_rotation_gives_another_secret_and_tells_of_it(idle: ApiWorld) -> None:
    shown = await made(idle.client)
    one = f"/v1/subscriptions/{shown['id']}"

    rotated = await idle.client.post(f"{one}/rotate", json={"overlap": 3600})

    assert rotated.status_code == 201, rotated.text
    assert rotated.json()["secret"] != shown["secret"]
    types = [event.type for event in await idle.journal.events.after(0, 100)]
    assert types.count("subscription.created") == 1
    assert types.count("subscription.rotated") == 1


async def test_deletion_is_for_good(idle: ApiWorld) -> None:
    shown = await made(idle.client)
    one = f"/v1/subscriptions/{shown['id']}"

    assert (await idle.client.delete(one)).status_code == 204
    for path, verb in ((one, "GET"), (one, "DELETE"), (f"{one}/deliveries", "GET")):
        answer = await idle.client.request(verb, path)
        assert (answer.status_code, code_of(answer)) == (404, "no_such_subscription")


async def test_test_event_waits_in_the_deliveries_and_in_no_list_of_calls(idle: ApiWorld) -> None:
    shown = await made(idle.client)
    one = f"/v1/subscriptions/{shown['id']}"

    sent = await idle.client.post(f"{one}/test")
    (delivery,) = (await idle.client.get(f"{one}/deliveries")).json()["items"]
    plain = (await idle.client.get("/v1/calls")).json()["items"]
    asked = (await idle.client.get("/v1/calls", params={"operation": "webhook.send"})).json()

    assert sent.status_code == 202
    assert delivery["id"] == sent.json()["delivery"]
    assert (delivery["type"], delivery["status"]) == ("subscription.test", "pending")
    assert plain == []
    assert [one["id"] for one in asked["items"]] == [delivery["id"]]


async def test_range_is_counted_before_it_is_delivered_again(idle: ApiWorld) -> None:
    for number in range(3):
        published = await idle.client.post(
            "/v1/events", json={"type": "reward.issued", "data": {"number": number}}
        )
        assert published.status_code < 300, published.text
    shown = await made(idle.client, events=["reward.*"])
    one = f"/v1/subscriptions/{shown['id']}"

    counted = await idle.client.post(f"{one}/redeliver", json={"after": 0, "dry_run": True})
    begun = await idle.client.post(f"{one}/redeliver", json={"after": 0})
    again = await idle.client.post(f"{one}/redeliver", json={"after": 0})
    neither = await idle.client.post(f"{one}/redeliver", json={})

    assert counted.json() == {"count": 3, "delivery": None, "dry_run": True}
    assert (begun.status_code, begun.json()["count"]) == (202, 3)
    assert (again.status_code, code_of(again)) == (409, "redelivery_under_way")
    assert neither.status_code == 422


async def test_one_delivery_is_made_again_under_the_same_webhook_id(idle: ApiWorld) -> None:
    shown = await made(idle.client)
    one = f"/v1/subscriptions/{shown['id']}"
    first = (await idle.client.post(f"{one}/test")).json()["delivery"]

    again = await idle.client.post(f"{one}/redeliver", json={"delivery": first})
    unknown = await idle.client.post(f"{one}/redeliver", json={"delivery": "0" * 36})

    two = (await idle.client.get(f"{one}/deliveries")).json()["items"]
    assert again.status_code == 202
    assert len({delivery["webhook_id"] for delivery in two}) == 1
    assert len({delivery["id"] for delivery in two}) == 2
    assert unknown.status_code == 404


async def test_acts_are_told_with_before_and_after_but_no_path_of_the_url(idle: ApiWorld) -> None:
    shown = await made(idle.client, url="https://shop.example/s3cret-path", name="one")
    body = {"url": "https://shop.example/s3cret-path", "name": "two"}
    await idle.client.put(f"/v1/subscriptions/{shown['id']}", json=body)

    found = {event.type: event.data for event in await idle.journal.events.after(0, 100)}
    changed = json.loads(found["subscription.changed"])
    assert (changed["before"]["name"], changed["after"]["name"]) == ("one", "two")
    assert "s3cret-path" not in "".join(found.values())
