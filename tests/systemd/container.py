"""A container with a systemd of its own, in which the daemon is installed as on a server.

Its root is this machine's, under a layer that takes all changes and is thrown away; its network is
its own loopback. Only root can make one, where systemd-nspawn is installed.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

ROOT = Path(__file__).parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
UNIT = "integrationd.service"
SOCKETS = ("integrationd.socket", "integrationd-tcp.socket")
INSTALL_S = 240
BOOT_S = 60
COMMAND_S = 60
POLL_S = 0.05
LAYER = "size=2g,mode=0755"

# What a server has for itself: none of it is needed to run the daemon.
LEFT_OUT = (
    *("console-getty.service", "getty.target", "machines.target", "remote-fs.target"),
    *("systemd-networkd.service", "systemd-networkd.socket", "systemd-resolved.service"),
    *("systemd-timesyncd.service", "systemd-udevd.service", "postgresql.service"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service"),
    *("fstrim.timer", "dpkg-db-backup.timer", "man-db.timer", "docker.service", "docker.socket"),
)


def reason_to_skip() -> str:
    """Say why no container can be made here; empty if one can."""
    if os.geteuid() != 0:
        return "a container with a systemd of its own needs root"
    missing = [name for name in ("systemd-nspawn", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"{missing[0]} is not installed (Debian: systemd-container, util-linux)"
    if not Path("/lib/systemd/systemd").exists():
        return "systemd is not installed"
    check = [SYSTEM_PYTHON, "-c", "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"]
    if not Path(SYSTEM_PYTHON).exists() or subprocess.run(check, check=False).returncode:
        return f"{SYSTEM_PYTHON} is not Python 3.11 or newer with venv (Debian: python3-venv)"
    return ""


class CannotBootError(Exception):
    """This machine makes no containers."""


class Container:
    """One container; entering the context installs the daemon and boots, leaving it ends both.

    Args:
        directory: An empty directory for its layer.

    Attributes:
        root: Its root directory, as this machine sees it.
        installed: What the installation said.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.root = directory / "root"
        self.installed = ""
        self._mounted: list[Path] = []
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._console: IO[bytes] | None = None

    def __enter__(self) -> "Container":
        """Lay the root, install the daemon in it and boot it.

        Raises:
            CannotBootError: The machine does not allow it.
        """
        try:
            self._lay()
            self.installed = self.install()
            self._leave_out()
            host("systemctl", f"--root={self.root}", "enable", UNIT)
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the container and throw its layer away."""
        self._end()

    def _lay(self) -> None:
        layer = self._directory / "layer"
        for path in (layer, self.root):
            path.mkdir()
        try:
            host("mount", "-t", "tmpfs", "-o", LAYER, "tmpfs", str(layer))
            self._mounted.append(layer)
            for name in ("upper", "work"):
                (layer / name).mkdir(mode=0o755)
            parts = f"lowerdir=/,upperdir={layer}/upper,workdir={layer}/work"
            host("mount", "-t", "overlay", "-o", parts, "overlay", str(self.root))
            self._mounted.append(self.root)
        except subprocess.CalledProcessError as error:
            raise CannotBootError(f"cannot lay a root: {error.stderr}") from None

    def install(self) -> str:
        """Install the daemon from this checkout and return what was said."""
        environ = {**os.environ, "DESTDIR": str(self.root), "PYTHON": SYSTEM_PYTHON}
        return host(str(ROOT / "systemd" / "install"), environ=environ, timeout_s=INSTALL_S)

    def _leave_out(self) -> None:
        units = self.root / "etc/systemd/system"
        for name in LEFT_OUT:
            (units / name).unlink(missing_ok=True)
            (units / name).symlink_to("/dev/null")
        (self.root / "etc/fstab").write_text("")
        # With the machine's own id, the two journals would be one.
        (self.root / "etc/machine-id").write_text("")

    def _boot(self) -> None:
        """Start systemd in the container and wait until it has started everything."""
        self._console = (self._directory / "console.log").open("wb")
        self._nspawn = subprocess.Popen(
            [
                *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit"),
                *("--private-network", "--link-journal=no", "--console=pipe"),
                *(f"--directory={self.root}", "--machine=integrationd-test", "--boot"),
                "systemd.unit=multi-user.target",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
        )
        until = time.monotonic() + BOOT_S
        while self._state() not in ("running", "degraded"):
            if self._nspawn.poll() is not None or time.monotonic() > until:
                said = (self._directory / "console.log").read_text(errors="replace")
                raise CannotBootError(f"the container does not boot:\n{said[-2000:]}")
            time.sleep(POLL_S)

    def _state(self) -> str:
        if self._leader() is None:
            return ""
        return self.run("systemctl", "is-system-running", code=None).strip()

    def _leader(self) -> int | None:
        """Return the process that is the container's first, or None before it is there."""
        if self._nspawn is None:
            return None
        pid = self._nspawn.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            names = {int(each): Path(f"/proc/{each}/comm").read_text().strip() for each in children}
        except OSError:
            return None
        return next((each for each, name in names.items() if name.startswith("systemd")), None)

    def command(self, *words: str) -> list[str]:
        """Return the command that runs another one inside."""
        inside = ("-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w")
        clean = ("env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")
        return ["nsenter", "-t", str(self._leader()), *inside, "--", *clean, *words]

    def run(self, *words: str, code: int | None = 0, timeout_s: float = COMMAND_S) -> str:
        """Run a command inside and return what it wrote.

        Args:
            words: The command.
            code: How it has to end; None for any way.
            timeout_s: How long it may take, in seconds.

        Raises:
            AssertionError: It ended in another way; the message is what it wrote.
        """
        done = subprocess.run(
            self.command(*words),
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        said = done.stdout + done.stderr
        assert code is None or done.returncode == code, f"{words}: {done.returncode}: {said}"
        return said

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside, in place of whatever is there."""
        target = self._inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.new")
        fresh.write_text(text)
        fresh.chmod(mode)
        fresh.replace(target)

    def remove(self, path: str) -> None:
        """Remove a file inside, if it is there."""
        self._inside(path).unlink(missing_ok=True)

    def _inside(self, path: str) -> Path:
        return Path(f"/proc/{self._leader()}/root{path}")

    def shows(self, name: str, unit: str = UNIT) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def log(self, since: str = "") -> str:
        """Return what the daemon and systemd have said of it, after a cursor if one is given."""
        after = (f"--after-cursor={since}",) if since else ()
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={UNIT}", *after)

    def cursor(self) -> str:
        """Return where the log stands now."""
        said = self.run("journalctl", "--no-pager", "--lines=1", "--show-cursor", "--quiet")
        return said.rpartition("-- cursor: ")[2].strip()

    def wait_for(self, text: str, since: str, within_s: float = 20.0) -> str:
        """Wait until the log says something, and return the log.

        Raises:
            AssertionError: It did not.
        """
        until = time.monotonic() + within_s
        while text not in (said := self.log(since)):
            assert time.monotonic() < until, f"no {text!r} in:\n{said}"
            time.sleep(POLL_S)
        return said

    def _end(self) -> None:
        if self._nspawn is not None:
            leader = self._leader()
            if self._nspawn.poll() is None and leader is not None:
                os.kill(leader, signal.SIGKILL)
            try:
                self._nspawn.wait(20)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait(20)
        if self._console is not None:
            self._console.close()
        for path in reversed(self._mounted):
            host("umount", "--lazy", str(path))
        self._mounted.clear()


def host(
    *words: str, environ: Mapping[str, str] | None = None, timeout_s: float = COMMAND_S
) -> str:
    """Run a command on this machine and return what it wrote to standard output."""
    command: Sequence[str] = words
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environ, timeout=timeout_s
    )
    return done.stdout
