"""kill -9 around the reply of a refresh: a working token afterwards, or a person is asked for.

``INTEGRATIOND_OAUTH_KILLS`` sets the kills of the long run. Each goes to one of five moments: the
request has arrived and nothing was done; the server has done it and says nothing; the reply is half
written; it is written; or a moment later, while the new token is being kept. Never may a call hang
without a reason that names what a person has to do.
"""

import functools
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.oauth.authorization_server import Answer, AuthorizationServer, authorization_server
from tests.oauth.running import WITHIN_S, Running, running, short_directory
from tests.sdk.scripted_server import Peer

SEED = 20261121
KILLS = int(os.environ.get("INTEGRATIOND_OAUTH_KILLS", "200"))
SECONDS_A_KILL = 15
MOMENTS = ("before", "unsaid", "half", "said", "later")
LATER_S = 0.02


class Killer:
    """Refreshes that a kill goes into, one after the other.

    Attributes:
        ended: What each kill came to, by its moment.
        faults: What must not be.
    """

    def __init__(self, daemon: Running, server: AuthorizationServer, kills: int) -> None:
        self._daemon = daemon
        self._server = server
        self._kills = kills
        self._random = random.Random(SEED)
        self._struck = anyio.Event()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.faults: list[str] = []

    async def run(self) -> None:
        """Kill in the middle of each refresh, and look what is left."""
        for number in range(self._kills):
            moment = MOMENTS[number % len(MOMENTS)]
            async with self._daemon.process.client() as client:
                await self._prepare(client)
                self._struck = anyio.Event()
                self._server.script.append(functools.partial(self._strike, moment))
                await self._daemon.submit(client)
                with anyio.fail_after(WITHIN_S):
                    await self._struck.wait()
            self._daemon.process.start()
            await self._daemon.ready()
            async with self._daemon.process.client() as client:
                self.ended[moment, await self._outcome(client, number)] += 1

    async def _prepare(self, client: httpx2.AsyncClient) -> None:
        """See that there is a token, and that it is refused at the next call."""
        shown = (await client.get("/v1/connections/mail")).json()
        if not shown["authorised"]:
            page = await self._daemon.authorise(client)
            assert page.status_code == 200, page.text
        self._server.expire()

    async def _strike(self, moment: str, peer: Peer, answer: Answer) -> None:
        reply = answer.to_bytes()
        if moment == "half":
            await peer.send(reply[: len(reply) // 2])
        elif moment in ("said", "later"):
            await peer.send(reply)
        if moment == "later":
            await anyio.sleep(self._random.uniform(0, LATER_S))
        self._daemon.process.kill()
        if moment == "before":
            self._undo(answer)
        self._struck.set()

    def _undo(self, answer: Answer) -> None:
        """Have it so that the request was never carried out."""
        given = answer.body
        family = self._server.refresh.pop(given["refresh_token"])
        spent = self._server.asked[-1]["refresh_token"]
        self._server.spent.pop(spent)
        self._server.refresh[spent] = family

    async def _outcome(self, client: httpx2.AsyncClient, number: int) -> str:
        """Say what the kill came to, once that is plain."""
        (call_id,) = await self._daemon.submit(client)
        with anyio.move_on_after(WITHIN_S):
            while True:
                call = await self._daemon.call(client, call_id)
                if call["state"] == "completed":
                    return "works"
                if call.get("reason") == "needs_authorisation":
                    await self._check_told(client, number)
                    return "needs a person"
                await anyio.sleep(0.01)
        self.faults.append(f"kill {number}: silence, {call}")
        return "silence"

    async def _check_told(self, client: httpx2.AsyncClient, number: int) -> None:
        events = await self._daemon.events(client, "connection.needs_authorisation")
        wanted = sum(count for (_, end), count in self.ended.items() if end == "needs a person") + 1
        if len(events) != wanted:
            self.faults.append(f"kill {number}: {len(events)} events, not {wanted}")
        if not any("authorize" in one for one in await self._daemon.problems(client)):
            self.faults.append(f"kill {number}: status says nothing")


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as made:
        yield made


async def endure(directory: Path, kills: int) -> Killer:
    """Kill so many times."""
    config: dict[str, Any] = {"grant": "authorization_code", "rotation": "strict"}
    async with (
        authorization_server() as server,
        running(directory, server, **config) as daemon,
    ):
        killer = Killer(daemon, server, kills)
        await killer.run()
        assert daemon.process.stop() == 0
    return killer


def judge(killer: Killer, kills: int) -> None:
    print(dict(killer.ended))
    assert not killer.faults
    assert sum(killer.ended.values()) == kills
    # The request that was not carried out is repeated; where it was, and nothing was kept of the
    # answer, only a person can help.
    assert {end for (moment, end) in killer.ended if moment == "before"} == {"works"}
    assert {end for (moment, end) in killer.ended if moment == "unsaid"} == {"needs a person"}


async def test_refresh_survives_a_few_kills_or_asks_for_a_person(directory: Path) -> None:
    judge(await endure(directory, len(MOMENTS)), len(MOMENTS))


@pytest.mark.slow
@pytest.mark.timeout(KILLS * SECONDS_A_KILL + 60)
async def test_refresh_survives_many_kills_or_asks_for_a_person(directory: Path) -> None:
    killer = await endure(directory, KILLS)

    judge(killer, KILLS)
    assert len({end for _moment, end in killer.ended}) == 2
