"""The tree keeps its own rules: sizes, docs, catalogue, and what no linter looks at.

Each test collects what breaks the rule, so that a failure lists all of it (in full with -vv).
"""

import ast
import importlib.metadata
import inspect
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import click
import pytest

import integrationd
from integrationd import errors, sdk
from integrationd.call import ARROWS, CallState
from integrationd.cli import main
from integrationd.registry import plugin_files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "daemon" / "integrationd"
PLUGINS = ROOT / "plugins"
TREES = ("daemon", "plugins", "tests", "systemd", ".ci")

README = ROOT / "README.md"
ARCHITECTURE = ROOT / "daemon" / "ARCHITECTURE.md"
GUIDES = (README, ROOT / "CONTRIBUTING.md", ARCHITECTURE, PLUGINS / "README.md")

MODULE_LINES = 450
FUNCTION_LINES = 40
README_LINES = 150

FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)+\.\w+")
MAKE_TARGET = re.compile(r"\bmake ([a-z][a-z-]*)")
TYPED_COMMAND = re.compile(r"^(?:\$ )?integrationd ([a-z-]+(?: [a-z-]+)*)", re.MULTILINE)
QUOTED_COMMAND = re.compile(r"'integrationd ([a-z-]+(?: [a-z-]+)*)")
ARROW = re.compile(r"^ +(\w+) --> (\w+)", re.MULTILINE)
DRAWN_ERROR = re.compile(r"^([ │├└─]+)(\w+Error)\b", re.MULTILINE)
MIGRATION = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
SUPPRESSION = re.compile(r"#\s*(?:noqa|type:\s*ignore).*")
REASONED = re.compile(r"# (?:noqa: [A-Z0-9, ]+ - |type: ignore\[[a-z, -]+\] +# )\w")
HOME_PATH = re.compile(r"(?<![\w.)}])/(?:home|root|Users)/")


def modules(*trees: str) -> list[Path]:
    return [path for tree in trees for path in sorted((ROOT / tree).rglob("*.py"))]


def text_files() -> Iterator[Path]:
    yield from (path for path in ROOT.glob("[!.]*") if path.is_file())
    for tree in TREES:
        for path in (ROOT / tree).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def at(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def fenced(guide: Path) -> str:
    return "\n".join(FENCE.findall(guide.read_text()))


def spans(guide: Path) -> list[str]:
    return CODE_SPAN.findall(FENCE.sub("", guide.read_text()))


def code(guide: Path) -> str:
    return "\n".join([fenced(guide), *spans(guide)])


# Sizes and habits


def test_modules_are_short() -> None:
    sizes = {path: len(path.read_text().splitlines()) for path in modules(*TREES)}

    assert not {at(path, size) for path, size in sizes.items() if size > MODULE_LINES}


def test_functions_are_short() -> None:
    functions = [
        (path, node)
        for path in modules("daemon", "plugins")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    assert not {
        f"{at(path, node.lineno)} {node.name}"
        for path, node in functions
        if (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES
    }


def test_daemon_prints_only_from_the_command_line() -> None:
    silent = [path for path in modules("daemon", "plugins") if PACKAGE / "cli" not in path.parents]

    assert not {
        at(path, node.lineno)
        for path in silent
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Name) and node.id == "print"
    }


def test_suppressions_name_a_rule_and_a_reason() -> None:
    assert not {
        at(path, number)
        for path in modules("daemon", "plugins", "tests")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for found in SUPPRESSION.findall(line)
        if not REASONED.match(found)
    }


def test_files_name_no_home_directory() -> None:
    assert not {
        str(path.relative_to(ROOT))
        for path in text_files()
        if HOME_PATH.search(path.read_text(errors="replace"))
    }


def test_packages_are_declared_below_the_source_roots_only() -> None:
    directories = {path.parent for path in modules("daemon", "plugins")}
    declared = {path.parent for path in modules("daemon", "plugins") if path.name == "__init__.py"}

    folders = {path for path in plugin_files([PLUGINS]) if path.is_dir()}
    assert declared == {path for path in directories if path.is_relative_to(PACKAGE)} | folders


def test_version_is_that_of_the_installed_package() -> None:
    assert importlib.metadata.version("integrationd") == integrationd.__version__


def test_migrations_are_numbered_without_gaps() -> None:
    names = sorted(path.name for path in (PACKAGE / "journal" / "migrations").iterdir())
    numbers = [found[1] for name in names if (found := MIGRATION.fullmatch(name))]

    assert numbers == [f"{number:04}" for number in range(1, len(names) + 1)]


def test_ci_script_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


# What packages and errors offer


def facades() -> list[Path]:
    """Return the ``__init__`` files that only gather the names of their package."""
    return [
        path
        for path in modules("daemon")
        if path.name == "__init__.py" and "__all__" in path.read_text() and not defines(path)
    ]


def defines(path: Path) -> bool:
    kinds = (ast.FunctionDef, ast.ClassDef, ast.AnnAssign)
    return any(isinstance(node, kinds) for node in parsed(path).body)


def exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise AssertionError("__all__ is not a plain list")


def imported(tree: ast.Module) -> set[str]:
    statements = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in statements for alias in node.names}


def by_kind(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("path", facades(), ids=lambda path: path.parent.name)
def test_facade_exports_all_that_it_imports_in_order(path: Path) -> None:
    tree = parsed(path)

    assert exported(tree) == sorted(imported(tree), key=by_kind)


def test_sdk_exports_every_outcome_finding_and_contract() -> None:
    said = {*get_args(sdk.Outcome), *get_args(sdk.Finding)}
    shaped = {kind for found in sdk.CATALOGUE.values() for kind in (found.request, found.result)}

    assert {kind.__name__ for kind in said | shaped} <= set(sdk.__all__)


def error_classes() -> list[type[errors.IntegrationdError]]:
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    return [
        kind
        for kind in found
        if issubclass(kind, errors.IntegrationdError) and kind.__module__ == errors.__name__
    ]


def drawn_errors() -> dict[str, str]:
    parents: dict[str, str] = {}
    above: dict[int, str] = {}
    for prefix, name in DRAWN_ERROR.findall(errors.__doc__ or ""):
        parents[name] = above.get(len(prefix) - 4, "Exception")
        above[len(prefix)] = name
    return parents


def test_errors_are_drawn_as_they_are_derived() -> None:
    assert drawn_errors() == {kind.__name__: kind.__mro__[1].__name__ for kind in error_classes()}


@pytest.mark.parametrize("kind", error_classes())
def test_errors_tell_programs_and_people(kind: type[errors.IntegrationdError]) -> None:
    told_when_raised = kind is errors.IntegrationdError or issubclass(kind, errors.RequestError)

    assert re.fullmatch(r"[a-z_]+", kind.code)
    assert (kind.__doc__ or "").partition("\n")[0].endswith(".")
    assert told_when_raised or kind.hint.endswith(".")


# The catalogue of plugins


def builtin_plugins() -> list[Path]:
    return list(plugin_files([PLUGINS]))


def main_module(plugin: Path) -> Path:
    return plugin / "__init__.py" if plugin.is_dir() else plugin


def classes_of(path: Path) -> list[ast.ClassDef]:
    return [node for node in parsed(path).body if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("plugin", builtin_plugins(), ids=lambda path: path.stem)
def test_plugin_cites_its_source(plugin: Path) -> None:
    module = main_module(plugin)
    texts = [ast.get_docstring(parsed(module)), *map(ast.get_docstring, classes_of(module))]

    assert "Source:" in "\n".join(text or "" for text in texts)


@pytest.mark.parametrize("plugin", builtin_plugins(), ids=lambda path: path.stem)
def test_plugin_keeps_the_contract_suite(plugin: Path) -> None:
    tests = ROOT / "tests" / "plugins" / f"test_{plugin.stem}.py"

    suites = {ast.unparse(base) for case in classes_of(tests) for base in case.bases}

    assert suites & {"PluginContract", "LocalPluginContract"}


def test_plugins_are_forbidden_every_part_but_the_sdk() -> None:
    rules = tomllib.loads((PLUGINS / "ruff.toml").read_text())
    banned = set(rules["lint"]["flake8-tidy-imports"]["banned-api"])

    assert {f"integrationd.{part}" for part in parts()} - banned == {"integrationd.sdk"}


# What the documents say


def parts() -> set[str]:
    """Return the parts of the daemon: its modules and packages at the top."""
    found = {path.stem for path in PACKAGE.glob("[!_]*.py")}
    return found | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def test_readme_is_short_and_names_the_two_commands() -> None:
    assert len(README.read_text().splitlines()) <= README_LINES
    assert {"run", "test"} <= set(MAKE_TARGET.findall(code(README)))


def test_architecture_draws_the_moves_that_exist() -> None:
    drawn = {
        (CallState(before), CallState(after))
        for before, after in ARROW.findall(fenced(ARCHITECTURE))
    }

    assert drawn == {(before, after) for before in ARROWS for after in ARROWS[before]}


def test_architecture_names_every_outcome_and_finding() -> None:
    said = {kind.__name__ for kind in (*get_args(sdk.Outcome), *get_args(sdk.Finding))}

    assert said <= set(spans(ARCHITECTURE))


def test_architecture_names_every_part() -> None:
    assert parts() <= set(re.findall(r"\w+", fenced(ARCHITECTURE)))


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_guide_links_lead_somewhere(guide: Path) -> None:
    links = {link.partition("#")[0] for link in LINK.findall(FENCE.sub("", guide.read_text()))}

    assert not {link for link in links if "://" not in link and not (guide.parent / link).exists()}


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_guide_names_files_that_exist(guide: Path) -> None:
    named = {span for span in spans(guide) if FILE_NAME.fullmatch(span)}
    places = (ROOT, guide.parent, PACKAGE)

    assert not {name for name in named if not any((place / name).exists() for place in places)}


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_guide_names_make_targets_that_exist(guide: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(MAKE_TARGET.findall(code(guide))) <= targets


def commands_told(path: Path) -> list[str]:
    if path.suffix == ".md":
        return TYPED_COMMAND.findall(code(path))
    return QUOTED_COMMAND.findall(path.read_text())


def is_command(words: Iterable[str]) -> bool:
    command: click.Command | None = main
    for word in words:
        if not isinstance(command, click.Group) or word.startswith("-"):
            return True
        command = command.get_command(click.Context(command), word)
    return command is not None


def test_commands_that_people_are_told_to_use_exist() -> None:
    telling = [*GUIDES, ROOT / "integrationd.toml", *modules("daemon", "plugins")]

    assert not {
        f"{path.relative_to(ROOT)}: integrationd {words}"
        for path in telling
        for words in commands_told(path)
        if not is_command(words.split())
    }
