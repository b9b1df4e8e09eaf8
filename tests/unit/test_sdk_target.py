"""The target guard lets nothing through that the public internet cannot reach."""

import ipaddress
from collections.abc import Sequence

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.sdk.target import (
    Resolve,
    TargetRefusedError,
    allowed_addresses,
    refused_kind,
    system_addresses,
)

SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0x7F.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.1",
    "0177.1",
    "127.0.0.01",
    "127.0.0.1.",
    "0",
    "0.0.0.0",  # noqa: S104 - refused, not bound
    "0x0",
    "00000",
    "127.0.0.0x1",
    "１２７.0.0.1",  # noqa: RUF001 - full-width digits are the point
    "①②⑦.0.0.1",
    "127。0。0。1",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "10.0.0.1",
    "10.1",
    "0xa000001",
    "172.16.0.1",
    "192.168.0.1",
    "192.168.1",
    "3232235521",
    "100.64.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::169.254.169.254]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "localhost",
    "localhost.",
    "LOCALHOST",
]


def answering(*addresses: str) -> Resolve:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_spelling_of_a_local_address_is_allowed(spelling: str) -> None:
    try:
        host = httpx2.URL(f"http://{spelling}/").raw_host.decode("ascii")
    except httpx2.InvalidURL:
        return

    with pytest.raises((TargetRefusedError, OSError)):
        await allowed_addresses(host, 80, allow_private=False)


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f000001", "0177.1", "127.0.0.1", "::1", "0"]
)
async def test_spelling_that_the_system_understands_is_refused_by_kind(host: str) -> None:
    with pytest.raises(TargetRefusedError, match=r"loopback|unspecified"):
        await allowed_addresses(host, 80, allow_private=False)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("0.1.2.3", "unspecified"),
        ("10.255.255.255", "private"),
        ("100.100.100.200", "carrier-internal"),
        ("127.0.0.1", "loopback"),
        ("168.63.129.16", "cloud metadata"),
        ("169.254.169.254", "link-local (cloud metadata)"),
        ("172.31.255.255", "private"),
        ("192.0.0.192", "reserved"),
        ("192.168.255.255", "private"),
        ("198.19.0.1", "benchmarking"),
        ("203.0.113.9", "documentation"),
        ("239.1.1.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::8.8.8.8", "reserved"),
        ("::ffff:10.0.0.1", "private (10.0.0.1)"),
        ("::ffff:0:8.8.8.8", "reserved"),
        ("64:ff9b::10.0.0.1", "private (10.0.0.1)"),
        ("64:ff9b:1::8.8.8.8", "private"),
        ("100::1", "reserved"),
        ("2001::1", "reserved"),
        ("2001:db8::1", "documentation"),
        ("2002:7f00:1::", "loopback (127.0.0.1)"),
        ("3fff::1", "documentation"),
        ("5f00::1", "reserved"),
        ("fd00:ec2::254", "private"),
        ("fe80::1%eth0", "link-local"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
    ],
)
def test_address_is_refused_by_its_kind(address: str, kind: str) -> None:
    assert refused_kind(address) == kind


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "41.90.0.1",
        "172.15.255.255",
        "172.32.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "2a00:1450::1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ],
)
def test_public_address_is_allowed(address: str) -> None:
    assert refused_kind(address) is None


@given(st.ip_addresses())
def test_address_that_the_standard_library_calls_local_is_refused(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    local = (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
    )

    if local and not _embeds_ipv4(address):
        assert refused_kind(str(address)) is not None


@given(st.ip_addresses(v=4))
def test_address_inside_an_ipv6_address_is_judged_as_itself(inner: ipaddress.IPv4Address) -> None:
    mapped = f"::ffff:{inner}"
    nat64 = f"64:ff9b::{inner}"
    six_to_four = ipaddress.IPv6Address(0x2002 << 112 | int(inner) << 80)

    for outer in (mapped, nat64, str(six_to_four)):
        assert (refused_kind(outer) is None) == (refused_kind(str(inner)) is None)


async def test_one_private_address_refuses_the_whole_name() -> None:
    resolve = answering("1.1.1.1", "::1")

    with pytest.raises(TargetRefusedError) as caught:
        await allowed_addresses("mixed.example", 443, allow_private=False, resolve=resolve)

    message = str(caught.value)
    for part in ("mixed.example", "::1", "loopback", "allow_private = true"):
        assert part in message


async def test_private_addresses_are_allowed_where_the_connection_says_so() -> None:
    resolve = answering("10.0.0.1", "127.0.0.1", "10.0.0.1")

    found = await allowed_addresses("inside.example", 80, allow_private=True, resolve=resolve)

    assert found == ["10.0.0.1", "127.0.0.1"]


async def test_a_thousand_addresses_are_all_judged() -> None:
    public = [f"1.1.{high}.{low}" for high in range(4) for low in range(250)]
    resolve = answering(*public, "192.168.0.1")

    with pytest.raises(TargetRefusedError):
        await allowed_addresses("many.example", 80, allow_private=False, resolve=resolve)


@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_port_that_is_none_is_refused(port: int) -> None:
    resolve = answering("1.1.1.1")

    with pytest.raises(TargetRefusedError):
        await allowed_addresses("a.example", port, allow_private=True, resolve=resolve)


@pytest.mark.parametrize("port", [1, 22, 25, 443, 8080, 65535])
async def test_every_real_port_is_allowed(port: int) -> None:
    resolve = answering("1.1.1.1")

    assert await allowed_addresses("a.example", port, allow_private=False, resolve=resolve)


async def test_name_without_an_address_is_an_os_error() -> None:
    with pytest.raises(OSError, match="has no address"):
        await allowed_addresses("a.example", 80, allow_private=False, resolve=answering())


async def test_system_addresses_are_numeric() -> None:
    assert await system_addresses("127.1", 80) == ["127.0.0.1"]


def _embeds_ipv4(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    networks = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::ffff:0:0/96"))
    return any(address in network for network in networks)
