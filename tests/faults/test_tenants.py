"""Many random requests of two tenants: nothing of one ever turns up in an answer to the other.

``INTEGRATIOND_TENANT_REQUESTS`` sets how many the long run makes.
"""

import json
import os
import random
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.api.tenant_matrix import MATRIX, SHORT
from tests.api.tenant_stage import OTHER, Stage, staged

from integrationd.api.openapi_table import ROUTES
from integrationd.api.roles import Role

SEED = 20260514
REQUESTS = int(os.environ.get("INTEGRATIOND_TENANT_REQUESTS", "100000"))
FEW = 2000
TENANTS = ("acme", OTHER)
# Calls, webhooks and keys: each belongs to one tenant, whoever is answered.
ID = re.compile(r"\b(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16})\b")
# Taking these away ends the play; what they do to foreign things, the matrix shows.
KEPT = {("delete", "/v1/connections/{name}"), ("delete", "/v1/keys/{key_id}")}
PARAMETER = re.compile(r"\{(\w+)\}")


class Play:
    """Plays random requests and watches what is answered.

    Attributes:
        leaks: Where something of one tenant was shown to the other.
        crashes: Where the daemon failed.
        statuses: How often each status was answered.
    """

    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage = stage
        self._chance = random.Random(seed)
        self._owner: dict[str, str] = {}
        self._things = {
            "acme": {name: list(found) for name, found in stage.ours.items()},
            OTHER: {name: list(found) for name, found in stage.theirs.items()},
        }
        self._calls: dict[str, set[str]] = {tenant: set() for tenant in TENANTS}
        self._routes = sorted(one for one in MATRIX if one not in KEPT)
        self.leaks: list[str] = []
        self.crashes: list[str] = []
        self.statuses: Counter[int] = Counter()
        for tenant in TENANTS:
            for found in self._things[tenant].values():
                self._owner |= {one: tenant for one in found if ID.fullmatch(one)}
            self._calls[tenant] |= set(self._things[tenant]["call_id"])

    def accepted(self, tenant: str) -> int:
        """Return how many calls the tenant knows of."""
        return len(self._calls[tenant])

    async def once(self) -> None:
        """Make one request and look at the answer."""
        chance = self._chance
        tenant, role = chance.choice(TENANTS), chance.choice(list(Role))
        method, template = chance.choice(self._routes)
        said: list[str] = []
        # What a tenant makes, it names by itself.
        own = f"{tenant}-made" if MATRIX[method, template].how == "own" else None
        path = PARAMETER.sub(lambda found: self._fill(found[1], tenant, own, said), template)
        query = self._query(method, template, said)
        body = self._body(method, template, said)
        client = self._stage.clients[tenant, role]
        answer = await client.request(method, path, params=query, json=body)
        self.statuses[answer.status_code] += 1
        if answer.status_code >= 500:
            self.crashes.append(f"{method} {path} {query} {body}: {answer.text}")
        self._watch(tenant, f"{method} {path} {query} {body}", said, answer)

    def _fill(self, name: str, tenant: str, own: str | None, said: list[str]) -> str:
        """Return something of the tenant, or of the other, or what nobody has."""
        if name in ("category", "verb"):
            return {"category": "rehearsal", "verb": "hold"}[name]
        if own is not None:
            return own
        whose = self._chance.choice((tenant, *TENANTS, None))
        found = [self._stage.never[name]] if whose is None else self._things[whose][name]
        said.append(self._chance.choice(found))
        return said[-1]

    def _query(self, method: str, template: str, said: list[str]) -> dict[str, str]:
        told = ROUTES.get((method, template))
        known = ("tenant", "connection") if told is None else told.query
        values = {
            "tenant": (*TENANTS, "nobody"),
            "connection": ("acme-stage", "zebra-stage", "stage", "never-there"),
            "call_id": tuple(one for each in self._calls.values() for one in sorted(each)[:20]),
            "state": ("pending", "failed", "completed"),
            "limit": ("1", "500"),
        }
        query = {}
        for name in known:
            if name in values and self._chance.random() < 0.3:
                query[name] = self._chance.choice(values[name])
                said.append(query[name])
        return query

    def _body(self, method: str, template: str, said: list[str]) -> Any:
        treats = MATRIX[method, template]
        bodies = [treats.body, *treats.foreign]
        body = self._chance.choice([one for one in bodies if one is not None] or [None])
        if body is None:
            return {} if (method, template) == SHORT else None
        names = {
            "{tenant}": self._chance.choice((*TENANTS, "nobody")),
            "{connection}": self._chance.choice(("acme-stage", "zebra-stage", "never-there")),
        }
        text = json.dumps(body)
        for mark, name in names.items():
            if mark in text:
                said.append(name)
            text = text.replace(mark, name)
        # What the matrix writes for one tenant is as good for the other.
        return json.loads(text)

    def _watch(self, tenant: str, asked: str, said: list[str], answer: httpx2.Response) -> None:
        other = OTHER if tenant == "acme" else "acme"
        text = answer.text
        for one in {*said, "acme-stage", "acme-made", "acme-other", "acme-users", "acme-others"}:
            text = text.replace(one, "")
        if other in text:
            at = text.index(other)
            around = text[max(0, at - 200) : at + 200]
            self.leaks.append(f"{tenant} asked {asked} and was shown {around}")
        for found in ID.findall(text):
            if self._owner.setdefault(found, tenant) != tenant:
                self.leaks.append(f"{tenant} asked {asked} and was shown {found} of {other}")
        self._note_calls(tenant, answer)

    def _note_calls(self, tenant: str, answer: httpx2.Response) -> None:
        if not answer.headers.get("content-type", "").startswith("application/json"):
            return
        shown = answer.json()
        listed = shown.get("items") if isinstance(shown, Mapping) else None
        for one in [shown, *(listed if isinstance(listed, list) else ())]:
            if isinstance(one, Mapping) and "gives_up_at" in one:
                self._calls[tenant].add(one["id"])
                if len(self._things[tenant]["call_id"]) < 200:
                    self._things[tenant]["call_id"].append(one["id"])


async def played(directory: Path, seed: int, requests: int) -> None:
    async with staged(directory) as stage:
        play = Play(stage, seed)
        for _ in range(requests):
            await play.once()
            assert not play.leaks, play.leaks[0]
        print(dict(play.statuses))
        lines = await stage.world.journal.ledger.lines()
        by_tenant = Counter(dict.fromkeys(TENANTS, 0))
        for line in lines:
            by_tenant[line.tenant] += line.accepted

    assert not play.crashes
    known = {tenant: play.accepted(tenant) for tenant in TENANTS}
    assert all(by_tenant[tenant] >= known[tenant] > requests // 1000 for tenant in TENANTS), (
        by_tenant,
        known,
    )
    assert all(line.balances for line in lines)
    assert by_tenant.keys() == set(TENANTS)
    assert min(play.statuses[status] for status in (200, 202, 403, 404, 422)) > requests / 200


@pytest.mark.timeout(240)
async def test_nothing_leaks_in_a_few_random_requests(tmp_path: Path) -> None:
    await played(tmp_path, SEED, FEW)


@pytest.mark.slow
@pytest.mark.timeout(REQUESTS / 10 + 300)
async def test_nothing_leaks_in_many_random_requests(tmp_path: Path) -> None:
    await played(tmp_path, SEED + 1, REQUESTS)
