"""The suite for plugin authors passes a good provider and catches each kind of bad one."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec
import pytest

import integrationd
from integrationd.registry import builtin_plugins, load_plugin
from integrationd.sdk import ProviderConfig, SecretStr
from integrationd.sdk.testing import (
    FakeClock,
    PluginContract,
    fake_client,
    make_context,
)
from integrationd.sdk.testing.leaks import secrets_of

README = builtin_plugins() / "README.md"
KEY = "made-up-key"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


EXAMPLE = blocks("python")[0]
INSTALLED = "/etc/integrationd/plugins/paperplane.py"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plugins")


def accepted(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(201, json={"id": "m-1"})


def refused(_request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(422, json={"error": "no such number"})


def suite_for(path: Path, **changes: Any) -> PluginContract:
    members = {
        "plugin": path,
        "config": {"api_key": KEY},
        "operation": "sms.send",
        "payload": {"to": "+254711000111", "message": "Hi"},
        "accepted": staticmethod(accepted),
        "refused": staticmethod(refused),
    }
    made: PluginContract = type("TestOther", (PluginContract,), members | changes)()
    return made


def failures(suite: PluginContract) -> set[str]:
    """Run the inherited tests and name those that fail."""
    found = set()
    for name, test in inspect.getmembers(suite, inspect.ismethod):
        if name.startswith("test_") and not passes(test):
            found.add(name)
    return found


def passes(test: Callable[[], None]) -> bool:
    try:
        test()
    except (AssertionError, ValueError, msgspec.ValidationError):
        return False
    return True


def written(directory: Path, source: str) -> Path:
    path = directory / f"plane_{len(list(directory.iterdir()))}.py"
    path.write_text(source)
    return path


def changed(directory: Path, old: str, new: str) -> Path:
    """Write the README's example with one thing changed."""
    assert EXAMPLE.count(old) == 1, f"the example should have one {old!r}"
    return written(directory, EXAMPLE.replace(old, new))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    source_root = Path(integrationd.__file__).parent.parent
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(source_root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def complaints(plugin: Path) -> set[str]:
    """Name the rules of plugins/ruff.toml that a file breaks."""
    rules = str(builtin_plugins() / "ruff.toml")
    done = run("-m", "ruff", "check", "--no-cache", "--config", rules, str(plugin))
    return set(re.findall(r"^([A-Z]+\d+)", done.stdout, re.MULTILINE))


def test_readme_example_loads_as_a_plugin(directory: Path) -> None:
    version = load_plugin(written(directory, EXAMPLE), FakeClock())

    assert version.code == "paperplane"
    assert list(version.operations) == ["sms.send"]


def test_readme_example_is_short() -> None:
    assert len(EXAMPLE.splitlines()) <= 50


def test_readme_example_passes_the_suite_as_the_readme_runs_it(tmp_path: Path) -> None:
    plugin = tmp_path / "paperplane.py"
    plugin.write_text(EXAMPLE)
    test = tmp_path / "test_paperplane.py"
    (suite,) = [one for one in blocks("python") if "(PluginContract)" in one]
    test.write_text(suite.replace(INSTALLED, str(plugin)))

    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(test))

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b1\d passed", done.stdout)


def test_readme_example_keeps_the_rules_of_plugins(directory: Path) -> None:
    assert complaints(written(directory, EXAMPLE)) <= {"D101", "D102", "D106"}


@pytest.mark.parametrize(
    "imported", ["integrationd.journal", "integrationd.settings.model", "sqlite3"]
)
def test_rules_of_plugins_ban_the_rest_of_the_daemon(directory: Path, imported: str) -> None:
    curious = written(directory, f'"""Curious."""\n\nimport {imported}\n\nX = {imported}\n')

    assert "TID251" in complaints(curious)


BAD: dict[str, tuple[str, str, set[str]]] = {
    "calls every status a success": (
        "            return outcome\n",
        "            return Delivered()\n",
        {
            "test_server_error_is_no_success",
            "test_too_many_requests_obeys_retry_after",
        },
    ),
    "fails on what it cannot read": (
        "except (ValueError, KeyError, TypeError):",
        "except ZeroDivisionError:",
        {"test_success_that_cannot_be_read_is_no_failure"},
    ),
    "makes a new key for every attempt": (
        '"Idempotency-Key": ctx.idempotency_key',
        '"Idempotency-Key": f"{ctx.idempotency_key}-{ctx.attempt}"',
        {"test_repeat_carries_the_same_key"},
    ),
    "retries by itself": (
        "        if response.status_code == 422:",
        (
            "        if response.status_code == 503:\n"
            '            response = await ctx.http.post("/v1/messages")\n'
            "        if response.status_code == 422:"
        ),
        {"test_one_send_makes_one_request"},
    ),
    "logs its key": (
        "        if response.status_code == 422:",
        (
            "        ctx.log.info(self.config.api_key.get_secret_value())\n"
            "        if response.status_code == 422:"
        ),
        {"test_secrets_appear_nowhere"},
    ),
    "logs its key past the context": (
        "        if response.status_code == 422:",
        (
            '        __import__("logging").warning(self.config.api_key.get_secret_value())\n'
            "        if response.status_code == 422:"
        ),
        {"test_secrets_appear_nowhere"},
    ),
    "breaks the result's contract": (
        'result={"message_id": message_id}',
        'result={"message_id": 7}',
        {"test_send_ends_in_success_that_keeps_the_contract"},
    ),
    "retries a refusal": (
        'return Rejected(reason="invalid_recipient", detail="Paperplane knows no such number.")',
        'return Uncertain(reason="invalid_recipient")',
        {"test_refusal_is_rejected_with_a_reason"},
    ),
    "calls an unknown outcome a failure": (
        "        response = await ctx.http.post(",
        (
            "        from httpx2 import TransportError\n"
            "        try:\n"
            '            await ctx.http.post("/v1/messages")\n'
            "        except TransportError:\n"
            '            return Rejected(reason="failed")\n'
            "        response = await ctx.http.post("
        ),
        {
            "test_one_send_makes_one_request",
            "test_read_timeout_is_uncertain",
            "test_answer_cut_short_is_uncertain",
            "test_refused_connection_never_left",
        },
    ),
    "names parts that nobody asked for": (
        "return Delivered(reference=message_id,",
        (
            "from integrationd.sdk import Part\n"
            '        strange = Part(recipient="eve", outcome=Delivered())\n'
            "        return Delivered(parts=[strange],"
        ),
        {"test_send_ends_in_success_that_keeps_the_contract"},
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), BAD.values(), ids=BAD.keys())
def test_suite_catches_a_provider_that(
    directory: Path, old: str, new: str, expected: set[str]
) -> None:
    assert failures(suite_for(changed(directory, old, new))) == expected


def test_suite_passes_a_good_provider(directory: Path) -> None:
    assert failures(suite_for(written(directory, EXAMPLE))) == set()


def test_suite_catches_plain_text_secrets_in_the_provider(directory: Path) -> None:
    source = '    code = "paperplane"\n'
    leak = source + "\n    def __repr__(self): return self.config.api_key.get_secret_value()\n"

    suite = suite_for(changed(directory, source, leak))

    assert failures(suite) == {"test_secrets_appear_nowhere"}


def test_suite_allows_tokens_to_be_fetched_first(directory: Path) -> None:
    call = "        response = await ctx.http.post("
    path = changed(directory, call, f'        await ctx.http.post("/token")\n{call}')

    assert failures(suite_for(path)) == {"test_one_send_makes_one_request"}
    assert failures(suite_for(path, requests_per_send=2)) == set()


def test_suite_takes_a_class_as_well_as_a_file(directory: Path) -> None:
    path = written(directory, EXAMPLE)
    cls = load_plugin(path, FakeClock()).provider

    assert failures(suite_for(path, plugin=cls)) == set()


def test_suite_says_what_it_expected(directory: Path) -> None:
    path = changed(directory, "if outcome is not None:", "if False:")

    with pytest.raises(AssertionError, match="expected Throttled, not "):
        suite_for(path).test_too_many_requests_obeys_retry_after()


def test_testing_does_not_import_pytest() -> None:
    done = run("-c", "import sys, integrationd.sdk.testing; sys.exit('pytest' in sys.modules)")

    assert done.returncode == 0, done.stderr


def test_context_gives_every_attempt_the_same_reference_and_key() -> None:
    first, second = make_context("sms.send"), make_context("sms.send", attempt=2)

    assert (first.reference, first.idempotency_key) == (second.reference, second.idempotency_key)
    assert first.reference != first.idempotency_key


def test_client_is_refused_to_a_provider_without_http() -> None:
    with pytest.raises(TypeError, match="HttpProviderConfig"):
        fake_client(ProviderConfig(), accepted)


async def test_fake_clock_moves_only_when_told_or_slept_on() -> None:
    clock = FakeClock(now_ms=1_000)

    clock.advance(1.5)
    await clock.sleep(2)

    assert (clock.now_ms(), clock.monotonic()) == (4_500, 3.5)


async def test_fake_clock_waits_as_long_as_nobody_sets_the_event() -> None:
    clock, never, soon = FakeClock(), anyio.Event(), anyio.Event()

    await clock.wait(never, 5)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.wait, soon, 5)
        tasks.start_soon(clock.wait, soon, None)
        soon.set()

    assert clock.monotonic() == 5


def test_secrets_are_found_at_any_depth() -> None:
    class Inner(ProviderConfig):
        key: SecretStr

    class Outer(ProviderConfig):
        named: dict[str, Inner]
        several: list[SecretStr]
        empty: SecretStr = SecretStr("")
        plain: str = "plain"

    config = Outer(named={"a": Inner(key=SecretStr("one"))}, several=[SecretStr("two")])

    assert list(secrets_of(config)) == ["one", "two"]
