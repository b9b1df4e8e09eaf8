"""Plans: a set is made beside the one that serves and takes its place in one step, or never."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.registry.plugin_sources import paper, write

from integrationd.registry import (
    Connection,
    ConnectionSpec,
    LoadedPlugins,
    Registry,
    Shelf,
)
from integrationd.sdk.plugin_file import PluginFault
from integrationd.sdk.testing import FakeClock
from integrationd.settings.table import RejectedConfigError

STRICT = """
    class Config(ProviderConfig):
        size: str = "A4"
        tray: int
"""
FUSSY = """
    def __init__(self, config, connection):
        super().__init__(config, connection)
        if config.size == "A3":
            raise ValueError("no such paper")
"""
NEVER_CLOSES = """
    async def aclose(self):
        import anyio
        await anyio.sleep_forever()
"""
EXITS_WHEN_CLOSED = """
    async def aclose(self):
        type(self).closed += 1
        raise SystemExit(3)
"""


async def nothing_wrong(_paths: Sequence[Path]) -> Mapping[Path, PluginFault]:
    return {}


class Office:
    """A registry over a directory of plugin files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shelf = Shelf()
        self.registry = Registry(self.shelf.collated({}))

    async def read(self) -> LoadedPlugins:
        paths = sorted(self.directory.glob("*.py"))
        self.shelf = await self.shelf.read(paths, FakeClock(), nothing_wrong)
        return self.shelf.collated(self.registry.versions)

    async def take(self, *specs: ConnectionSpec) -> tuple[Connection, ...]:
        return self.registry.commit(await self.registry.plan(await self.read(), specs))

    def put(self, source: str, name: str = "paper.py") -> Path:
        return write(self.directory / name, source)

    def colour(self, name: str = "desk") -> object:
        return vars(self.registry.connection(name).plugin.provider)["colour"]

    def faults(self) -> dict[str, str]:
        return {fault.path.name: fault.reason for fault in self.registry.faults}


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    office = Office(tmp_path)
    office.put(paper())
    yield office
    await office.registry.aclose()


def spec(name: str = "desk", provider: str = "paper", **changes: Any) -> ConnectionSpec:
    given: dict[str, Any] = {"environment": "sandbox", "config": {}, "timeout_s": 5.0}
    return ConnectionSpec(name=name, provider=provider, **(given | changes))


def closed(connection: Connection) -> int:
    count: int = vars(connection.plugin.provider)["closed"]
    return count


async def test_connection_that_has_not_changed_is_the_same_object(office: Office) -> None:
    await office.take(spec("a"), spec("b"))
    before = {one.name: one for one in office.registry.connections()}

    over = await office.take(spec("b"), spec("a", config={"size": "A5"}))

    assert office.registry.connection("b") is before["b"]
    assert over == (before["a"],)
    assert [one.name for one in office.registry.connections()] == ["b", "a"]


async def test_new_version_makes_its_connections_anew_and_no_others(office: Office) -> None:
    office.put(paper(code="carton"), "carton.py")
    await office.take(spec("desk"), spec("box", "carton"))
    desk, box = office.registry.connection("desk"), office.registry.connection("box")

    office.put(paper("blue"))
    over = await office.take(spec("desk"), spec("box", "carton"))

    assert over == (desk,)
    assert office.colour() == "blue"
    assert office.registry.connection("box") is box


async def test_version_that_a_connection_cannot_be_made_with_keeps_the_old_one_and_says_why(
    office: Office,
) -> None:
    await office.take(spec())
    before = office.registry.connection("desk")

    office.put(paper("blue", more=STRICT))
    over = await office.take(spec())

    assert over == ()
    assert office.registry.connection("desk") is before
    assert office.colour() == "white"
    assert "connections.desk.config.tray: is missing" in office.faults()["paper.py"]
    assert "go on with the version before" in office.faults()["paper.py"]


async def test_misfit_takes_over_when_the_connection_fits_it(office: Office) -> None:
    await office.take(spec())
    office.put(paper("blue", more=STRICT))
    await office.take(spec())

    await office.take(spec(config={"tray": 2}))

    assert office.colour() == "blue"
    assert office.faults() == {}


async def test_connections_of_one_plugin_are_never_of_two_versions(office: Office) -> None:
    await office.take(spec("a"), spec("b", config={"size": "A3"}))

    office.put(paper("blue", more=FUSSY))
    await office.take(spec("a"), spec("b", config={"size": "A3"}))

    assert (office.colour("a"), office.colour("b")) == ("white", "white")
    assert "no such paper" in office.faults()["paper.py"]


async def test_connections_made_for_a_misfit_are_closed(office: Office) -> None:
    await office.take(spec("a"), spec("b", config={"size": "A3"}))
    office.put(paper("blue", more=FUSSY))
    loaded = await office.read()

    plan = await office.registry.plan(loaded, [spec("a"), spec("b", config={"size": "A3"})])

    assert vars(loaded.versions["paper"].provider)["closed"] == 1
    assert plan.made == ()


async def test_code_that_a_connection_needs_goes_on_without_its_file(office: Office) -> None:
    await office.take(spec())
    before = office.registry.connection("desk")

    (office.directory / "paper.py").unlink()
    over = await office.take(spec())

    assert (over, office.registry.connection("desk")) == ((), before)
    assert "connections need it: desk" in office.faults()["paper.py"]


async def test_code_that_nothing_needs_goes_with_its_file(office: Office) -> None:
    await office.take(spec())
    (office.directory / "paper.py").unlink()
    await office.take(spec())

    await office.take()

    assert (office.registry.providers(), office.registry.faults) == ((), ())


async def test_file_that_changes_its_code_leaves_the_old_code_to_its_connections(
    office: Office,
) -> None:
    await office.take(spec())

    office.put(paper("blue", code="cardboard"))
    await office.take(spec())

    assert [one.code for one in office.registry.providers()] == ["cardboard", "paper"]
    assert office.colour() == "white"
    assert "holds no plugin 'paper' any more" in office.faults()["paper.py"]


async def test_file_that_comes_back_takes_over_again(office: Office) -> None:
    await office.take(spec())
    (office.directory / "paper.py").unlink()
    await office.take(spec())

    office.put(paper("green"))
    await office.take(spec())

    assert office.colour() == "green"
    assert office.faults() == {}


async def test_renamed_file_serves_under_its_new_name(office: Office) -> None:
    await office.take(spec())
    (office.directory / "paper.py").rename(office.directory / "renamed.py")

    over = await office.take(spec())

    assert len(over) == 1
    assert office.registry.connection("desk").plugin.path.name == "renamed.py"
    assert office.faults() == {}


async def test_rejected_set_changes_nothing_and_closes_what_was_made(office: Office) -> None:
    office.put(paper(code="carton"), "carton.py")
    await office.take(spec("desk"))
    connection = office.registry.connection("desk")
    versions, faults = office.registry.versions, office.registry.faults

    with pytest.raises(RejectedConfigError) as caught:
        await office.take(spec("desk", timeout_s=9.0), spec("new", "carton"), spec("bad", "fax"))

    assert [one.where for one in caught.value.problems] == ["connections.bad.provider"]
    assert office.registry.connections() == (connection,)
    assert office.registry.versions is versions
    assert office.registry.faults is faults
    # That of the changed connection and that of the new one; never the one that serves.
    assert closed(connection) == 1
    assert vars(office.registry.versions["carton"].provider)["closed"] == 1


async def test_plan_that_is_discarded_closes_only_what_it_made(office: Office) -> None:
    await office.take(spec("desk"))
    plan = await office.registry.plan(await office.read(), [spec("desk"), spec("new")])

    await plan.discard()

    assert [one.name for one in plan.made] == ["new"]
    assert closed(plan.made[0]) == 1
    assert [one.name for one in office.registry.connections()] == ["desk"]


@pytest.mark.parametrize("more", [NEVER_CLOSES, EXITS_WHEN_CLOSED], ids=["never", "exits"])
async def test_plugin_that_does_not_close_hides_no_reason_and_holds_nothing_up(
    office: Office, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("integrationd.registry.connection.CLOSE_LIMIT_S", 0.05)
    office.put(paper(more=more))

    with anyio.fail_after(5), pytest.raises(RejectedConfigError, match="fax"):
        await office.take(spec("desk"), spec("bad", "fax"))
    plan = await office.registry.plan(await office.read(), [spec("desk")])
    with anyio.fail_after(5):
        await plan.discard()


async def test_plugin_that_ends_the_process_when_closed_is_an_error(office: Office) -> None:
    office.put(paper(more=EXITS_WHEN_CLOSED))
    (connection,) = (await office.take(spec())) or office.registry.connections()

    with pytest.raises(RuntimeError, match="the plugin raised SystemExit"):
        await connection.retire()


async def test_retired_connection_is_closed_when_the_last_holder_lets_go(office: Office) -> None:
    await office.take(spec())
    held = office.registry.connection("desk")
    held.hold()
    office.put(paper("blue"))
    (over,) = await office.take(spec())

    async with anyio.create_task_group() as group:
        with over.held():
            group.start_soon(over.retire)
            await anyio.wait_all_tasks_blocked()
            held.let_go()
            await anyio.wait_all_tasks_blocked()
            assert closed(over) == 0
    assert closed(over) == 1
