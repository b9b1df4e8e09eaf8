"""Every path of design 10 leads to its connection, and no other path anywhere."""

from pathlib import Path

import pytest
from tests.webhooks.world import CONNECTIONS, OTHER_SECRET, PATH, SECRET, HookWorld, told

from integrationd.webhooks.app import ALIASES

EVENT = {"event": "payment.received", "data": {"receipt": "R1"}}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/webhooks/till/till", 200),
        ("/webhooks/till/till/timeout", 200),
        ("/webhooks/till/booth", 401),
        ("/webhooks/till", 404),
        ("/webhooks/other/till", 404),
        ("/webhooks/till/nobody", 404),
        ("/webhooks/console/console", 404),
        ("/webhooks/till/", 404),
        ("/webhooks//till", 404),
        ("/webhooks/", 404),
        ("/webhooks", 404),
        ("/hooks/", 404),
        ("/hooks", 404),
        ("/hooks/00", 404),
        ("/hooks/" + "ab" * 200, 404),
        ("/", 404),
        ("//webhooks/till/till", 404),
        ("/v1/calls", 404),
        ("/healthz", 404),
    ],
)
async def test_path_leads_to_its_connection_or_nowhere(
    idle: HookWorld, path: str, status: int
) -> None:
    answer = await idle.send(told(EVENT), path)

    assert answer.status_code == status
    assert len(await idle.inbox()) == (status == 200)


async def test_what_follows_the_address_reaches_the_plugin(idle: HookWorld) -> None:
    address = idle.addresses.of_connection("till")

    await idle.send(told(EVENT), f"/hooks/{address}/result/timeout?a=1&b=")

    (kept,) = await idle.inbox()
    assert (kept.path, kept.query) == ("/result/timeout", "a=1&b=")


async def test_address_of_another_instance_leads_nowhere(idle: HookWorld) -> None:
    made = type(idle.addresses)(b"j" * 32)

    answers = [
        await idle.send(told(EVENT), f"/hooks/{token}")
        for token in (made.of_connection("till"), made.of_connection("booth"))
    ]

    assert [answer.status_code for answer in answers] == [404, 404]


async def test_address_of_a_call_that_never_was_leads_nowhere(idle: HookWorld) -> None:
    token = idle.addresses.of_call("019bc19c-0c00-7000-8000-00000000c0de")

    assert (await idle.send(told(EVENT), f"/hooks/{token}")).status_code == 404


async def test_provider_alone_is_enough_where_it_has_one_connection(tmp_path: Path) -> None:
    connections = {
        "till": CONNECTIONS["till"],
        "off": {**CONNECTIONS["till"], "enabled": False},
    }
    world = HookWorld(tmp_path, connections)
    async with world.running(delivers=False):
        answer = await world.send(told(EVENT), "/webhooks/till")

        assert answer.status_code == 200
        assert [kept.connection for kept in await world.inbox()] == ["till"]


async def test_secrets_of_several_connections_are_never_tried_in_turn(tmp_path: Path) -> None:
    other = {"provider": "till", "config": {"secret": OTHER_SECRET}}
    world = HookWorld(tmp_path, {"till": CONNECTIONS["till"], "other": other})
    async with world.running(delivers=False):
        body = told(EVENT)

        to_none = await world.send(body, "/webhooks/till")
        to_other = await world.send(body, "/webhooks/till/other")

        assert (to_none.status_code, to_other.status_code) == (404, 401)


async def test_webhook_of_several_connections_goes_to_the_one_whose_account_it_names(
    tmp_path: Path,
) -> None:
    ann = {"provider": "till", "config": {"secret": SECRET, "account": "ann"}}
    ben = {"provider": "till", "config": {"secret": OTHER_SECRET, "account": "ben"}}
    world = HookWorld(tmp_path, {"ann": ann, "ben": ben})
    async with world.running(delivers=False):
        bodies = [told(EVENT, account=name) for name in ("ann", "ben", "nobody")]

        answers = [await world.send(body, "/webhooks/till") for body in (*bodies, b"[]", b"{}")]

        # What names Ben has to be proved with Ben's own secret.
        assert [answer.status_code for answer in answers] == [200, 401, 404, 404, 404]
        assert [kept.connection for kept in await world.inbox()] == ["ann"]


async def test_unsigned_webhook_on_a_plain_path_needs_a_list_of_addresses(tmp_path: Path) -> None:
    booth = CONNECTIONS["booth"]
    here, elsewhere = ({"allow_from": [one]} for one in ("127.0.0.0/8", "192.0.2.0/24"))
    strict = {**here, "require_address": True}
    rules = {"open": {}, "here": here, "elsewhere": elsewhere, "strict": strict}
    world = HookWorld(tmp_path, {name: {**booth, "webhook": one} for name, one in rules.items()})
    async with world.running(delivers=False):
        answers = {
            name: (await world.send(told(EVENT), f"/webhooks/till/{name}", {})).status_code
            for name in rules
        }
        junk = await world.send(b"junk", "/webhooks/till/here", {})

        assert answers == {"open": 401, "here": 200, "elsewhere": 403, "strict": 404}
        assert junk.status_code == 400
        assert [kept.proof for kept in await world.inbox()] == ["address"]


@pytest.mark.parametrize("path", sorted(ALIASES))
async def test_names_in_users_documents_lead_to_their_provider(tmp_path: Path, path: str) -> None:
    code, rest = ALIASES[path]
    world = HookWorld(tmp_path, {"till": CONNECTIONS["till"]})
    source = Path(__file__).with_name("till.py").read_text()
    plugin = tmp_path / "renamed.py"
    plugin.write_text(source.replace('code = "till"', f'code = "{code}"'))
    async with world.running(delivers=False):
        assert (await world.send(told(EVENT), path)).status_code == 404

    again = HookWorld(
        tmp_path, {"one": {**CONNECTIONS["till"], "provider": code}}, plugin_file=plugin
    )
    async with again.running(delivers=False):
        assert (await again.send(told(EVENT), path)).status_code == 200
        assert [kept.path for kept in await again.inbox()] == [rest]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
async def test_other_methods_are_not_allowed(idle: HookWorld, method: str) -> None:
    answer = await idle.client.request(method, PATH)

    assert answer.status_code == 405
    assert await idle.inbox() == []


async def test_handshake_is_answered_to_the_one_who_knows_and_kept_nowhere(
    idle: HookWorld,
) -> None:
    good = await idle.client.get(PATH, params={"token": SECRET, "challenge": "<b>1</b>"})
    bad = await idle.client.get(PATH, params={"token": "guess", "challenge": "1"})

    assert (good.status_code, good.text) == (200, "<b>1</b>")
    assert good.headers["content-type"] == "text/plain; charset=utf-8"
    assert good.headers["x-content-type-options"] == "nosniff"
    assert bad.status_code == 405
    assert await idle.inbox() == []


async def test_unknown_connection_in_an_address_leads_nowhere_after_it_is_gone(
    tmp_path: Path,
) -> None:
    world = HookWorld(tmp_path, {"booth": CONNECTIONS["booth"]})
    async with world.running(delivers=False):
        path = f"/hooks/{world.addresses.of_connection('till')}"

        assert (await world.send(told(EVENT), path)).status_code == 404
