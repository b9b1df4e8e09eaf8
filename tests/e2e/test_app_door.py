"""The app's own door, ``[app] events_url``, with a real daemon and a real app."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.app_door import App
from tests.e2e.running import REHEARSAL, command
from tests.faults.daemon import DaemonProcess, free_port

QUICKLY = """\
[connections.stage.query]
first = "100ms"
cap = "1s"
"""
BOTH = ["call.waiting", "call.completed"]


def a_secret(letter: str) -> str:
    return f"whsec_{base64.b64encode(letter.encode() * 32).decode()}"


SECRET, OTHER_SECRET = a_secret("a"), a_secret("b")


class Door:
    """A daemon, and where its app is.

    Attributes:
        daemon: The daemon.
        at: The app's port, or its socket.
    """

    def __init__(self, directory: Path, kind: str = "http") -> None:
        self.at: int | Path = directory / "app.sock" if kind == "unix" else free_port()
        self._secret_file = directory / "app.secret"
        self._config = directory / "integrationd.toml"
        self.put_secret(SECRET)
        self.daemon = DaemonProcess(directory, "")
        self._places = self._config.read_text()
        self.configure()

    def put_secret(self, secret: str) -> None:
        self._secret_file.write_text(secret)
        self._secret_file.chmod(0o600)

    def configure(self, *, opens: bool = True) -> None:
        """Write the configuration."""
        is_unix = isinstance(self.at, Path)
        url = f"unix:{self.at}" if is_unix else f"http://127.0.0.1:{self.at}/events"
        app = f'[app]\nevents_url = "{url}"\nsecret = "file:{self._secret_file}"\n'
        self._config.write_text(f"{self._places}{REHEARSAL}{QUICKLY}{app if opens else ''}")

    def start(self) -> None:
        self.daemon.start()
        self.daemon.wait_ready()

    async def submit(self, count: int) -> list[str]:
        """Have calls accepted that make two events each; return their ids."""
        payload = {"script": ["accepted"], "findings": ["done"]}
        one = {"operation": "rehearsal.ask", "payload": payload}
        async with self.daemon.client() as client:
            answer = await client.post("/v1/calls/batch", json={"calls": [one] * count})
        assert answer.status_code == 202, answer.text
        return [item["id"] for item in answer.json()["items"]]


@pytest.fixture
def door(short_path: Path) -> Iterator[Door]:
    made = Door(short_path)
    with made.daemon:
        yield made


def has_both(app: App, calls: list[str]) -> bool:
    return all(len(app.about(one)) >= 2 for one in calls)


@pytest.mark.parametrize("kind", ["http", "unix"])
async def test_app_is_told_what_concerns_it_signed_and_in_order(
    short_path: Path, kind: str
) -> None:
    door, app = Door(short_path, kind), App(SECRET)
    with door.daemon:
        door.start()
        async with app.listening(door.at):
            calls = await door.submit(10)
            async with door.daemon.client() as client:
                await client.post("/v1/events", json={"type": "order.paid"})
            await app.until(lambda app: has_both(app, calls))

    assert not [one.fault for one in app.seen if one.fault]
    assert {one.type for one in app.seen} == set(BOTH)
    assert all(app.about(one) == BOTH for one in calls)
    assert len({one.webhook_id for one in app.taken}) == len(app.taken) == 20


async def test_calls_trouble_holds_up_its_own_events_only(door: Door) -> None:
    app = App(SECRET)
    door.start()
    async with app.listening(door.at):
        (stuck,) = await door.submit(1)
        app.refused.add(stuck)
        await app.until(lambda app: sum(one.status == 500 for one in app.seen) >= 3)
        others = await door.submit(10)
        await app.until(lambda app: has_both(app, others))
        held = [one for one in app.seen if one.call_id == stuck]
        app.refused.clear()
        await app.until(lambda app: has_both(app, [stuck]), within_s=60)

    # The second was not sent before the first was taken.
    assert len({one.webhook_id for one in held}) == 1
    assert app.about(stuck) == BOTH
    assert all(app.about(one) == BOTH for one in others)


async def test_app_that_was_down_gets_everything_in_order(door: Door) -> None:
    app = App(SECRET)
    door.start()
    calls = await door.submit(30)
    async with door.daemon.client() as client:
        for one in calls:
            answer = await client.get(f"/v1/calls/{one}", headers={"Prefer": "wait=10"})
            assert answer.status_code == 200
    door.daemon.stop()
    door.start()
    calls += await door.submit(10)
    async with app.listening(door.at):
        await app.until(lambda app: has_both(app, calls), within_s=60)

    assert not [one.fault for one in app.seen if one.fault]
    assert all(order == sorted(order) for order in app.orders().values())
    assert all(app.about(one) == BOTH for one in calls)


async def test_event_that_was_under_way_at_kill_9_comes_again_under_its_id(door: Door) -> None:
    app = App(SECRET, is_silent=True)
    door.start()
    async with app.listening(door.at):
        calls = await door.submit(3)
        await app.until(lambda app: len(app.seen) >= 3)
        cut_off = {one.webhook_id for one in app.seen}
        door.daemon.kill()
        app.is_silent = False
        door.start()
        await app.until(lambda app: has_both(app, calls))

    assert cut_off <= {one.webhook_id for one in app.taken}
    assert {app.seen[0].sequence} == {
        one.sequence for one in app.taken if one.webhook_id == app.seen[0].webhook_id
    }
    assert all(app.about(one) == BOTH for one in calls)


async def test_reload_takes_over_another_url_and_another_secret(door: Door) -> None:
    before, after = App(SECRET), App(OTHER_SECRET)
    door.start()
    async with before.listening(door.at):
        first = await door.submit(2)
        await before.until(lambda app: has_both(app, first))
    door.at = free_port()
    door.put_secret(OTHER_SECRET)
    door.configure()

    # A no-op where the daemon has seen the change already.
    told = await command(door.daemon, "reload")
    async with after.listening(door.at), door.daemon.client() as client:
        second = await door.submit(2)
        await after.until(lambda app: has_both(app, second))
        applied = (await client.get("/v1/events", params={"type": "config.applied"})).text

    assert not [one.fault for one in (*before.seen, *after.seen) if one.fault]
    assert not {one.webhook_id for one in before.seen} & {one.webhook_id for one in after.seen}
    # Told once, as what people wrote.
    assert applied.count("app.events_url") == 1
    assert "subscription:" not in applied + told


async def test_door_opens_and_closes_by_reload(door: Door) -> None:
    app = App(SECRET)
    door.configure(opens=False)
    door.start()
    async with app.listening(door.at):
        await door.submit(1)
        door.configure()
        await command(door.daemon, "reload")
        calls = await _until_told(door, app)
        door.configure(opens=False)
        await command(door.daemon, "reload")
        unheard = await door.submit(2)
        async with door.daemon.client() as client:
            for one in unheard:
                await client.get(f"/v1/calls/{one}", headers={"Prefer": "wait=10"})
        assert not [one for one in app.seen if one.call_id in unheard]
        door.configure()
        await command(door.daemon, "reload")
        # Where it stood when it was closed.
        await app.until(lambda app: has_both(app, unheard))

    assert calls
    assert not [one.fault for one in app.seen if one.fault]


async def _until_told(door: Door, app: App) -> list[str]:
    """Have calls made until the door is known to be open; return those that were told whole."""
    calls = await door.submit(3)
    await app.until(lambda app: has_both(app, calls))
    return calls


async def test_door_is_shown_nowhere_as_a_connection(door: Door) -> None:
    app = App(SECRET)
    door.start()
    async with app.listening(door.at), door.daemon.client() as client:
        calls = await door.submit(2)
        await app.until(lambda app: has_both(app, calls))
        wish = {"url": "https://shop.example/hooks", "events": ["order.*"]}
        made = (await client.post("/v1/subscriptions", json=wish)).json()
        shown = [
            (await client.get(path)).text
            for path in (
                *("/v1/connections", "/v1/webhook-endpoints", "/v1/status", "/metrics"),
                *("/v1/calls", "/api/v1/integrations/configs"),
            )
        ]
        printed = [
            await command(door.daemon, *words)
            for words in (("connections",), ("webhooks", "endpoints"), ("status",), ("reload",))
        ]
        refusals = [await _refused(client, f"subscription:{one}") for one in ("app", made["id"])]
        unknown = await _refused(client, "subscription:none")
        metrics = (await client.get("/metrics")).text

    assert not [text for text in (*shown, *printed) if "subscription:" in text]
    assert 'connection="subscription"' in metrics
    assert [one.replace("app", "none", 1) for one in refusals[:1]] == [unknown]
    assert refusals[1].replace(made["id"], "none") == unknown


async def _refused(client: Any, connection: str) -> str:
    """Return how a call is refused that names a connection."""
    body = {
        "operation": "webhook.send",
        "payload": {"type": "order.paid", "body": "{}"},
        "connection": connection,
    }
    answer = await client.post("/v1/calls", json=body)
    looked = await client.get(f"/v1/connections/{connection}")
    assert (answer.status_code, looked.status_code) == (422, 404)
    told: dict[str, Any] = answer.json()
    return json.dumps({key: told[key] for key in ("code", "detail", "status")})
