"""What the router's rules and the host's table say of all vassals with ``network = tap``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from donjon.config.spec import EmperorSpec
from donjon.emperor.counted import InForce
from donjon.emperor.tapped import Tapped, clash, names_in, openings_of, ports_of
from donjon.errors import DonjonError, OptionError, reason_of
from donjon.jail.netgrant import Pool
from donjon.netns import nat
from donjon.netns.wanted import Nat, table_name
from donjon.tuntap.rules import Names, Ruleset, compile_rules, parse
from donjon.tuntap.rules import policy as policies
from donjon.tuntap.rules.compiler import Address
from donjon.tuntap.rules.model import NameKind

if TYPE_CHECKING:
    from donjon.emperor.neighbours import Neighbours

FORWARDING = {4: "/proc/sys/net/ipv4/ip_forward", 6: "/proc/sys/net/ipv6/conf/all/forwarding"}
FROM_LOOPBACK = "/proc/sys/net/ipv4/conf/{}/route_localnet"
"""Whether the host's 127.0.0.1 may speak on a device. What jails begin towards 127.0.0.0/8 the
router's rules drop, and the table's ``guard`` again."""
RULES_MAX = 4 << 20
"""Characters of network-rules."""


class TapWords:
    """The operator's own rules, the vassals, the peers, and what follows from them."""

    def __init__(self, spec: EmperorSpec, pool: Pool) -> None:
        """Read the operator's rules. Raises DonjonError."""
        _check_dns(spec)
        self.spec = spec
        self.pool = pool
        self.members: dict[str, Tapped] = {}
        self.neighbours: Neighbours | None = None
        self.answering: nat.Resolver | None = None
        self.own = Ruleset()
        self.read_own()

    def read_own(self) -> None:
        """Read network-rules. Raises DonjonError, and all is as before."""
        path = self.spec.network_rules
        if path is None:
            return
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read(RULES_MAX + 1)
        except (OSError, UnicodeDecodeError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else str(error)
            raise DonjonError(f"cannot read network-rules = {path}", reason=reason) from error
        if len(text) > RULES_MAX:
            reason = f"more than {RULES_MAX} characters"
            raise DonjonError(f"cannot read network-rules = {path}", reason=reason)
        self.own = parse(text, path)

    def in_force(self) -> InForce:
        """Return the operator's rules, then those that follow from vassals, as one table."""
        own = policies.policy(
            policies.TapNetwork(
                jails=self.pool.networks,
                remote=self.neighbours.networks if self.neighbours else (),
                peers=self.peers(),
                host=self.pool.routers,
                allowances=tuple(one for _, one in self.allowances()),
                published=tuple(
                    policies.Published(name, port.inner, port.protocol)
                    for name, member in self.members.items()
                    for port in member.jail.publish
                ),
                resolves=bool(self.spec.network_dns),
            )
        )
        whole = Ruleset((*self.own.rules, *own.rules), own.policy)
        return InForce(compile_rules(whole, self._names(whole)), whole.policy)

    def _names(self, whole: Ruleset) -> Names:
        """Return whom names mean. Who is not there has no address: a vassal that is gone must not
        keep others from being born."""
        vassals: dict[str, tuple[Address, ...]] = {
            **{one.text: () for one in names_in(whole, NameKind.VASSAL)},
            **{name: member.addresses for name, member in self.members.items()},
            **(self.neighbours.names() if self.neighbours else {}),
        }
        plans: dict[str, tuple[str, ...]] = {
            one.text: tuple(n for n, member in self.members.items() if member.plan == one.text)
            for one in names_in(whole, NameKind.PLAN)
        }
        return Names(vassals=vassals, plans=plans)

    def allowances(self) -> list[tuple[str, policies.Allowance]]:
        """Return who is allowed what."""
        found = []
        for name, member in self.members.items():
            for one in member.jail.network_allow:
                found.append((name, policies.allowance(name, one.text, one.origin)))
        return found

    def table(self, record: str) -> Nat:
        """Return the host's table; what its switches were stands in ``record``."""
        device = self.spec.network_device
        openings = [
            opening
            for name, one in self.allowances()
            if one.network
            for opening in openings_of(self.members[name], one)
        ]
        ports = [
            port
            for member in self.members.values()
            for one in member.jail.publish
            for port in ports_of(one, member)
        ]
        nat_on = self.spec.network_nat
        script = nat.script(
            device,
            self.pool.networks,
            ports,
            openings,
            masquerade=nat_on,
            resolver=self.answering,
        )
        versions = {one.version for one in self.pool.parsed} if nat_on else set()
        switches = [FORWARDING[one] for one in sorted(versions)]
        if any(one.jail.version == 4 for one in ports):
            switches.append(FROM_LOOPBACK.format(device))
        return Nat(
            table=table_name(device), script=script, switches=tuple(switches), record=record
        )

    # -- vassals of other hosts

    def peers(self) -> frozenset[str]:
        """Return the names of other hosts."""
        return self.neighbours.peers if self.neighbours else frozenset()

    def tell_neighbours(self) -> None:
        """Announce to each peer the vassals that may speak with its: those that allow something
        of it, and those that the operator's rules name."""
        if self.neighbours is None:
            return
        vassals = {one.text for one in names_in(self.own, NameKind.VASSAL)}
        plans = {one.text for one in names_in(self.own, NameKind.PLAN)}
        found = []
        for name, member in self.members.items():
            allowed = {policies.peer_of(one.text) for one in member.jail.network_allow}
            named = name in vassals or member.plan in plans
            found.append(
                (name, member.addresses, self.peers() & allowed if not named else self.peers())
            )
        self.neighbours.tell(found)

    # -- what cannot be

    def check(self, name: str, member: Tapped, known: Callable[[], Iterable[str]]) -> None:
        """Refuse what a vassal cannot have; ``known`` are the names of all. Raises OptionError."""
        self._check_ports(name, member)
        self._check_peers(member, known)

    def _check_ports(self, name: str, member: Tapped) -> None:
        """Refuse a port that is somebody else's, or of a family it has no address of. Raises
        OptionError."""
        for port in member.jail.publish:
            if not list(ports_of(port, member)):
                raise OptionError(
                    f"cannot publish port {port.port} of {port.address}",
                    origin=port.origin,
                    reason="the vassal has no address of that family",
                    hint="network-pool may have a network of each",
                )
            for other, theirs in self.members.items():
                if other != name and any(clash(port, one) for one in theirs.jail.publish):
                    raise OptionError(
                        f"cannot publish port {port.port}/{port.protocol}",
                        origin=port.origin,
                        reason=f"{other} publishes it",
                    )

    def _check_peers(self, member: Tapped, everybody: Callable[[], Iterable[str]]) -> None:
        """Refuse a peer that is nobody. Raises OptionError."""
        for one in member.jail.network_allow:
            peer = policies.allowance("", one.text, one.origin).peer
            known = (*everybody(), *self.members) if peer else ()
            if peer and peer not in known and policies.peer_of(peer) not in self.peers():
                like = difflib.get_close_matches(peer, known, 1)
                raise OptionError(
                    f"no vassal is called {peer!r}",
                    origin=one.origin,
                    hint=f"did you mean {like[0]!r}?" if like else "",
                )


def _check_dns(spec: EmperorSpec) -> None:
    """Refuse what contradicts itself. Raises DonjonError."""
    if "none" in spec.network_dns and len(set(spec.network_dns)) > 1:
        raise DonjonError(
            f"network-dns = {' and '.join(spec.network_dns)} contradict each other",
            hint="none is for names of vassals alone",
        )
