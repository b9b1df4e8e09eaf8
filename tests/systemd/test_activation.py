"""Listening sockets that systemd has bound: really passed, as descriptors from 3 on."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integrationd.errors import ConfigError
from integrationd.settings import ApiSettings
from integrationd.supervisor.listeners import bind

# Does what systemd does between fork and exec: LISTEN_PID must be that of the daemon itself.
EXECUTE = """
import os, sys
count = int(os.environ["LISTEN_FDS"])
given = [os.dup2(int(each), 100 + at) for at, each in enumerate(sys.argv[1].split(","))]
for at, each in enumerate(given):
    os.dup2(each, 3 + at, inheritable=True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
# Tells what was taken, or why not.
TAKE = """
import json, os
from integrationd.errors import ConfigError
from integrationd.supervisor.systemd import take_start
try:
    passed = take_start(os.environ, os.getpid()).passed
    inherited = [os.get_inheritable(each.fileno()) for each in passed.values()]
    print(json.dumps({"names": list(passed), "inherited": inherited, "left": sorted(os.environ)}))
except ConfigError as error:
    print(json.dumps({"error": str(error), "hint": error.hint}))
"""


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory whose path leaves room for a socket's name."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    """Return a TCP socket that somebody else has bound."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def unix(short: Path) -> Iterator[socket.socket]:
    """Return a Unix socket that somebody else has bound."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(short / "d.sock"))
        (short / "d.sock").chmod(0o660)
        listening.listen()
        yield listening


def started(
    sockets: list[socket.socket], names: str, *words: str, **environ: str
) -> "subprocess.Popen[str]":
    """Start Python with sockets passed to it."""
    given = [each.fileno() for each in sockets]
    return subprocess.Popen(
        [sys.executable, "-c", EXECUTE, ",".join(map(str, given)), *words],
        pass_fds=given,
        env={**os.environ, "LISTEN_FDS": str(len(given)), "LISTEN_FDNAMES": names, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def taken(sockets: list[socket.socket], names: str) -> dict[str, object]:
    said, complaint = started(sockets, names, "-c", TAKE).communicate(timeout=30)
    assert said, complaint
    found: dict[str, object] = json.loads(said)
    return found


def settings(tcp: socket.socket, unix: socket.socket, **more: object) -> ApiSettings:
    host, port = tcp.getsockname()
    listed = {"listen": f"{host}:{port}", "socket": unix.getsockname(), **more}
    return ApiSettings.model_validate(listed)


# What is passed


def test_sockets_are_taken_by_name_and_kept_from_children(
    tcp: socket.socket, unix: socket.socket
) -> None:
    found = taken([tcp, unix], "api.listen:api.socket")

    assert found["names"] == ["api.listen", "api.socket"]
    assert found["inherited"] == [False, False]
    assert not {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} & set(found["left"])  # type: ignore[call-overload] # a list


def test_two_sockets_of_one_name_are_refused(tcp: socket.socket, unix: socket.socket) -> None:
    found = taken([tcp, unix], "api.listen:api.listen")

    assert "two sockets by the name 'api.listen'" in str(found["error"])


def test_socket_that_does_not_listen_is_refused() -> None:
    with socket.socket() as idle:
        found = taken([idle], "api.listen")

    assert "does not listen" in str(found["error"])
    assert "Accept=no" in str(found["hint"])


def test_file_is_no_socket(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        process = subprocess.run(
            [sys.executable, "-c", EXECUTE, str(file.fileno()), "-c", TAKE],
            check=True,
            capture_output=True,
            pass_fds=[file.fileno()],
            env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "api.listen"},
            timeout=30,
        )

    assert "is no socket" in json.loads(process.stdout)["error"]


# What they have to be


def test_passed_sockets_serve_in_place_of_new_ones(tcp: socket.socket, unix: socket.socket) -> None:
    found = bind(settings(tcp, unix), {"api.listen": tcp, "api.socket": unix})

    assert found == [tcp, unix]


def test_what_is_not_passed_is_bound(tcp: socket.socket, unix: socket.socket, short: Path) -> None:
    elsewhere = short / "own.sock"
    own = settings(tcp, unix, socket=str(elsewhere))

    found = bind(own, {"api.listen": tcp})

    assert found[0] is tcp
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o660
    found[1].close()


def test_unknown_name_is_told(tcp: socket.socket, unix: socket.socket) -> None:
    with pytest.raises(ConfigError, match="'unknown'") as caught:
        bind(settings(tcp, unix), {"unknown": tcp})

    assert "FileDescriptorName= must be api.listen or api.socket" in caught.value.hint


@pytest.mark.parametrize(
    ("passed", "more", "told"),
    [
        ("api.listen", {"listen": "127.0.0.1:1"}, r"but \[api\] listen is 127.0.0.1:1$"),
        ("api.listen", {"listen": ""}, r"but \[api\] listen is switched off$"),
        ("api.socket", {"socket": "/run/x.sock"}, r"but \[api\] socket is /run/x.sock$"),
        ("api.socket", {"socket": ""}, r"but \[api\] socket is switched off$"),
        ("api.socket", {"socket_mode": "0600"}, r"passes 0660 .* socket_mode is 0600$"),
        ("api.socket", {"socket_group": "no-such"}, r"socket_group is 'no-such'$"),
    ],
)
def test_socket_that_differs_from_the_configuration_is_told(
    tcp: socket.socket, unix: socket.socket, passed: str, more: dict[str, object], told: str
) -> None:
    given = {"api.listen": tcp, "api.socket": unix}[passed]

    with pytest.raises(ConfigError, match=told) as caught:
        bind(settings(tcp, unix, **more), {passed: given})

    assert "integrationd" in caught.value.hint
    assert "systemctl" in caught.value.hint


def test_sockets_of_the_other_kind_are_told(tcp: socket.socket, unix: socket.socket) -> None:
    with pytest.raises(ConfigError, match=r"as api\.listen"):
        bind(settings(tcp, unix), {"api.listen": unix})
    with pytest.raises(ConfigError, match=r"as api\.socket"):
        bind(settings(tcp, unix), {"api.socket": tcp})


def test_socket_whose_file_is_gone_is_told(
    tcp: socket.socket, unix: socket.socket, short: Path
) -> None:
    (short / "d.sock").unlink()

    with pytest.raises(ConfigError, match="cannot be seen") as caught:
        bind(settings(tcp, unix), {"api.socket": unix})

    assert "restart integrationd.socket" in caught.value.hint


# The whole daemon


def test_daemon_serves_on_the_sockets_and_leaves_them_open(
    tcp: socket.socket, unix: socket.socket, short: Path
) -> None:
    port = tcp.getsockname()[1]
    config = short / "integrationd.toml"
    config.write_text(
        f'[api]\nlisten = "127.0.0.1:{port}"\nsocket = "{short}/d.sock"\n'
        f'[journal]\npath = "{short}/journal.db"\n[connections.console]\nprovider = "console"\n'
    )
    words = ("-m", "integrationd", "run", "--config", str(config))
    ways = ((socket.AF_UNIX, str(short / "d.sock")), (socket.AF_INET, ("127.0.0.1", port)))

    for _start in range(2):
        # Connected before there is a daemon: nobody is refused.
        with connected(ways) as clients:
            process = started([tcp, unix], "api.listen:api.socket", *words)
            answers = [healthy(each) for each in clients]
        process.terminate()
        process.communicate(timeout=30)
        assert answers == [b"HTTP/1.1 200 OK"] * 2
        assert process.returncode == 0

    assert (short / "d.sock").is_socket()


class connected:  # noqa: N801 - it reads like a verb
    """Clients that have connected."""

    def __init__(self, ways: tuple[tuple[int, object], ...]) -> None:
        self._clients = [socket.socket(family) for family, _address in ways]
        for each, (_family, address) in zip(self._clients, ways, strict=True):
            each.settimeout(30)
            each.connect(address)  # type: ignore[arg-type] # of either family

    def __enter__(self) -> list[socket.socket]:
        return self._clients

    def __exit__(self, *_error: object) -> None:
        for each in self._clients:
            each.close()


def healthy(client: socket.socket) -> bytes:
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client.recv(4096).split(b"\r\n")[0]
