"""Networks of vassals: which, with which addresses, and what the Emperor does for them."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_interface, ip_network

from donjon.config.options import values
from donjon.config.options.rows import Rows
from donjon.jail.spec import Allowed, Published
from donjon.netns.wanted import MTU, NAME_MAX
from donjon.origin import Origin
from donjon.tuntap.federation import peer
from donjon.tuntap.routes import endpoint_of

AREA = "network"

_vassal = Rows(AREA, "jail", operator=True)
_emperor = Rows(AREA, "emperor", operator=True)

_INTERFACE = re.compile(r"[A-Za-z0-9_.-]+")
_PUBLISH = re.compile(r"(?:(?P<address>.+):)?(?P<port>\d+):(?P<inner>\d+)(?:/(?P<protocol>\w+))?")
_SERVER = re.compile(r"(?:\[(?P<six>[^]]*)\]|(?P<plain>[^:]*))(?::(?P<port>\d{1,5}))?")
_PORT_MAX = 65535


def _interface(text: str) -> str:
    if not _INTERFACE.fullmatch(text) or len(text) > NAME_MAX or text in (".", ".."):
        raise ValueError(f"not the name of an interface: at most {NAME_MAX} letters")
    return text


def _network(text: str) -> str:
    """Read ``none | host | tap | veth:BRIDGE``."""
    kind, colon, bridge = text.partition(":")
    if kind == "veth" and colon:
        return f"veth:{_interface(bridge)}"
    if text not in ("none", "host", "tap"):
        raise ValueError("not one of none, host, tap, veth:BRIDGE")
    return text


def _without_zone(text: str) -> str:
    """Refuse ``fe80::1%eth0``: Python takes any text for a zone, and it would get to nft(8)."""
    if "%" in text:
        raise ValueError("an address with a zone (%) means something on one link only")
    return text.strip()


def _address(text: str) -> str:
    """Read an address, with a prefix or without."""
    text = _without_zone(text)
    try:
        found = ip_interface(text)
    except ValueError as error:
        raise ValueError("not an address such as 192.168.0.5 or 192.168.0.5/24") from error
    return str(found) if "/" in text else str(found.ip)


def _mtu(text: str) -> int:
    return values.integer(*MTU)(text)


def _dns(text: str) -> str:
    """Read ``host``, ``none``, ``ADDRESS``, ``ADDRESS:PORT`` or ``[ADDRESS]:PORT``."""
    if text in ("host", "none"):
        return text
    match = _SERVER.fullmatch(_without_zone(text))
    try:
        found = ip_address((match["six"] or match["plain"]) if match else text)
    except ValueError as error:
        raise ValueError(
            "not host, none, or an address such as 9.9.9.9 or [2620:fe::9]:53"
        ) from error
    if match is None or not match["port"]:
        return str(found)
    port = _port(match["port"])
    return f"[{found}]:{port}" if found.version == 6 else f"{found}:{port}"


def _port(text: str) -> int:
    if not 0 < int(text) <= _PORT_MAX:
        raise ValueError(f"ports are numbers from 1 to {_PORT_MAX}")
    return int(text)


def _publish(text: str) -> tuple[int, int, str, str | None]:
    """Read ``[ADDRESS:]PORT:INNER[/PROTOCOL]``."""
    match = _PUBLISH.fullmatch(_without_zone(text))
    if match is None:
        raise ValueError("not [ADDRESS:]PORT:INNER[/udp]")
    protocol = match["protocol"] or "tcp"
    if protocol not in ("tcp", "udp"):
        raise ValueError("only tcp and udp have ports")
    address = _of_the_host(match["address"]) if match["address"] else None
    return _port(match["port"]), _port(match["inner"]), protocol, address


def _of_the_host(text: str) -> str:
    """Read an address at which a port can be published."""
    found = ip_address(text.removeprefix("[").removesuffix("]"))
    if found.is_unspecified:
        raise ValueError("without an address it is a port of all addresses of the host")
    if found.is_loopback and found.version == 6:
        raise ValueError("the kernel leads nobody from ::1 to a jail: 127.0.0.1 can be published")
    return str(found)


def _published(value: tuple[int, int, str, str | None], origin: Origin) -> Published:
    port, inner, protocol, address = value
    return Published(port, inner, protocol, address, origin)


VASSAL = (
    _vassal.text(
        "network",
        "The network of this vassal: its own without anything, the host's, an end of a pair whose "
        "other end is in a bridge, or a device of the router's.",
        parse=_network,
        metavar="none|host|tap|veth:BRIDGE",
        example="tap",
        ours=True,
    ),
    _vassal.several(
        "network-address",
        "Its address, one of each family; else one of network-pool.",
        field="network_addresses",
        parse=_address,
        metavar="ADDRESS[/PREFIX]",
        example="192.168.0.5",
        ours=True,
    ),
    _vassal.number(
        "network-mtu",
        "The largest packet of its interface.",
        parse=_mtu,
        metavar="BYTES",
        example="1500",
        ours=True,
    ),
    _vassal.several(
        "network-allow",
        "Let it reach another vassal, or a network that the policy closes.",
        field="network_allow",
        factory=Allowed,
        metavar="VASSAL|NETWORK[:PORTS]",
        example="10.1.0.0/16:5432",
        ours=True,
    ),
    _vassal.several(
        "publish",
        "Lead a port of the host to a port of this vassal; it sees who connects.",
        field="publish",
        parse=_publish,
        factory=_published,
        metavar="[ADDRESS:]PORT:INNER[/udp]",
        example="8080:80",
        ours=True,
    ),
)


def _pool(text: str) -> str:
    """Read a network with room for a router and a vassal at least."""
    text = _without_zone(text)
    try:
        found = ip_network(text)
    except ValueError as error:
        raise ValueError("not a network such as 192.168.0.0/24 or fd00:1::/64") from error
    if found.num_addresses < 4:
        raise ValueError("too small: it has no address for a vassal")
    return str(found)


def _listen(text: str) -> str:
    """Read where peers connect."""
    endpoint_of(text)
    return text


EMPEROR = (
    _emperor.several(
        "network-pool",
        "Give vassals addresses of this network; one of each family. The first is the router's.",
        field="network_pool",
        parse=_pool,
        metavar="NETWORK",
        example="192.168.0.0/24",
        ours=True,
    ),
    _emperor.text(
        "network-ledger",
        "The file that remembers whose addresses are whose.",
        parse=values.absolute,
        metavar="FILE",
        example="/var/lib/donjon/addresses",
        ours=True,
    ),
    _emperor.text(
        "network-device",
        "The router's device on the host.",
        parse=_interface,
        metavar="NAME",
        example="donjon0",
        ours=True,
    ),
    _emperor.flag(
        "network-nat",
        "Let vassals of the pool reach the outside with the host's address.",
        ours=True,
    ),
    _emperor.several(
        "network-dns",
        "Answer questions of vassals with network = tap: names of those that network-allow lets "
        "them reach, and all else by way of the host's name servers, an address, or not at all.",
        field="network_dns",
        parse=_dns,
        metavar="host|none|ADDRESS[:PORT]",
        example="host",
        ours=True,
    ),
    _emperor.text(
        "network-rules",
        "The firewall's rules, read before those that follow from network-allow and publish.",
        parse=values.absolute,
        metavar="FILE",
        example="/etc/donjon/firewall",
        ours=True,
    ),
    _emperor.several(
        "network-peer",
        "Join another Emperor's network: its name in its certificate, where it is (- where it "
        "connects to us), and the networks of its vassals.",
        field="network_peers",
        parse=peer.parse_peer,
        factory=peer.peer,
        metavar="NAME ADDR:PORT|- NETWORK...",
        example="berlin.example.net 198.51.100.2:4433 10.2.0.0/24",
        ours=True,
    ),
    _emperor.text(
        "network-peer-listen",
        "Where other Emperors connect.",
        parse=_listen,
        metavar="ADDR:PORT",
        example="198.51.100.1:4433",
        ours=True,
    ),
    *(
        _emperor.text(
            f"network-peer-{name}",
            about,
            parse=values.absolute,
            metavar="FILE",
            example=f"/etc/donjon/peers/{name}.pem",
            ours=True,
        )
        for name, about in (
            (
                "cert",
                "Our certificate for them, and those between it and the authority.",
            ),
            ("key", "The key of our certificate."),
            ("ca", "The authority that all Emperors of a network trust, and nobody else's."),
        )
    ),
)

OPTIONS = (*VASSAL, *EMPEROR)
