"""The trial: plugin files are run where they can do no harm, and what is wrong is told in words."""

import os
from pathlib import Path

import anyio
from tests.registry.plugin_sources import paper, write

from integrationd.clock import SystemClock
from integrationd.registry.trial import Trial

NEVER_ENDS = "import time\ntime.sleep(60)\n"


async def test_files_are_told_apart(tmp_path: Path) -> None:
    good = write(tmp_path / "good.py", paper())
    bad = write(tmp_path / "bad.py", f"1 / 0\n{paper()}")
    exits = write(tmp_path / "exits.py", f"import os\nos._exit(3)\n{paper()}")

    faults = await Trial(SystemClock()).examine([good, bad, exits])

    assert {path: (one.line, one.reason) for path, one in faults.items()} == {
        bad: (1, "ZeroDivisionError: division by zero"),
        exits: (None, "ended the process with code 3 when it was imported"),
    }


async def test_file_whose_name_is_not_text_is_refused_in_words_that_are(tmp_path: Path) -> None:
    path = write(tmp_path / os.fsdecode(b"a\xff.py"), paper())

    (fault,) = (await Trial(SystemClock()).examine([path])).values()

    assert fault.reason == "its name is not UTF-8; rename it"
    assert str(fault).encode()


async def test_words_of_a_plugin_are_made_text(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.py", "raise Exception('\\ud800')\n")

    (fault,) = (await Trial(SystemClock()).examine([path])).values()

    assert fault.reason == "Exception: \\ud800"


async def test_cancelled_trial_leaves_nothing_running(tmp_path: Path) -> None:
    path = write(tmp_path / "never.py", NEVER_ENDS)

    with anyio.move_on_after(1.0) as scope:
        await Trial(SystemClock()).examine([path])

    assert scope.cancelled_caught
    commands = [one.read_bytes() for one in Path("/proc").glob("[0-9]*/cmdline") if one.exists()]
    assert not any(str(path).encode() in command for command in commands)


async def test_what_is_trusted_is_not_run(tmp_path: Path) -> None:
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    path = write(trusted / "bad.py", "1 / 0\n")

    faults = await Trial(SystemClock()).sparing(trusted)([path])

    assert faults == {}
