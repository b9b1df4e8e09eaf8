"""The shelf: what is good is kept until something better is read, and nothing is run unseen."""

import gc
import os
import py_compile
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from tests.registry.plugin_sources import HEAD, paper, write

from integrationd.registry import PluginVersion, Shelf
from integrationd.sdk.plugin_file import PluginFault, forget
from integrationd.sdk.testing import FakeClock

BROKEN = f"{HEAD}x = (\n"


class Examiner:
    """Stands in for the trial: notes what it is asked and blames what it is told to.

    Attributes:
        asked: The files of each question.
        blamed: Why a file is refused.
        meanwhile: Done during each question.
    """

    def __init__(self) -> None:
        self.asked: list[list[Path]] = []
        self.blamed: dict[Path, str] = {}
        self.meanwhile: Callable[[], object] = lambda: None

    async def __call__(self, paths: Sequence[Path]) -> Mapping[Path, PluginFault]:
        self.asked.append(list(paths))
        self.meanwhile()
        return {
            path: PluginFault(path=path, line=7, reason=self.blamed[path])
            for path in paths
            if path in self.blamed
        }


@pytest.fixture
def examiner() -> Examiner:
    return Examiner()


def serving(shelf: Shelf) -> dict[str, PluginVersion]:
    return dict(shelf.collated({}).versions)


def colour(shelf: Shelf, code: str = "paper") -> object:
    return vars(serving(shelf)[code].provider)["colour"]


def reasons(shelf: Shelf) -> dict[str, str]:
    return {fault.path.name: fault.reason for fault in shelf.collated({}).faults}


async def test_unchanged_file_is_not_run_again(tmp_path: Path, examiner: Examiner) -> None:
    path = write(tmp_path / "paper.py", paper())
    first = await Shelf().read([path], FakeClock(), examiner)

    os.utime(path, (1, 1))
    second = await first.read([path], FakeClock(), examiner)

    assert serving(second)["paper"] is serving(first)["paper"]
    assert examiner.asked == [[path]]
    assert first.changed([path]) == ()


async def test_changed_file_is_tried_before_it_is_run(tmp_path: Path, examiner: Examiner) -> None:
    path = write(tmp_path / "paper.py", paper())
    first = await Shelf().read([path], FakeClock(), examiner)
    ran = tmp_path / "ran"
    write(path, f"open({str(ran)!r}, 'w').close()\n{paper('blue')}")
    examiner.blamed[path] = "ends the process"

    second = await first.read([path], FakeClock(), examiner)

    assert not ran.exists()
    assert colour(second) == "white"
    assert reasons(second) == {"paper.py": "ends the process"}


async def test_broken_file_keeps_the_last_good_version_until_it_is_mended(
    tmp_path: Path, examiner: Examiner
) -> None:
    path = write(tmp_path / "paper.py", paper())
    shelf = await Shelf().read([path], FakeClock(), examiner)
    good = serving(shelf)["paper"]

    for number in range(3):
        write(path, BROKEN + "#" * number)
        shelf = await shelf.read([path], FakeClock(), examiner)
        assert serving(shelf)["paper"] is good
        assert "SyntaxError" in reasons(shelf)["paper.py"]

    write(path, paper("green"))
    shelf = await shelf.read([path], FakeClock(), examiner)
    assert colour(shelf) == "green"
    assert reasons(shelf) == {}


async def test_file_put_back_as_it_was_is_no_longer_at_fault(
    tmp_path: Path, examiner: Examiner
) -> None:
    path = write(tmp_path / "paper.py", paper())
    shelf = await Shelf().read([path], FakeClock(), examiner)
    write(path, BROKEN)
    shelf = await shelf.read([path], FakeClock(), examiner)

    write(path, paper())
    shelf = await shelf.read([path], FakeClock(), examiner)

    assert colour(shelf) == "white"
    assert reasons(shelf) == {}


async def test_file_that_is_gone_leaves_the_shelf(tmp_path: Path, examiner: Examiner) -> None:
    path = write(tmp_path / "paper.py", paper())
    shelf = await Shelf().read([path], FakeClock(), examiner)

    path.unlink()

    assert shelf.changed([]) == (path,)
    assert serving(await shelf.read([], FakeClock(), examiner)) == {}


async def test_file_that_vanishes_while_it_is_listed_keeps_its_version(
    tmp_path: Path, examiner: Examiner
) -> None:
    path = write(tmp_path / "paper.py", paper())
    shelf = await Shelf().read([path], FakeClock(), examiner)

    path.unlink()
    shelf = await shelf.read([path], FakeClock(), examiner)

    assert colour(shelf) == "white"
    assert "No such file" in reasons(shelf)["paper.py"]


async def test_of_two_files_with_one_code_the_one_that_serves_stays(
    tmp_path: Path, examiner: Examiner
) -> None:
    late = write(tmp_path / "z.py", paper("white"))
    shelf = await Shelf().read([late], FakeClock(), examiner)
    incumbent = serving(shelf)

    early = write(tmp_path / "a.py", paper("red"))
    shelf = await shelf.read([early, late], FakeClock(), examiner)

    found = shelf.collated(incumbent)
    assert found.versions["paper"].path == late
    assert [fault.path for fault in found.faults] == [early]
    assert str(late) in found.faults[0].reason
    # Without an incumbent the first is taken.
    assert serving(shelf)["paper"].path == early


async def test_second_file_with_the_code_takes_over_when_the_first_is_gone(
    tmp_path: Path, examiner: Examiner
) -> None:
    paths = [write(tmp_path / "a.py", paper("red")), write(tmp_path / "b.py", paper("blue"))]
    shelf = await Shelf().read(paths, FakeClock(), examiner)
    incumbent = serving(shelf)

    paths[0].unlink()
    shelf = await shelf.read(paths[1:], FakeClock(), examiner)

    found = shelf.collated(incumbent)
    assert (found.versions["paper"].path, found.faults) == (paths[1], ())


async def test_stale_bytecode_is_never_run(tmp_path: Path, examiner: Examiner) -> None:
    path = write(tmp_path / "paper.py", paper("stale"))
    py_compile.compile(str(path), doraise=True)
    status = path.stat()
    # Of the same length and age, so that Python itself would take the cached bytecode.
    write(path, paper("fresh"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    shelf = await Shelf().read([path], FakeClock(), examiner)

    assert colour(shelf) == "fresh"


async def test_file_at_fault_is_read_again_when_asked_for(
    tmp_path: Path, examiner: Examiner
) -> None:
    needed = tmp_path / "needed"
    source = f"open({str(needed)!r}).close()\n{paper()}"
    path = write(tmp_path / "paper.py", source)
    shelf = await Shelf().read([path], FakeClock(), examiner)
    assert "FileNotFoundError" in reasons(shelf)["paper.py"]
    needed.touch()

    as_before = await shelf.read([path], FakeClock(), examiner)
    again = await shelf.read([path], FakeClock(), examiner, again=True)

    assert serving(as_before) == {}
    assert colour(again) == "white"
    assert len(examiner.asked) == 2


async def test_only_what_was_tried_is_run(tmp_path: Path, examiner: Examiner) -> None:
    path, ran = tmp_path / "paper.py", tmp_path / "ran"
    write(path, paper("white"))
    hostile = f"open({str(ran)!r}, 'w').close()\n{paper('red')}"

    def swap() -> None:
        if len(examiner.asked) == 1:
            write(path, hostile)
            examiner.blamed[path] = "ends the process"

    async def examine(paths: Sequence[Path]) -> Mapping[Path, PluginFault]:
        found = {} if not examiner.asked else await examiner(paths)
        examiner.asked.append(list(paths))
        swap()
        return found

    shelf = await Shelf().read([path], FakeClock(), examine)

    assert not ran.exists()
    assert reasons(shelf) == {"paper.py": "ends the process"}


async def test_file_mended_while_it_is_tried_is_taken_as_it_is_then(
    tmp_path: Path, examiner: Examiner
) -> None:
    path = write(tmp_path / "paper.py", BROKEN)
    examiner.blamed[path] = "SyntaxError"

    async def examine(paths: Sequence[Path]) -> Mapping[Path, PluginFault]:
        found = await examiner(paths)
        write(path, paper("mended"))
        examiner.blamed.clear()
        return found

    shelf = await Shelf().read([path], FakeClock(), examine)

    assert colour(shelf) == "mended"
    assert reasons(shelf) == {}


async def test_file_that_never_keeps_still_is_seen_as_changed_the_next_time(
    tmp_path: Path, examiner: Examiner
) -> None:
    path = write(tmp_path / "paper.py", paper("0"))
    shelf = await Shelf().read([path], FakeClock(), examiner)
    examiner.meanwhile = lambda: write(path, paper(str(len(examiner.asked))))
    write(path, paper("restless"))

    shelf = await shelf.read([path], FakeClock(), examiner)

    assert colour(shelf) == "0"
    assert reasons(shelf) == {"paper.py": "was changed while it was being read"}
    assert shelf.changed([path]) == (path,)
    assert len(examiner.asked) < 10
    examiner.meanwhile = lambda: None
    shelf = await shelf.read([path], FakeClock(), examiner)
    assert reasons(shelf) == {}


async def test_reading_makes_another_shelf_and_leaves_this_one(
    tmp_path: Path, examiner: Examiner
) -> None:
    path = write(tmp_path / "paper.py", paper("white"))
    first = await Shelf().read([path], FakeClock(), examiner)
    write(path, paper("blue"))

    second = await first.read([path], FakeClock(), examiner)

    assert (colour(first), colour(second)) == ("white", "blue")
    assert first.changed([path]) == (path,)


async def test_memory_of_a_version_comes_back_when_it_is_forgotten(
    tmp_path: Path, examiner: Examiner
) -> None:
    path = write(tmp_path / "paper.py", paper("white"))
    shelf = await Shelf().read([path], FakeClock(), examiner)
    old = weakref.ref(shelf.versions[0].provider)
    write(path, paper("blue"))
    shelf, former = await shelf.read([path], FakeClock(), examiner), shelf.versions[0]

    forget(former.provider)
    name = former.provider.__module__
    del former
    gc.collect()

    assert old() is None
    assert name not in sys.modules
    assert colour(shelf) == "blue"


async def test_version_replaced_while_it_was_read_leaves_no_module_behind(
    tmp_path: Path, examiner: Examiner
) -> None:
    path = write(tmp_path / "restless.py", paper("0"))
    loads = f"import os\nos.replace({str(tmp_path / 'next')!r}, __file__)\n{paper('1')}"
    (tmp_path / "next").write_text(paper("2"))
    write(path, loads)

    shelf = await Shelf().read([path], FakeClock(), examiner)

    modules = [name for name in sys.modules if "_plugin_restless_" in name]
    assert colour(shelf) == "2"
    assert modules == [shelf.versions[0].provider.__module__]
    forget(shelf.versions[0].provider)


async def test_file_whose_name_is_not_text_is_not_opened(
    tmp_path: Path, examiner: Examiner
) -> None:
    path = tmp_path / os.fsdecode(b"paper\xff.py")
    # Whoever opened it would wait for ever.
    os.mkfifo(path)
    examiner.blamed[path] = "its name is not UTF-8"

    shelf = await Shelf().read([path], FakeClock(), examiner)

    assert [*reasons(shelf).values()] == ["its name is not UTF-8"]
    assert shelf.changed([path]) == ()


async def test_reasons_can_be_written_down_whatever_a_plugin_says(
    tmp_path: Path, examiner: Examiner
) -> None:
    path = write(tmp_path / "paper.py", "raise Exception('\\ud800')\n")

    shelf = await Shelf().read([path], FakeClock(), examiner)

    assert reasons(shelf) == {"paper.py": "Exception: \\ud800"}
