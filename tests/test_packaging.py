"""What is published is what is written: the sdist makes a wheel that works by itself."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import integrationd
from integrationd.registry import plugin_files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "daemon" / "integrationd"
PLUGINS = ROOT / "plugins"

LOAD_BUILTIN_PLUGINS = """
import json
from integrationd.clock import SystemClock
from integrationd.registry import builtin_plugins, load_plugins, plugin_files

place = builtin_plugins()
loaded = load_plugins(plugin_files([place]), SystemClock())
print(json.dumps({
    "files": [str(path.relative_to(place)) for path in plugin_files([place])],
    "place": str(place),
    "faults": [str(fault) for fault in loaded.faults],
}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, target: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", target, cwd=source)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sources as they are published, unpacked."""
    archive = build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))
    target = tmp_path_factory.mktemp("sources")
    run("tar", "-xf", archive, "-C", target, cwd=ROOT)
    (unpacked,) = target.iterdir()
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel that the published sources make."""
    return build("wheel", sdist, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """Return the names of the files in the wheel."""
    with zipfile.ZipFile(wheel) as packed:
        return set(packed.namelist())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment with the wheel, and this one's dependencies."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, symlinks=True)
    pip = (sys.executable, "-m", "pip", "--python", home, "install", "--quiet", "--no-deps")
    run(*pip, "--no-index", wheel, cwd=home)
    (site_packages,) = home.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return home / "bin"


def inside(directory: Path, pattern: str) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob(pattern)}


def test_sdist_holds_everything_that_the_gate_reads(sdist: Path) -> None:
    written = {"Makefile", "LICENSE", "README.md", "integrationd.toml", "constraints.txt"}

    assert written <= {path.name for path in sdist.iterdir()}
    assert inside(sdist / "tests", "*.py") == inside(ROOT / "tests", "*.py")


def test_wheel_installs_one_package_and_its_licence(names: set[str]) -> None:
    metadata = f"integrationd-{integrationd.__version__}.dist-info"

    assert {name.partition("/")[0] for name in names} == {"integrationd", metadata}
    assert f"{metadata}/licenses/LICENSE" in names


@pytest.mark.parametrize("pattern", ["*.py", "*.sql", "py.typed"])
def test_wheel_holds_every_file_of_the_package(names: set[str], pattern: str) -> None:
    expected = {f"integrationd/{name}" for name in inside(PACKAGE, pattern)}

    assert expected
    assert expected <= names


def test_wheel_holds_no_bytecode(names: set[str]) -> None:
    assert not {name for name in names if name.endswith(".pyc")}


def test_installed_program_tells_its_version(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "integrationd", "--version", cwd=tmp_path)

    assert said.split() == ["integrationd", integrationd.__version__]


def test_installed_plugins_are_those_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    found = json.loads(run(installed / "python", "-c", LOAD_BUILTIN_PLUGINS, cwd=tmp_path))

    assert Path(found["place"]).is_relative_to(installed.parent)
    assert found["files"] == [str(path.relative_to(PLUGINS)) for path in plugin_files([PLUGINS])]
    assert not found["faults"]
