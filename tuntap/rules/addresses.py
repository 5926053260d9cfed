"""Addresses and networks of a text as intervals of numbers."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from donjon.tuntap.rules.model import Network

_MAPPED = 0xFFFF << 32
_ALL = (1 << 128) - 1
IPV4 = Network(_MAPPED, _MAPPED | 0xFFFFFFFF)
EVERYTHING = Network(0, _ALL)


def number(address: IPv4Address | IPv6Address) -> int:
    """Return an address as the firewall compares it; IPv4 is ::ffff:a.b.c.d."""
    return int(address) | _MAPPED if address.version == 4 else int(address)


def family(network: Network) -> int:
    """Return 4 or 6."""
    return 4 if IPV4.low <= network.low and network.high <= IPV4.high else 6


def network(text: str) -> Network:
    """Return the addresses of ``A``, ``A/N`` or ``A-B``. Raises ValueError: what was expected."""
    first, dash, last = text.partition("-")
    if dash:
        return _between(_address(first), _address(last))
    if "/" not in text:
        low = number(_address(text))
        return Network(low, low)
    try:
        strict = ip_network(text)
    except ValueError:
        raise _wrong_network(text) from None
    if isinstance(strict, IPv6Network):
        _refuse_mapped(strict.network_address)
    return whole(strict)


def whole(network: IPv4Network | IPv6Network) -> Network:
    """Return all addresses of a network."""
    return Network(number(network.network_address), number(network.broadcast_address))


def merged(networks: Iterable[Network]) -> tuple[Network, ...]:
    """Return the same addresses as disjoint intervals that do not touch, lowest first."""
    result: list[Network] = []
    for one in sorted(networks):
        if result and one.low <= result[-1].high + 1:
            result[-1] = Network(result[-1].low, max(result[-1].high, one.high))
        else:
            result.append(one)
    return tuple(result)


def as_prefix(network: Network) -> tuple[int, int] | None:
    """Return (value, mask) of an interval that is one prefix, else None."""
    size = network.high - network.low + 1
    if size & (size - 1) or network.low & (size - 1):
        return None
    return network.low, _ALL ^ (size - 1)


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError("an address, a network or a range of addresses") from None
    _refuse_mapped(address)
    return address


def _refuse_mapped(address: IPv4Address | IPv6Address) -> None:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError(f"the IPv4 address, {address.ipv4_mapped}")


def _between(first: IPv4Address | IPv6Address, last: IPv4Address | IPv6Address) -> Network:
    if first.version != last.version or int(first) > int(last):
        raise ValueError("a range from a lower to a higher address of the same family")
    return Network(number(first), number(last))


def _wrong_network(text: str) -> ValueError:
    try:
        masked = ip_network(text, strict=False)
    except ValueError:
        return ValueError("an address, a network or a range of addresses")
    return ValueError(f"a network without bits beyond its mask, as {masked}")
