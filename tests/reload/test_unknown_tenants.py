"""Connections of tenants that there are not: refused in the file, left out where they are stored.

And ``config check``, which knows what is stored as a start does.
"""

import json
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from tests.fake_clock import START_MS
from tests.reload.rig import Rig, echo, put, running

from integrationd.cli.check import Report, check
from integrationd.clock import SystemClock
from integrationd.events import Bus
from integrationd.journal import Journal, StoredConnection, StoredTenant
from integrationd.settings import RejectedConfigError
from integrationd.supervisor.snapshot import Source

BY = "uid:0"
OWN = '[connections.own]\nprovider = "console"\ntenant = "school"\n'


def written(directory: Path, tables: str = "") -> Path:
    file = directory / "integrationd.toml"
    file.write_text(f'[journal]\npath = "journal.db"\n{tables}')
    return file


async def stored(directory: Path, *records: StoredTenant | StoredConnection) -> None:
    """Keep records in the journal of a directory."""
    journal = Journal(directory / "journal.db", b"i" * 32, Bus(), SystemClock())
    await journal.open()
    try:
        for one in records:
            if isinstance(one, StoredTenant):
                await journal.directory.keep_tenant(one, BY)
            else:
                await journal.directory.keep_connection(one, None, BY)
    finally:
        await journal.close()


def tenant(name: str = "school") -> StoredTenant:
    return StoredTenant(id=name, settings="{}", created_at_ms=START_MS, changed_at_ms=START_MS)


def connection(name: str = "made", owner: str | None = "school", **more: Any) -> StoredConnection:
    settings = {"provider": "console", "tenant": owner, **more}
    return StoredConnection(
        id=name,
        tenant=owner,
        settings=json.dumps(settings),
        created_at_ms=START_MS,
        changed_at_ms=START_MS,
    )


def test_connection_of_the_file_may_not_name_a_tenant_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(RejectedConfigError) as caught:
        Source(written(tmp_path, OWN), {}).read()

    (problem,) = caught.value.problems
    assert problem.where == "connections.own.tenant"
    assert problem.reason.startswith("there is no tenant 'school'; make it first")


@pytest.mark.parametrize("tables", ["[tenants.school]\n", ""])
async def test_tenant_of_the_file_or_of_the_api_will_do(tmp_path: Path, tables: str) -> None:
    if not tables:
        await stored(tmp_path, tenant())

    found = Source(written(tmp_path, OWN + tables), {}).read()

    assert [one.tenant for one in found.specs()] == ["school"]


async def test_stored_connection_of_an_unknown_tenant_is_left_out_and_stops_no_start(
    tmp_path: Path,
) -> None:
    await stored(tmp_path, connection())

    found = Source(written(tmp_path), {}).read()

    assert found.specs() == []
    assert [one.where for one in found.left_out["made"]] == ["connections.made.tenant"]


def test_start_with_an_unreadable_journal_asks_for_no_tenant_and_no_route(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"no journal" * 1000)
    tables = f'{OWN}[routes."sms.send"]\norder = ["of-the-api"]\n'

    found = Source(written(tmp_path, tables), {}).read()

    assert found.stored.unread
    assert [one.name for one in found.specs()] == ["own"]


async def test_file_that_drops_a_tenant_of_connections_is_refused(short_path: Path) -> None:
    school = "[tenants.school]\n"
    rig = Rig(short_path, school)
    put(rig.plugins / "echo.py", echo("blue"))
    async with running(rig):
        body = {"id": "theirs", "provider": "echo", "tenant": "school"}
        assert (await rig.client.post("/v1/connections", json=body)).status_code == 201
        rig.configure("")
        refused = await rig.client.post("/v1/config/reload")
        still = await rig.client.get("/v1/connections/theirs")
        await rig.client.delete("/v1/connections/theirs")
        taken = await rig.client.post("/v1/config/reload")
        known = [one["id"] for one in (await rig.get("/v1/tenants"))["items"]]

    assert refused.status_code == 409
    assert "tenants.school" in refused.text
    assert "connections made over the API are its own: theirs" in refused.text
    assert still.json()["state"] == "serving"
    assert taken.status_code == 200
    assert known == ["default"]


# What config check knows


async def test_check_knows_what_is_stored(tmp_path: Path) -> None:
    await stored(tmp_path, tenant(), connection(), connection("shared", None))
    route = '[routes."sms.send"]\norder = ["shared"]\n'

    report = await _checked(written(tmp_path, OWN + route))

    assert report.is_ok, report.problems
    assert {one.id for one in report.connections} == {"own", "made", "shared"}


async def test_check_finds_an_id_that_is_in_both(tmp_path: Path) -> None:
    await stored(tmp_path, tenant(), connection("own", None))

    report = await _checked(written(tmp_path, f"{OWN}[tenants.school]\n"))

    assert {one.where for one in report.problems} == {"tenants.school", "connections.own"}


async def test_check_warns_of_what_is_stored_and_cannot_be_made(tmp_path: Path) -> None:
    await stored(
        tmp_path,
        connection("lost"),
        connection("typo", None, provider="paperplane"),
        connection("empty", None, provider="http", config={"base_url": "vault:none"}),
    )

    report = await _checked(written(tmp_path))

    assert report.is_ok
    assert {one.where.split(".")[1] for one in report.warnings} >= {"lost", "typo", "empty"}


async def test_check_says_that_the_journal_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"no journal" * 1000)

    report = await _checked(written(tmp_path))

    assert report.is_ok
    (warning,) = [one for one in report.warnings if one.where == "journal.path"]
    assert "what was made over the API is not known here" in warning.reason


async def _checked(file: Path) -> Report:
    # A check runs a loop of its own.
    return await anyio.to_thread.run_sync(check, file, {}, SystemClock())
