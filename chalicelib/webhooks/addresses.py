"""Which addresses and host names a webhook may not go to. Pure.

A webhook makes one of our functions connect to an address that somebody else chose. From inside a
cloud that address could be instance metadata, a database, or the function's own runtime
(server-side request forgery, OWASP). So only addresses of the public internet are let through, and
only hosts that are written in the one plain way. `python -m infra.tables_doc` writes both lists
to docs/WEBHOOKS.md.

Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries and the RFCs named below; for
spellings, WHATWG URL Standard, "host parsing", and inet_aton(3).
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

Address = IPv4Address | IPv6Address


class Refused(NamedTuple):
    """A class of addresses that is refused: its name, its networks, and why."""

    name: str
    networks: tuple[str, ...]
    why: str


#: An address belongs to the first class that holds it. The last class is the rest of IPv6.
REFUSED: tuple[Refused, ...] = (
    Refused("unspecified", ("0.0.0.0/32", "::/128"), "means this host where it is connected to"),
    Refused("this network", ("0.0.0.0/8",), "RFC 791; many systems take it for this host"),
    Refused("loopback", ("127.0.0.0/8", "::1/128"), "the function itself and its runtime API"),
    Refused(
        "private",
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
        "RFC 1918; databases and services inside a network",
    ),
    Refused("carrier-grade NAT", ("100.64.0.0/10",), "RFC 6598; inside providers, and some clouds"),
    Refused(
        "link-local",
        ("169.254.0.0/16", "fe80::/10"),
        "RFC 3927, RFC 4291; 169.254.169.254 hands out credentials of cloud machines",
    ),
    Refused(
        "unique local",
        ("fc00::/7",),
        "RFC 4193; inside a network; fd00:ec2::254 is instance metadata over IPv6",
    ),
    Refused("site-local", ("fec0::/10",), "RFC 3879; deprecated, inside a network"),
    Refused("broadcast", ("255.255.255.255/32",), "RFC 919; everybody on the link"),
    Refused("multicast", ("224.0.0.0/4", "ff00::/8"), "RFC 5771, RFC 4291; groups, not hosts"),
    Refused("IETF protocol assignments", ("192.0.0.0/24",), "RFC 6890; DS-Lite and NAT64 helpers"),
    Refused(
        "documentation",
        (
            "192.0.2.0/24",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "2001:db8::/32",
            "3fff::/20",
        ),
        "RFC 5737, RFC 3849, RFC 9637; never routed, so whatever answers is local",
    ),
    Refused("benchmarking", ("198.18.0.0/15", "2001:2::/48"), "RFC 2544, RFC 5180; test networks"),
    Refused("reserved", ("240.0.0.0/4",), "RFC 1112; not assigned, used inside some clouds"),
    Refused("6to4 relay anycast", ("192.88.99.0/24",), "RFC 7526; deprecated tunnel entry"),
    Refused("AS112", ("192.31.196.0/24", "192.175.48.0/24", "2620:4f:8000::/48"), "RFC 7534"),
    Refused("AMT", ("192.52.193.0/24", "2001:3::/32"), "RFC 7450; multicast tunnels"),
    Refused("IPv4-mapped", ("::ffff:0:0/96",), "RFC 4291; an IPv4 address in disguise"),
    Refused(
        "IPv4-translated", ("::ffff:0:0:0/96",), "RFC 2765; an IPv4 address behind a translator"
    ),
    Refused("IPv4-compatible", ("::/96",), "RFC 4291; deprecated, an IPv4 address in disguise"),
    Refused(
        "NAT64",
        ("64:ff9b::/96", "64:ff9b:1::/48"),
        "RFC 6052, RFC 8215; a translator connects to the IPv4 address inside",
    ),
    Refused("Teredo", ("2001::/32",), "RFC 4380; a tunnel to an IPv4 address"),
    Refused(
        "ORCHID", ("2001:10::/28", "2001:20::/28"), "RFC 4843, RFC 7343; identifiers, no locations"
    ),
    Refused("IETF protocol assignments (IPv6)", ("2001::/23",), "RFC 2928; not for hosts"),
    Refused("6to4", ("2002::/16",), "RFC 3056; a tunnel to the IPv4 address inside"),
    Refused("discard-only", ("100::/64", "100:0:0:1::/64"), "RFC 6666, RFC 9780; black holes"),
    Refused("segment routing", ("5f00::/16",), "RFC 9602; identifiers inside a network"),
    Refused(
        "not global unicast",
        ("::/3", "4000::/2", "8000::/1"),
        "IANA gives out 2000::/3 only; the rest is nobody's",
    ),
)

#: Names that never belong to the public internet: (suffix, why).
REFUSED_NAMES = {
    "localhost": "RFC 6761; this host",
    "local": "RFC 6762; multicast DNS",
    "internal": "private use; instance metadata and cloud networks",
    "intranet": "private use",
    "private": "private use",
    "corp": "private use",
    "home": "private use",
    "lan": "private use",
    "localdomain": "private use; this host on many systems",
    "home.arpa": "RFC 8375; home networks",
    "in-addr.arpa": "reverse lookups",
    "ip6.arpa": "reverse lookups",
    "test": "RFC 6761; never public",
    "invalid": "RFC 6761; never public",
    "example": "RFC 6761; never public",
    "onion": "RFC 7686; not in DNS",
    "alt": "RFC 9476; not in DNS",
}
_LONGEST_NAME = 253
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)")


def refused(address: str) -> Refused | None:
    """The refused class of an address; None where the address is public.

    An address with a zone id (fe80::1%eth0) counts as link-local, whatever else it says. Raises
    ValueError for a text that is no address.
    """
    bare, _, zone = address.partition("%")
    found = ip_address(bare)
    if zone:
        return next(entry for entry in REFUSED if entry.name == "link-local")
    for network, entry in _networks():
        if found.version == network.version and found in network:
            return entry
    return None


@lru_cache(maxsize=1)
def _networks() -> tuple[tuple[IPv4Network | IPv6Network, Refused], ...]:
    """Every refused network with its class. Built when first asked for: most requests to the API
    name no webhook, and need not wait for it."""
    return tuple((ip_network(network), entry) for entry in REFUSED for network in entry.networks)


def host_problem(host: str) -> str:
    """What is wrong with a URL's host, to go behind "it"; "" where nothing is.

    `host` is as it stands in the URL, an IPv6 address in brackets. A name that passes may still
    resolve to a refused address: the sender checks that before it connects.
    """
    if not host:
        return "has no host"
    if host.startswith("["):
        return _literal_problem(host[1:-1]) if host.endswith("]") else "has a broken host"
    if "%" in host or not host.isascii():
        return "must spell its host in plain ASCII; international names begin with xn--"
    name = host.lower()
    if name.endswith("."):
        return "must spell its host without a dot at the end"
    if len(name) > _LONGEST_NAME:
        return "has too long a host"
    labels = name.split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        # Some resolver takes every name that ends in a number for an address: 2130706433, 0x7f.1.
        try:
            IPv4Address(name)
        except ValueError:
            return "spells an address in an unusual way"
        return _literal_problem(name)
    if not all(_LABEL.fullmatch(label) for label in labels):
        return "has a host that is no DNS name"
    for suffix, why in REFUSED_NAMES.items():
        if name == suffix or name.endswith("." + suffix):
            return f"must not name a host under {suffix} ({why})"
    if len(labels) == 1:
        return "must name its host in full, with a domain"
    return ""


def _literal_problem(text: str) -> str:
    try:
        entry = refused(text)
    except ValueError:
        return "has a broken address as its host"
    return f"must not go to a {entry.name} address" if entry else ""
