"""oidc-provider, the judge: installed from npm outside the tree, and people who log in to it."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx2
import pytest

VERSION = "8.8.1"
INSTALL_S = 240
START_S = 30
SERVER = Path(__file__).with_name("oidc_server.mjs")
_FORM = re.compile(r'<form[^>]*action="([^"]+)"')
_PROMPT = re.compile(r'name="prompt" value="([a-z]+)"')
_PAGES = 12


def installed() -> Path:
    """Return a directory with the judge in it; installs it once, and skips where it cannot.

    It is kept in the user's cache, so that the registry is asked once and not by every run.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("the judge of OAuth needs node and npm: apt-get install nodejs npm")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "integrationd-tests" / f"oidc-provider-{VERSION}"
    if not (place / "node_modules").is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as fresh:
            _install(npm, Path(fresh))
            with contextlib.suppress(OSError):
                # Another run may have been faster.
                Path(fresh, "made").rename(place)
    return place


def _install(npm: str, fresh: Path) -> None:
    made = fresh / "made"
    made.mkdir()
    quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-save")
    command = [npm, "install", *quiet, "--prefix", str(made), f"oidc-provider@{VERSION}"]
    try:
        done = subprocess.run(
            command, cwd=made, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install oidc-provider {VERSION} within {INSTALL_S} s")
    if done.returncode:
        pytest.skip(f"npm cannot install oidc-provider {VERSION}: {done.stderr[-300:]}")


@contextlib.contextmanager
def judge(clients: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Run the judge and return its address."""
    node = shutil.which("node") or "node"
    process = subprocess.Popen(
        [node, str(SERVER), str(installed()), json.dumps(clients)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready "), line
        yield line.removeprefix("ready ").strip()
    finally:
        process.kill()
        process.communicate()


async def consent(url: str, redirect_uri: str) -> dict[str, str]:
    """Log in and consent as a person in a browser, and return what one comes back with."""
    async with httpx2.AsyncClient(timeout=START_S) as browser:
        answer = await browser.get(url)
        for _ in range(_PAGES):
            target = answer.headers.get("Location", "")
            if target.startswith(redirect_uri):
                return dict(parse_qsl(urlsplit(target).query))
            if target:
                answer = await browser.get(urljoin(str(answer.url), target))
            else:
                answer = await _submitted(browser, answer)
    raise AssertionError(f"nobody came back from {answer.url}: {answer.text}")


async def _submitted(browser: httpx2.AsyncClient, page: httpx2.Response) -> httpx2.Response:
    form, prompt = _FORM.search(page.text), _PROMPT.search(page.text)
    assert form is not None, page.text
    assert prompt is not None, page.text
    fields = {"prompt": prompt[1], "login": "head-teacher", "password": "made-up"}
    return await browser.post(urljoin(str(page.url), form[1]), data=fields)
