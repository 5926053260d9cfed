"""What the Emperor does for all vassals with ``network = tap`` together.

Once: the router's device on the host, the host's table of nftables, the router itself. For each
vassal: rules and table are written again, whole, and put in force at once. Nothing is let through
before its rules are there: the table comes first, then the rules, then the vassal's device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_interface

from donjon import log
from donjon.config.spec import EmperorSpec
from donjon.emperor.makers import Makers
from donjon.emperor.prepare import Reading
from donjon.emperor.reactor import Reactor
from donjon.emperor.router import Router
from donjon.errors import DonjonError, OptionError, reason_of
from donjon.fd import Fd
from donjon.jail.netgrant import Pool
from donjon.jail.spec import JailSpec, Published
from donjon.netns import nat
from donjon.netns.wanted import HostDevice, Interface, Nat, table_name
from donjon.records import dataclass
from donjon.tuntap.client import Bandwidth
from donjon.tuntap.counters import PortCounters
from donjon.tuntap.rules import Names, Ruleset, compile_rules, parse
from donjon.tuntap.rules import policy as policies

FORWARDING = {4: "/proc/sys/net/ipv4/ip_forward", 6: "/proc/sys/net/ipv6/conf/all/forwarding"}
RULES_MAX = 4 << 20
"""Bytes of network-rules."""

Ready = Callable[[DonjonError | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tapped:
    """A vassal on the router: what its file asks for, and its addresses without prefix."""

    jail: JailSpec
    addresses: tuple[IPv4Address | IPv6Address, ...]
    bandwidth: Bandwidth


class TapNetwork:
    """Device, table, rules, router."""

    def __init__(
        self, spec: EmperorSpec, pool: Pool, reactor: Reactor, makers: Makers, *, record: str
    ) -> None:
        self.record = record
        self.spec = spec
        self.pool = pool
        self.reactor = reactor
        self.makers = makers
        self.router: Router | None = None
        self.known: Callable[[], Iterable[str]] = tuple
        self._device: Fd | None = None
        self._own = self._read_rules()
        self._members: dict[str, Tapped] = {}
        self._starting: list[Ready] | None = None

    # -- once

    def begin(self, ready: Ready) -> None:
        """Have all that is needed once; ``ready`` is told why there is not."""
        if self.router is not None:
            ready(None)
        elif self._starting is not None:
            self._starting.append(ready)
        else:
            self._starting = [ready]
            interface = Interface(name=self.spec.network_device, addresses=self.pool.addresses(1))
            self.makers.make(HostDevice(interface=interface), self._have_device)

    def _have_device(self, made: list[Fd] | DonjonError) -> None:
        if isinstance(made, DonjonError):
            self._end_start(made)
            return
        (self._device,) = made
        self.makers.make(self._table(), self._have_table)

    def _have_table(self, made: list[Fd] | DonjonError) -> None:
        assert self._device is not None
        problem = made if isinstance(made, DonjonError) else None
        try:
            if problem is None:
                self.router = Router(self.reactor, self._device, self._compiled())
        except DonjonError as error:
            problem = error
        if problem is not None:
            self._device.close()
            self._device = None
        self._end_start(problem)

    def _end_start(self, problem: DonjonError | None) -> None:
        waiting, self._starting = self._starting or [], None
        for ready in waiting:
            ready(problem)

    def close(self) -> None:
        """End the router; the helper removes the table when it is let go."""
        if self.router is not None:
            self.router.close()
            self.router = None
        if self._device is not None:
            self._device.close()
            self._device = None

    # -- vassals

    @staticmethod
    def member(reading: Reading) -> Tapped:
        """Return what the router is told of a vassal."""
        jail = reading.launch.jail
        grant = jail.network_grant
        rate = (reading.hosting.bandwidth if reading.hosting else None) or 0
        return Tapped(
            jail=jail,
            addresses=tuple(ip_interface(one).ip for one in grant.addresses) if grant else (),
            bandwidth=Bandwidth(out=rate, into=rate),
        )

    def admit(self, name: str, member: Tapped, ready: Ready) -> None:
        """Have a vassal in table and rules; it may be attached once ``ready`` is told so."""
        try:
            self._check_ports(name, member)
            self._members[name] = member
            self._put_rules()
        except DonjonError as error:
            self._members.pop(name, None)
            ready(error)
            return
        if not self._in_table(member):
            ready(None)
            return

        def made(found: list[Fd] | DonjonError) -> None:
            ready(found if isinstance(found, DonjonError) else None)

        self.makers.make(self._table(), made)

    def differs(self, name: str, member: Tapped) -> bool:
        """Whether the router knows something else of a vassal."""
        known = self._members.get(name)
        return known is None or _asked(known) != _asked(member)

    def dismiss(self, name: str) -> None:
        """A vassal is dead: nothing speaks of it any more."""
        member = self._members.pop(name, None)
        if member is None:
            return
        if self.router is not None:
            self.router.detach(name)
            try:
                self._put_rules()
            except DonjonError as error:
                log.write(f"[emperor] the rules of the router stay as they were: {error}")
        if self._in_table(member):
            self.write_table()

    def attach(self, name: str, device: Fd) -> None:
        """Attach the device of a vassal that was admitted. Raises DonjonError."""
        member = self._members[name]
        if self.router is not None:
            addresses = tuple(str(one) for one in member.addresses)
            self.router.attach(name, device, addresses, member.bandwidth)

    def counters(self, name: str) -> PortCounters | None:
        """Return what is counted of a vassal, None where it is not attached."""
        try:
            return self.router.port(name) if self.router else None
        except KeyError:
            return None

    def reload_rules(self) -> None:
        """Read network-rules again; what is wrong with it changes nothing."""
        before = self._own
        try:
            self._own = self._read_rules()
            self._put_rules()
        except DonjonError as error:
            self._own = before
            log.write(f"[emperor] network-rules stay as they were: {error}")

    # -- rules

    def _read_rules(self) -> Ruleset:
        path = self.spec.network_rules
        if path is None:
            return Ruleset()
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read(RULES_MAX)
        except (OSError, UnicodeDecodeError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else str(error)
            raise DonjonError(f"cannot read network-rules = {path}", reason=reason) from error
        return parse(text, path)

    def _put_rules(self) -> None:
        if self.router is not None:
            self.router.rules(self._compiled())

    def _compiled(self) -> bytes:
        """Return the operator's rules, then those that follow from vassals, as one table."""
        own = policies.policy(
            policies.TapNetwork(
                jails=self.pool.networks,
                host=self.pool.routers,
                allowances=tuple(one for _, one in self._allowances()),
                published=tuple(
                    policies.Published(name, port.inner, port.protocol)
                    for name, member in self._members.items()
                    for port in member.jail.publish
                ),
            )
        )
        known: dict[str, tuple[IPv4Address | IPv6Address, ...]] = dict.fromkeys(self.known(), ())
        known |= {name: member.addresses for name, member in self._members.items()}
        whole = Ruleset((*self._own.rules, *own.rules), own.policy)
        return compile_rules(whole, Names(vassals=known)).table

    def _allowances(self) -> list[tuple[str, policies.Allowance]]:
        """Return who is allowed what; vassals go by their names, or by those of their files."""
        found = []
        for name, member in self._members.items():
            for one in member.jail.network_allow:
                found.append((name, policies.allowance(name, one.text, one.origin)))
        return found

    # -- the host's table

    def write_table(self) -> None:
        """Put the host's table in force again."""
        self.makers.make(self._table(), _tell_table)

    def _table(self) -> Nat:
        device = self.spec.network_device
        openings = [
            nat.Opening(jail=address, network=one.network, ports=one.ports)
            for name, one in self._allowances()
            for address in self._members[name].addresses
            if one.network and address.version == ip_interface(one.network).version
        ]
        script = nat.script(
            device,
            self.pool.networks,
            [port for member in self._members.values() for port in _ports(member)],
            openings,
            masquerade=self.spec.network_nat,
        )
        versions = {one.version for one in self.pool.parsed} if self.spec.network_nat else set()
        return Nat(
            table=table_name(device),
            script=script,
            forwards=tuple(FORWARDING[one] for one in sorted(versions)),
            record=self.record,
        )

    @staticmethod
    def _in_table(member: Tapped) -> bool:
        return bool(member.jail.publish or member.jail.network_allow)

    def _check_ports(self, name: str, member: Tapped) -> None:
        """Refuse a port that is somebody else's. Raises OptionError."""
        for port in member.jail.publish:
            for other, theirs in self._members.items():
                if other != name and any(_clash(port, one) for one in theirs.jail.publish):
                    raise OptionError(
                        f"cannot publish port {port.port}/{port.protocol}",
                        origin=port.origin,
                        reason=f"{other} publishes it",
                    )


def _asked(member: Tapped) -> tuple[object, ...]:
    jail = member.jail
    return member.addresses, member.bandwidth, jail.publish, jail.network_allow


def _clash(one: Published, other: Published) -> bool:
    same = one.port == other.port and one.protocol == other.protocol
    return same and (None in (one.address, other.address) or one.address == other.address)


def _ports(member: Tapped) -> list[nat.Port]:
    found = []
    for one in member.jail.publish:
        given = ip_interface(one.address).ip if one.address else None
        for address in member.addresses:
            if given is None or given.version == address.version:
                found.append(
                    nat.Port(
                        protocol=one.protocol,
                        address=given,
                        port=one.port,
                        jail=address,
                        inner=one.inner,
                    )
                )
    return found


def _tell_table(made: list[Fd] | DonjonError) -> None:
    if isinstance(made, DonjonError):
        log.write(f"[emperor] the host's table stays as it was: {made}")
