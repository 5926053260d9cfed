"""From ``network`` to the namespace of one vassal: the ledger of addresses is asked, and
remembers.

An address of the pool is a number: the same in the IPv4 and in the IPv6 network, where both are
given. Number 1 is the router's. A number is given out once, stays with its name over restarts,
and is taken back only when the pool is exhausted and the file of its name is gone.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

from donjon.errors import JailError
from donjon.jail.idledger import Ledger, Stock
from donjon.jail.spec import JailSpec, NetworkGrant
from donjon.records import dataclass, replace

PATH = "/var/lib/donjon/addresses"
ROUTER = 1
MOST = 65535
"""The highest number: a router has no more ports."""

Network = IPv4Network | IPv6Network

_HEADER = "# Numbers of addresses in network-pool: NUMBER 1 NAME. Change it with: donjon ids\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """``network-pool`` and where it is remembered. At most one network of each family."""

    networks: tuple[str, ...]
    path: str = PATH
    resolves: bool = False  # whether the router's addresses answer questions about names

    @property
    def parsed(self) -> tuple[Network, ...]:
        """The networks, in the order given."""
        return tuple(ip_network(one) for one in self.networks)

    @property
    def last(self) -> int:
        """The highest number that is an address in each network."""
        return min(MOST, *(one.num_addresses - 2 for one in self.parsed))

    def addresses(self, number: int) -> tuple[str, ...]:
        """Return the addresses of a number, with their prefix."""
        return tuple(f"{one[number]}/{one.prefixlen}" for one in self.parsed)

    @property
    def routers(self) -> tuple[str, ...]:
        """The router's addresses, without prefix."""
        return tuple(str(one[ROUTER]) for one in self.parsed)


def pool_of(networks: Sequence[str], path: str | None, *, resolves: bool = False) -> Pool | None:
    """Return the pool of ``network-pool``, None without one. Raises JailError."""
    if not networks:
        return None
    pool = Pool(networks=tuple(networks), path=path or PATH, resolves=resolves)
    if len({one.version for one in pool.parsed}) != len(networks):
        raise JailError(
            f"network-pool = {' and '.join(networks)}", reason="one of each family is the most"
        )
    return pool


@functools.cache
def ledger_of(pool: Pool) -> Ledger:
    """Return the ledger of a pool; a process has one of each, and so reads it once."""
    stock = Stock(
        first=ROUTER + 1,
        last=pool.last,
        nouns="addresses",
        book="address ledger",
        header=_HEADER,
        hint=f"give network-pool more, or: donjon ids --ledger {pool.path} --release NAME",
    )
    return Ledger(pool.path, (), stock)


def settle(spec: JailSpec, name: str, pool: Pool | None, *, preview: bool = False) -> JailSpec:
    """Return ``spec`` with the namespace that its ``network`` comes to; without one as it is.

    ``name`` is whose addresses they are. With ``preview`` nothing is given out. Raises JailError.
    """
    if not spec.own_network or spec.network is None:
        return spec
    kind, _, bridge = spec.network.partition(":")
    try:
        addresses, routers = _addresses(spec, kind, name, pool, preview=preview)
    except JailError as error:
        error.origin = error.origin or spec.origins.get("network")
        raise
    grant = NetworkGrant(
        kind=kind,
        bridge=bridge,
        addresses=addresses,
        routers=routers,
        mtu=spec.network_mtu or 0,
        nameservers=routers if kind == "tap" and pool is not None and pool.resolves else (),
    )
    return replace(spec, network_grant=grant)


def _addresses(
    spec: JailSpec, kind: str, name: str, pool: Pool | None, *, preview: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return addresses and routers."""
    if kind == "none" or preview:
        return spec.network_addresses if preview else (), ()
    given = spec.network_addresses
    if kind == "veth" and given:
        whole = tuple(_whole(one, pool) for one in given)
        return whole, _reached(whole, pool)
    if pool is None:
        hint = "network-pool = 192.168.0.0/24"
        hint += ", or network-address" if kind == "veth" else ""
        raise JailError(f"network = {spec.network} needs addresses", hint=hint)
    if given:
        return pool.addresses(_claim(name, given, pool)), pool.routers
    return pool.addresses(_assign(name, pool)), pool.routers


def _reached(addresses: Sequence[str], pool: Pool | None) -> tuple[str, ...]:
    """Return the pool's routers that are in a network of these addresses: no other can be one."""
    near = [ip_interface(one).network for one in addresses]
    routers = pool.routers if pool else ()
    return tuple(one for one in routers if any(ip_address(one) in network for network in near))


def _whole(address: str, pool: Pool | None) -> str:
    """Return an address with a prefix: its own, or that of the pool's network in which it is."""
    if "/" in address:
        return address
    found = ip_interface(address)
    for network in pool.parsed if pool else ():
        if found.ip in network:
            return f"{address}/{network.prefixlen}"
    raise JailError(f"network-address = {address} has no prefix", hint=f"{address}/24")


def _assign(name: str, pool: Pool) -> int:
    ledger = ledger_of(pool)
    try:
        number = ledger.assign(name, 1).base
    except JailError:
        if not _take_back(ledger):
            raise
        number = ledger.assign(name, 1).base
    if number > pool.last:
        raise JailError(
            f"address {number} of {name} is not in network-pool",
            reason=f"{' and '.join(pool.networks)} have {pool.last}",
            hint=f"donjon ids --ledger {pool.path} --release {name}",
        )
    return number


def _claim(name: str, given: Sequence[str], pool: Pool) -> int:
    """Give out the number of given addresses; nothing of a vassal's depends on an old one."""
    numbers = {_number_in(one, pool) for one in given}
    if len(numbers) != 1:
        raise JailError(f"network-address: {' and '.join(given)} are not the same number")
    number = numbers.pop()
    ledger = ledger_of(pool)
    for one in ledger.ranges():
        if one.base == number and one.name != name:
            raise JailError(
                f"network-address = {' and '.join(given)} cannot be {name}'s",
                reason=f"it is {one.name}'s",
            )
    found = ledger.find(name)
    if found is not None and found.base != number:
        ledger.release(name)
    return ledger.claim(name, number, 1).base


def _number_in(address: str, pool: Pool) -> int:
    found = ip_interface(address).ip
    for network in pool.parsed:
        if found.version == network.version and found in network:
            number = int(found) - int(network.network_address)
            if ROUTER < number <= pool.last:
                return number
    raise JailError(
        f"network-address = {address} is not a vassal's address of network-pool",
        reason=f"{' and '.join(pool.networks)}; the first is the router's",
    )


def _take_back(ledger: Ledger) -> bool:
    """Release what belongs to a file that is gone; whether there was one. One is enough: each
    release is a write to the disk, and the others may come back."""
    for one in ledger.ranges():
        if one.name.startswith("/") and not os.path.lexists(one.name.partition(":")[0]):
            with contextlib.suppress(JailError):  # another process was faster
                ledger.release(one.name)
                return True
    return False
