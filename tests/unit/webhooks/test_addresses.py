"""Where a webhook may not go: every refused class, every odd spelling, and DNS that lies."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.webhooks.addresses import (
    REFUSED,
    REFUSED_NAMES,
    host_problem,
    refused,
)

#: Class, address: the ends of every network of the table, and one from its middle.
INSIDE = [
    (entry.name, str(address), network)
    for entry in REFUSED
    for network in entry.networks
    for address in sorted(
        {
            ip_network(network)[0],
            ip_network(network)[-1],
            ip_network(network)[ip_network(network).num_addresses // 2],
        }
    )
]
#: The ones that people know by name.
KNOWN = [
    ("loopback", "127.0.0.1"),
    ("loopback", "127.8.8.8"),
    ("loopback", "::1"),
    ("private", "10.0.0.1"),
    ("private", "172.16.0.1"),
    ("private", "172.31.255.255"),
    ("private", "192.168.1.1"),
    ("carrier-grade NAT", "100.64.0.1"),
    ("link-local", "169.254.169.254"),
    ("link-local", "169.254.170.2"),
    ("link-local", "fe80::1"),
    ("link-local", "fe80::1%eth0"),
    ("link-local", "2606:4700::1111%1"),
    ("unique local", "fd00:ec2::254"),
    ("unique local", "fc00::1"),
    ("site-local", "fec0::1"),
    ("multicast", "224.0.0.1"),
    ("multicast", "239.255.255.255"),
    ("multicast", "ff02::1"),
    ("broadcast", "255.255.255.255"),
    ("unspecified", "0.0.0.0"),
    ("unspecified", "::"),
    ("this network", "0.1.2.3"),
    ("reserved", "240.0.0.1"),
    ("documentation", "192.0.2.1"),
    ("documentation", "198.51.100.1"),
    ("documentation", "203.0.113.1"),
    ("documentation", "2001:db8::1"),
    ("documentation", "3fff::1"),
    ("benchmarking", "198.18.0.1"),
    ("benchmarking", "2001:2::1"),
    ("IETF protocol assignments", "192.0.0.8"),
    ("6to4 relay anycast", "192.88.99.1"),
    ("AS112", "192.175.48.1"),
    ("AMT", "192.52.193.1"),
    ("IPv4-mapped", "::ffff:127.0.0.1"),
    ("IPv4-mapped", "::ffff:8.8.8.8"),
    ("IPv4-translated", "::ffff:0:127.0.0.1"),
    ("IPv4-compatible", "::127.0.0.1"),
    ("IPv4-compatible", "::a9fe:a9fe"),
    ("6to4", "2002:7f00:1::1"),
    ("Teredo", "2001::1"),
    ("NAT64", "64:ff9b::7f00:1"),
    ("NAT64", "64:ff9b:1::a9fe:a9fe"),
    ("ORCHID", "2001:10::1"),
    ("ORCHID", "2001:20::1"),
    ("IETF protocol assignments (IPv6)", "2001:1::1"),
    ("discard-only", "100::1"),
    ("segment routing", "5f00::1"),
    ("not global unicast", "4000::1"),
    ("not global unicast", "1::1"),
    ("not global unicast", "fe00::1"),
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2000::1",
    "2001:200::1",
    "2606:4700:4700::1111",
    "2a00:1450:4001:80e::200e",
]


@pytest.mark.parametrize(
    ("name", "address", "network"), INSIDE, ids=[f"{n} {w} {a}" for n, a, w in INSIDE]
)
def test_no_address_of_a_refused_network_is_let_through(
    name: str, address: str, network: str
) -> None:
    found = refused(address)
    assert found is not None
    # A narrower class may name it first: 255.255.255.255 is broadcast, and reserved as well.
    assert found.name == name or any(
        ip_network(inner).version == ip_network(network).version
        and ip_network(inner).subnet_of(ip_network(network))  # type: ignore[arg-type]
        for inner in found.networks
    )


@pytest.mark.parametrize(("name", "address"), KNOWN, ids=[f"{n} {a}" for n, a in KNOWN])
def test_a_refused_address_is_refused_by_the_name_of_its_class(name: str, address: str) -> None:
    found = refused(address)
    assert found is not None
    assert found.name == name


def test_every_class_has_a_known_address_that_shows_it() -> None:
    assert {name for name, _ in KNOWN} == {entry.name for entry in REFUSED}


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_let_through_up_to_the_border(address: str) -> None:
    assert refused(address) is None


@given(st.ip_addresses())
def test_whatever_python_does_not_call_global_is_refused(
    address: IPv4Address | IPv6Address,
) -> None:
    if not address.is_global or address.is_multicast:
        assert refused(str(address)) is not None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_any_ipv6_disguise_is_refused(address: IPv4Address) -> None:
    number = int(address)
    disguises = [
        IPv6Address(number),
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0xFFFF << 48 | number),
        IPv6Address(0x0064_FF9B << 96 | number),
        IPv6Address(0x0064_FF9B_0001 << 80 | number),
        IPv6Address(0x2002 << 112 | number << 80 | 1),
        IPv6Address(0x2001_0000 << 96 | (number ^ 0xFFFFFFFF)),
    ]
    assert all(refused(str(disguise)) for disguise in disguises)


@given(st.ip_addresses(v=4))
def test_ipv4_addresses_that_python_calls_global_are_let_through_but_for_the_named_classes(
    address: IPv4Address,
) -> None:
    found = refused(str(address))
    if found is not None and address.is_global and not address.is_multicast:
        assert found.name in ("6to4 relay anycast", "AS112", "AMT", "IETF protocol assignments")


# --- hosts as they stand in a URL ---------------------------------------------------------------

ODD = [
    ("empty", ""),
    ("decimal", "2130706433"),
    ("hexadecimal", "0x7f000001"),
    ("octal", "017700000001"),
    ("octal octets", "0177.0.0.1"),
    ("hexadecimal octets", "0x7f.0.0.1"),
    ("short", "127.1"),
    ("shorter", "127.0.1"),
    ("just zero", "0"),
    ("leading zeros", "008.008.008.008"),
    ("too many octets", "127.0.0.1.1"),
    ("too large octets", "256.256.256.256"),
    ("bare 0x", "0x"),
    ("number behind a name", "metadata.1"),
    ("hexadecimal behind a name", "a.0xa9fea9fe"),
    ("dot at the end", "example.com."),
    ("address with a dot at the end", "127.0.0.1."),
    ("two dots", "example..com"),
    ("dot in front", ".example.com"),
    ("full-width digits", "１２７.0.0.1"),
    ("circled digits", "①②⑦.⓪.⓪.①"),
    ("ideographic dots", "127。0。0。1"),
    ("international name", "bücher.example.net"),
    ("soft hyphen", "local\u00adhost"),
    ("percent-encoded", "%6c%6f%63%61%6c%68%6f%73%74"),
    ("underscore", "my_host.com"),
    ("hyphen in front", "-a.com"),
    ("blank", "exa mple.com"),
    ("long label", "a" * 64 + ".com"),
    ("long name", "a." * 127 + "com"),
    ("no domain", "intranet"),
    ("localhost", "localhost"),
    ("LOCALHOST", "LOCALHOST"),
    ("under localhost", "a.localhost"),
    ("metadata by name", "metadata.google.internal"),
    ("EC2's own names", "ip-10-0-0-1.ec2.internal"),
    ("multicast DNS", "printer.local"),
    ("reverse lookup", "1.0.0.127.in-addr.arpa"),
    ("brackets around IPv4", "[127.0.0.1]"),
    ("IPv6 loopback", "[::1]"),
    ("IPv6 loopback in full", "[0:0:0:0:0:0:0:1]"),
    ("IPv4-mapped", "[::ffff:127.0.0.1]"),
    ("zone id", "[fe80::1%25eth0]"),
    ("zone id, unescaped", "[fe80::1%eth0]"),
    ("zone id on a public address", "[2606:4700::1111%1]"),
    ("bracket not closed", "[::1"),
    ("empty brackets", "[]"),
    ("future address", "[v1.fe80::a]"),
    ("IPv6 without brackets", "2606:4700::1111"),
    ("private literal", "192.168.0.1"),
    ("metadata literal", "169.254.169.254"),
]


@pytest.mark.parametrize("host", [host for _, host in ODD], ids=[name for name, _ in ODD])
def test_a_host_that_is_spelt_oddly_or_never_public_is_refused(host: str) -> None:
    assert host_problem(host)


@pytest.mark.parametrize("suffix", sorted(REFUSED_NAMES))
def test_names_that_are_never_public_are_refused_with_everything_below_them(suffix: str) -> None:
    assert host_problem(suffix)
    assert host_problem(f"a.b.{suffix}")
    assert not host_problem(f"a.b-{suffix.replace('.', '-')}.com")


@pytest.mark.parametrize(
    "host",
    [
        "hooks.acme.com",
        "HOOKS.Acme.com",
        "a.b.c.d.acme.co.uk",
        "xn--bcher-kva.com",
        "1.acme.com",
        "0x7f.com",
        "8.8.8.8",
        "[2606:4700:4700::1111]",
    ],
)
def test_plain_public_hosts_are_taken(host: str) -> None:
    assert host_problem(host) == ""


@given(st.ip_addresses(v=4), st.data())
def test_no_way_to_write_an_ipv4_address_is_taken_but_the_plain_one(
    address: IPv4Address, data: st.DataObject
) -> None:
    number, parts = int(address), str(address).split(".")
    digits = data.draw(st.sampled_from([str, hex, lambda n: f"0{n:o}", lambda n: f"0{n}"]))
    spellings = [
        digits(number),
        ".".join(digits(int(part)) for part in parts),
        f"{parts[0]}.{digits(number & 0xFFFFFF)}",
        f"{parts[0]}.{parts[1]}.{digits(number & 0xFFFF)}",
    ]
    for spelling in spellings:
        assert host_problem(spelling) or spelling == str(address)


@given(st.ip_addresses())
def test_a_literal_is_taken_exactly_where_its_address_is(
    address: IPv4Address | IPv6Address,
) -> None:
    host = str(address) if address.version == 4 else f"[{address}]"
    assert bool(host_problem(host)) == (refused(str(address)) is not None)


@given(st.text(max_size=60))
def test_no_host_breaks_the_check_and_what_is_taken_is_plain(host: str) -> None:
    if not host_problem(host):
        assert re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]", host)


def test_what_is_no_address_is_told() -> None:
    with pytest.raises(ValueError):
        refused("hooks.acme.com")
