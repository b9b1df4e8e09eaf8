"""Sends webhooks to hostile targets, inside a network namespace of its own; run by the test.

Every address there is of this machine (``local 0.0.0.0/0 dev lo``) and none leads out, so that a
connection which the guard lets through succeeds, and the kernel counts it. The one address that the
guard has to take for public is :data:`PUBLIC`. Prints what was counted as JSON.
"""

import asyncio
import json
import ssl
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from tests.unit.test_sdk_target import SPELLINGS

from integrationd.clock import SystemClock
from integrationd.registry import ConnectionSpec, Registry, load_plugins
from integrationd.sdk import Outcome, WebhookSend
from integrationd.sdk.testing import make_context
from integrationd.settings import RejectedConfigError

PUBLIC = "93.184.216.34"
PORT = 8443
SECRET = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
WEBHOOK = Path(__file__).parents[2] / "plugins" / "webhook" / "webhook.py"
# What names lead to, besides the public address: the ends of what the registries of special-purpose
# addresses hold, and what stands for one of those in another form.
TARGETS = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255"),  # noqa: S104 - refused
    *("127.0.0.1", "127.8.8.8", "127.255.255.254", "168.63.129.16", "169.254.0.1"),
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192"),
    *("192.0.2.1", "192.168.1.1", "192.168.255.255", "198.18.0.1", "198.19.255.255"),
    *("198.51.100.1", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
    *("::ffff:169.254.169.254", "::ffff:0:7f00:1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
    *("64:ff9b:1::a00:1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::"),
    *("3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "fec0::1"),
    *("ff02::1", "ff05::1"),
)
REQUEST = WebhookSend(type="order.paid", body="{}", id="evt_1")


class Names(asyncio.DatagramProtocol):
    """A DNS server that changes its mind.

    ``N.first.test`` is public when it is first asked for and ``TARGETS[N]`` from then on;
    ``N.mixed.test`` is both at once; other names of ``.test`` are public, and there are no more.
    """

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer one question."""
        name, end = _name(data)
        (kind,) = struct.unpack("!H", data[end : end + 2])
        answers = [one for one in self._addresses(name, kind) if (":" in one) == (kind == 28)]
        head = data[:2] + b"\x81\x80" + struct.pack("!HHHH", 1, len(answers), 0, 0)
        self._transport.sendto(head + data[12 : end + 4] + b"".join(map(_answer, answers)), addr)

    def _addresses(self, name: str, kind: int) -> Sequence[str]:
        number, _, rest = name.partition(".")
        if rest == "mixed.test":
            return (PUBLIC, TARGETS[int(number)])
        if rest != "first.test":
            return (PUBLIC,) if name.endswith(".test") else ()
        key = f"{name}/{kind}"
        self._asked[key] += 1
        return (PUBLIC,) if self._asked[key] == 1 else (TARGETS[int(number)],)


def _name(data: bytes) -> tuple[str, int]:
    labels, at = [], 12
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode())
        at += 1 + data[at]
    return ".".join(labels).lower(), at + 1


def _answer(address: str) -> bytes:
    import ipaddress  # noqa: PLC0415 - beside its one use

    packed = ipaddress.ip_address(address).packed
    kind = 28 if ":" in address else 1
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(packed)) + packed


class Everywhere:
    """Listens on every address and writes down which of them was connected to."""

    def __init__(self) -> None:
        self.reached: Counter[str] = Counter()

    async def start(self, certificate: Path) -> None:
        """Listen, with TLS on the usual port and without on others that a proxy may have."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        for host in ("0.0.0.0", "::"):  # noqa: S104 - in a namespace of its own
            await asyncio.start_server(self._serve, host, PORT, ssl=tls)
            for port in (80, 443, 3128):
                await asyncio.start_server(self._note, host, port)

    async def _note(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reached[writer.get_extra_info("sockname")[0]] += 1
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reached[writer.get_extra_info("sockname")[0]] += 1
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        status = b"200 OK"
        if path.startswith("/to/"):
            number = int(path.removeprefix("/to/"))
            host = SPELLINGS[number].encode("ascii", "ignore") or b"127.0.0.1"
            status = b"302 Found\r\nLocation: http://" + host + b"/"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


class Probe:
    """Sends through a connection of the provider ``webhook``, as a subscription has it."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._registry = Registry(load_plugins([WEBHOOK], self._clock))

    async def send(self, url: str, times: int = 1, *, allow_private: bool = False) -> list[str]:
        """Return what each send came to: the outcome's name and reason; one that none was made."""
        config = {"url": url, "secret": SECRET, "allow_private": allow_private}
        spec = ConnectionSpec(
            name="probe", provider="webhook", environment="production", config=config, timeout_s=5.0
        )
        try:
            await self._registry.replace([spec])
        except RejectedConfigError:
            return ["refused by its config"] * times
        connection = self._registry.connection("probe")
        method = connection.plugin.operations["webhook.send"].declared.method
        told = []
        for _ in range(times):
            ctx = make_context("webhook.send", clock=self._clock, client=connection.client)
            outcome: Outcome = await method(connection.provider, REQUEST, ctx)
            told.append(f"{type(outcome).__name__} {getattr(outcome, 'reason', '')}".strip())
        await self._registry.replace([])
        await connection.aclose()
        return told


def opened() -> int:
    """Return how many TCP connections the kernel has begun in this namespace."""
    lines = Path("/proc/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(dict(zip(names, values, strict=True))["ActiveOpens"])


async def main(certificate: Path) -> dict[str, Any]:
    """Send everything and return what came of it."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.1", 53))
    everywhere = Everywhere()
    await everywhere.start(certificate)
    probe, told = Probe(), Counter[str]()
    before = opened()
    for number, spelling in enumerate(SPELLINGS):
        (direct,) = await probe.send(f"https://{spelling}:{PORT}/")
        (redirect,) = await probe.send(f"https://www.public.test:{PORT}/to/{number}")
        told.update([f"direct: {direct}", f"redirect: {redirect}"])
    for number in range(len(TARGETS)):
        for name, one in zip(
            ("first", "then"),
            await probe.send(f"https://{number}.first.test:{PORT}/", 2),
            strict=True,
        ):
            told[f"rebinding, {name}: {one}"] += 1
        (mixed,) = await probe.send(f"https://{number}.mixed.test:{PORT}/")
        told[f"mixed: {mixed}"] += 1
    guarded = opened() - before
    reached = dict(everywhere.reached)
    control = await probe.send(f"https://0.first.test:{PORT}/", allow_private=True)
    return {
        "spellings": len(SPELLINGS),
        "targets": len(TARGETS),
        "told": dict(told),
        "opened": guarded,
        "reached": reached,
        "control": control,
        "opened_by_control": opened() - before - guarded,
        "reached_by_control": everywhere.reached["127.0.0.1"],
    }


if __name__ == "__main__":
    for command in (
        "ip link set lo up",
        "ip route add local 0.0.0.0/0 dev lo",
        "ip -6 route add local ::/0 dev lo",
    ):
        subprocess.run(command.split(), check=True)
    directory = Path(sys.argv[1])
    resolver = directory / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", str(resolver), "/etc/resolv.conf"], check=True)
    found = asyncio.run(main(directory / "both.pem"))
    sys.stdout.write(json.dumps(msgspec.to_builtins(found)))
