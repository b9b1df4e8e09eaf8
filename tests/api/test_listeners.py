"""The listening sockets, and the server's coming and going on them."""

import asyncio
import contextlib
import dataclasses
import os
import resource
import signal
import socket
import stat
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs
from tests.api.test_server_limits import GET, MIB, POST, QUICK, SOON_S, WAIT, Served

from integrationd.api.admission import Limits, Peer
from integrationd.api.body import ClientGoneError, read_body
from integrationd.api.listeners import UnixListener, bind_tcp, bind_unix
from integrationd.api.server import fit_descriptors
from integrationd.errors import ConfigError, TooLargeError

ACCEPT_FAILED = {"message": "socket.accept() out of system resource", "exception": OSError(24)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
def log_lines() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as lines:
        yield lines


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@contextlib.contextmanager
def dead_socket(path: Path) -> Iterator[None]:
    """A socket file that nobody listens on."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        yield


@contextlib.asynccontextmanager
async def serving(listener: socket.socket, limits: Limits = QUICK) -> AsyncIterator[Served]:
    served = Served(listener, limits)
    async with anyio.create_task_group() as group:
        group.start_soon(served.server.serve)
        await served.server.started()
        try:
            yield served
        finally:
            served.disconnect()
        await served.server.close(grace_s=1)


# TCP


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_tcp_address_is_listened_on(host: str) -> None:
    with bind_tcp(f"{host}:0") as listener:
        bound, port, *_ = listener.getsockname()
        socket.create_connection((bound, port), timeout=SOON_S).close()

    assert bound == host.strip("[]")


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":80",
        "localhost:80",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:8x",
        "127.1:80",
        "2130706433:80",
        "::1:80",
        "[127.0.0.1]:80",
        "[::1]",
        "[::1%lo]:80",
    ],
)
def test_tcp_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="not an IP address and a port"):
        bind_tcp(address)


def test_tcp_address_in_use_is_refused() -> None:
    with bind_tcp("127.0.0.1:0") as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        with pytest.raises(ConfigError, match=f"{address}: address already in use"):
            bind_tcp(address)


def test_tcp_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot assign requested address"):
        bind_tcp("192.0.2.1:0")


# Unix sockets


def test_unix_socket_has_its_mode_and_its_directory_is_private(tmp_path: Path) -> None:
    path = tmp_path / "run" / "api.sock"
    before = os.umask(0)
    try:
        with bind_unix(path, 0o660):
            assert (permissions(path), permissions(path.parent)) == (0o660, 0o750)
            assert os.umask(0) == 0
    finally:
        os.umask(before)


def test_unix_socket_is_private_until_it_has_its_group(path: Path) -> None:
    before = os.umask(0)
    try:
        with UnixListener(path) as listener:
            listener.listen_privately()

            assert permissions(path) == 0o600
    finally:
        os.umask(before)


def test_unix_socket_is_given_to_its_group(path: Path) -> None:
    gid = os.getgroups()[-1] if os.getgroups() else os.getgid()
    grp = pytest.importorskip("grp")

    with bind_unix(path, 0o660, grp.getgrgid(gid).gr_name):
        assert path.stat().st_gid == gid


def test_unix_socket_of_an_unknown_group_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no group 'no-such-group'"):
        bind_unix(path, 0o660, "no-such-group")

    assert not path.exists()


def test_stale_unix_socket_is_replaced(path: Path) -> None:
    with dead_socket(path), bind_unix(path, 0o600), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("backlog", [0, 5])
def test_live_unix_socket_is_left_alone(path: Path, backlog: int) -> None:
    with socket.socket(socket.AF_UNIX) as live, contextlib.ExitStack() as clients:
        live.bind(str(path))
        live.listen(backlog)
        for _ in range(1 if backlog == 0 else 0):
            clients.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))

        with pytest.raises(ConfigError, match="another daemon listens there"):
            bind_unix(path, 0o600)
        assert path.is_socket()


def test_datagram_socket_is_left_alone(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))

        with pytest.raises(ConfigError, match="another daemon listens there"):
            bind_unix(path, 0o600)


def test_file_in_the_way_is_left_alone(path: Path) -> None:
    path.write_text("precious")

    with pytest.raises(ConfigError, match="not a socket"):
        bind_unix(path, 0o600)
    assert path.read_text() == "precious"


def test_symlink_in_the_way_is_left_alone(path: Path, tmp_path: Path) -> None:
    with dead_socket(tmp_path / "target"):
        path.symlink_to(tmp_path / "target")

        with pytest.raises(ConfigError, match="a symbolic link"):
            bind_unix(path, 0o600)
        assert path.is_symlink()


def test_directory_open_to_everybody_is_refused(path: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    with pytest.raises(ConfigError, match="may be written by everybody"):
        bind_unix(path, 0o600)
    tmp_path.chmod(0o1777)
    bind_unix(path, 0o600).close()


def test_path_over_the_systems_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="longer than 107 bytes"):
        bind_unix(tmp_path / ("x" * 107), 0o600)


def test_path_below_a_file_is_refused(path: Path) -> None:
    path.touch()

    with pytest.raises(ConfigError, match=r"cannot listen on .*: (not a directory|file exists)"):
        bind_unix(path / "api.sock", 0o600)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user's place")
def test_forbidden_directory_is_refused(path: Path) -> None:
    path.parent.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match="permission denied"):
            bind_unix(path, 0o600)
    finally:
        os.seteuid(0)


def test_closing_takes_the_file_away(path: Path) -> None:
    listener = bind_unix(path, 0o600)
    listener.close()
    listener.close()

    assert not path.exists()


def test_closing_leaves_a_file_that_took_its_place(path: Path) -> None:
    listener = bind_unix(path, 0o600)
    path.unlink()
    with bind_unix(path, 0o600):
        listener.close()

        assert path.is_socket()


# The server on them


async def test_peer_is_known_on_unix_sockets_only(path: Path) -> None:
    peers = []
    for listener in (bind_unix(path, 0o600), bind_tcp("127.0.0.1:0")):
        async with serving(listener) as served:
            await (await served.connect(GET)).answer()
            peers += served.app.peers

    assert peers == [Peer(uid=os.getuid(), gid=os.getgid(), pid=os.getpid()), None]


@pytest.mark.parametrize("target", [b"/broken", b"/silent", b"/half"])
async def test_failing_app_costs_only_its_connection(
    path: Path, target: bytes, log_lines: list[MutableMapping[str, Any]]
) -> None:
    async with serving(bind_unix(path, 0o600)) as served:
        wire = await served.connect(GET.replace(b"/", target, 1))
        if target == b"/half":
            assert (await wire.ended()).startswith(b"HTTP/1.1 200 OK\r\n")
        else:
            await wire.refused(500, "internal")

        assert (await (await served.connect(GET)).answer()).status == 200
    expected = "request_failed" if target == b"/broken" else "request_unanswered"
    assert [line["event"] for line in log_lines] == [expected]


async def test_slowly_taken_answer_arrives_whole(path: Path) -> None:
    patient = dataclasses.replace(QUICK, write_s=SOON_S)
    async with serving(bind_unix(path, 0o600), patient) as served:
        wire = await served.connect(GET.replace(b"/", b"/large", 1))
        await anyio.sleep(0.1)

        assert len((await wire.answer()).body) == 8 * MIB


async def test_endless_body_after_its_answer_ends_the_connection(path: Path) -> None:
    async with serving(bind_unix(path, 0o600)) as served:
        wire = await served.connect(b"POST /unread HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        assert (await wire.answer()).status == 401
        await wire.send(b"fffff\r\n" + b"x" * 65537)

        assert await wire.ended() == b""


async def test_stopped_server_finishes_what_it_began(path: Path) -> None:
    async with serving(bind_unix(path, 0o600)) as served:
        idle = await served.connect(GET)
        assert (await idle.answer()).status == 200
        waiting = await served.connect(WAIT)
        half_sent = await served.connect(POST + b"content-length: 2\r\n")
        await anyio.sleep(0.05)

        served.server.stop_accepting()
        served.app.released.set()
        await half_sent.send(b"\r\n{}")

        assert not path.exists()
        assert await idle.ended() == b""
        for wire in (waiting, half_sent):
            answer = await wire.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert await wire.ended() == b""
        with pytest.raises(FileNotFoundError):
            await served.connect()


async def test_close_cuts_off_what_outlasts_the_grace(
    path: Path, log_lines: list[MutableMapping[str, Any]]
) -> None:
    async with serving(bind_unix(path, 0o600)) as served:
        wire = await served.connect(WAIT)
        await anyio.sleep(0.05)

        with anyio.fail_after(SOON_S):
            await served.server.close(grace_s=0.1)

        assert await wire.ended() == b""
    assert [line["event"] for line in log_lines] == ["requests_cut_off"]


async def test_close_before_serving_only_closes_the_sockets(path: Path) -> None:
    served = Served(bind_unix(path, 0o600), QUICK)

    await served.server.close(grace_s=1)
    await served.server.serve()

    assert not path.exists()


async def test_cancelled_server_lets_go_of_everything(path: Path) -> None:
    served = Served(bind_unix(path, 0o600), QUICK)
    async with anyio.create_task_group() as group:
        group.start_soon(served.server.serve)
        await served.server.started()
        wire = await served.connect(GET)
        assert (await wire.answer()).status == 200
        group.cancel_scope.cancel()

    assert not path.exists()
    assert await wire.ended() == b""
    served.disconnect()


async def test_signals_and_the_loops_handler_are_left_to_their_owner(path: Path) -> None:
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    handler = loop.get_exception_handler()

    async with serving(bind_unix(path, 0o600)):
        during = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    assert during == before
    assert loop.get_exception_handler() is handler


async def test_failed_accepts_are_one_line(
    path: Path, log_lines: list[MutableMapping[str, Any]]
) -> None:
    loop = asyncio.get_running_loop()
    others: list[str] = []
    earlier = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: others.append(context["message"]))

    async with serving(bind_unix(path, 0o600)):
        for _ in range(1000):
            loop.call_exception_handler(dict(ACCEPT_FAILED))
        loop.call_exception_handler({"message": "another"})
    loop.set_exception_handler(earlier)

    assert [line["event"] for line in log_lines] == ["accept_failed"]
    assert others == ["another"]


def test_connections_fit_the_descriptors(log_lines: list[MutableMapping[str, Any]]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = dataclasses.replace(QUICK, max_connections=500)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        assert fit_descriptors(wanted) is wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        assert fit_descriptors(wanted).max_connections == 44
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [line["event"] for line in log_lines] == ["max_connections_lowered"]


# Bodies


def messages(*pieces: bytes, is_cut: bool = False) -> Any:
    queue = [
        {"type": "http.request", "body": piece, "more_body": is_cut or number < len(pieces)}
        for number, piece in enumerate(pieces, start=1)
    ]

    async def receive() -> dict[str, object]:
        return queue.pop(0) if queue else {"type": "http.disconnect"}

    return receive


@pytest.mark.parametrize("pieces", [[b""], [b"whole"], [b"wh", b"ole"], [b"", b"w", b"hole", b""]])
async def test_body_is_read_whole(pieces: list[bytes]) -> None:
    assert await read_body(messages(*pieces), 5) == b"".join(pieces)


@pytest.mark.parametrize("pieces", [[b"whole!"], [b"whol", b"e!"], [b"whole", b"!", b"never read"]])
async def test_body_over_its_limit_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(TooLargeError, match="larger than 5 bytes"):
        await read_body(messages(*pieces), 5)


@pytest.mark.parametrize("pieces", [[], [b"wh"]])
async def test_body_that_breaks_off_is_nobodys(pieces: list[bytes]) -> None:
    with pytest.raises(ClientGoneError):
        await read_body(messages(*pieces, is_cut=True), 5)
