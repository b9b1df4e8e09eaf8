"""The process that others are forked from: the program, imported and not yet run.

It is given one end of a socket. Each message there is a request with four descriptors: standard
input, output and error of a new process, and where its end is told. When the socket is closed,
whatever still runs is killed.
"""

import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import sys
import time
from typing import Any

# Beyond what the commands import: what the daemon imports while it starts.
ALSO = ("aiosmtplib", "cryptography.x509", "email.headerregistry", "uvicorn.logging")
MESSAGE_BYTES = 1 << 20


class Forker:
    """Forks processes and tells how they end.

    Args:
        requests: Where they are asked for.
    """

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        # Not epoll, which a fork would share.
        self._poll = select.poll()
        self._poll.register(requests, select.POLLIN)
        self._running: dict[int, tuple[int, socket.socket]] = {}

    def serve(self) -> dict[str, Any] | None:
        """Return what to be in each process that was forked, and None at the end of this one."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._running:
                    self._tell_end(descriptor)
                    continue
                message, given, *_ = socket.recv_fds(self._requests, MESSAGE_BYTES, 4)
                if not message:
                    self._kill_all()
                    return None
                request: dict[str, Any] = json.loads(message)
                if self._fork(given):
                    self._forget()
                    return request

    def _fork(self, given: list[int]) -> bool:
        """Fork a process, and say whether this is it."""
        *streams, told = given
        pid = os.fork()
        if not pid:
            for number, descriptor in enumerate(streams):
                os.dup2(descriptor, number)
        for descriptor in streams:
            os.close(descriptor)
        if not pid:
            os.close(told)
            return True
        ends = socket.socket(fileno=told)
        ends.send(str(pid).encode())
        pidfd = os.pidfd_open(pid)
        self._running[pidfd] = (pid, ends)
        self._poll.register(pidfd, select.POLLIN)
        return False

    def _tell_end(self, pidfd: int) -> None:
        pid, ends = self._running.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        try:
            ends.send(str(os.waitstatus_to_exitcode(status)).encode())
        except OSError:
            return  # Nobody asks any more.
        finally:
            ends.close()

    def _kill_all(self) -> None:
        for pid, _ in self._running.values():
            os.kill(pid, signal.SIGKILL)

    def _forget(self) -> None:
        """Close what belongs to the process that this one was forked from."""
        self._requests.close()
        for pidfd, (_, ends) in self._running.items():
            os.close(pidfd)
            ends.close()


def import_all() -> None:
    """Import what any command needs."""
    from integrationd.cli.program import COMMANDS  # noqa: PLC0415 - the path is set up first

    for listed in COMMANDS.values():
        importlib.import_module(f"integrationd.cli.{listed.module}")
    for name in ALSO:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def become(request: dict[str, Any]) -> None:
    """Run ``python -m integrationd`` as if it had been started like this."""
    os.environ.clear()
    os.environ.update(request["environ"])
    time.tzset()
    resource.setrlimit(resource.RLIMIT_NOFILE, request["descriptors"])
    os.umask(request["umask"])
    os.chdir(request["directory"])
    sys.path[0] = request["directory"]
    sys.argv = ["integrationd", *request["words"]]
    runpy.run_module("integrationd", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    import_all()
    if (wanted := Forker(socket.socket(fileno=int(sys.argv[1]))).serve()) is not None:
        become(wanted)
