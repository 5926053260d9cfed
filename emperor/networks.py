"""The networks of vassals, from before their birth until after their death.

A vassal with ``network`` is born when its namespace is made, and in it. The Emperor holds the
namespace only until then; the device of a ``tap`` it holds as long as the vassal lives. What was
made for a birth that failed goes with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from donjon import log
from donjon.config.spec import EmperorSpec
from donjon.emperor.client import DEFAULT_SOCKET
from donjon.emperor.makers import Makers
from donjon.emperor.prepare import Reading
from donjon.emperor.roster import Vassal
from donjon.errors import DonjonError, OptionError
from donjon.fd import Fd
from donjon.jail.spec import NetworkGrant
from donjon.netns.wanted import Interface, Namespace, Nat, table_name
from donjon.records import dataclass

if TYPE_CHECKING:
    from donjon.emperor.capture import Begun, Captures
    from donjon.emperor.loop import Emperor
    from donjon.emperor.tapnet import TapNetwork

OUTER = "dj"
"""How the host's ends of pairs begin; twelve digits follow."""

INNER = {"tap": "tun0", "veth": "eth0"}
"""What an interface is called inside."""

Prepared = Callable[[Fd | DonjonError], None]
"""Gets the namespace, which is the callee's, or why there is none."""


@dataclass(slots=True)
class Held:
    """What is held of a vassal's network."""

    grant: NetworkGrant
    device: Fd | None = None


class Networks:
    """Makes, holds and shows networks."""

    def __init__(self, emperor: Emperor) -> None:
        self.emperor = emperor
        self.makers = Makers(emperor.reactor)
        self.makers.lost = self._helper_died
        self.tap: TapNetwork | None = None
        self._held: dict[str, Held] = {}
        self._captures: Captures | None = None

    def begin(self) -> None:
        """Have what ``network-pool`` needs; tell what is wrong with it. Raises DonjonError."""
        spec, pool = self.emperor.spec, self.emperor.reader.preparer.pool
        _check_peers(spec)
        if pool is None:
            if spec.network_dns:
                raise DonjonError("network-dns needs network-pool")
            self._clean_up_after_another()
            return
        from donjon.emperor.tapnet import TapNetwork  # noqa: PLC0415  (most Emperors have no pool)

        self.tap = TapNetwork(
            spec, pool, self.emperor.reactor, self.makers, record=record_of(spec)
        )
        self.tap.known = lambda: self.emperor.court.vassals
        if spec.network_peers:
            from donjon.emperor.neighbours import Neighbours  # noqa: PLC0415  (few have peers)

            self.tap.join(Neighbours(spec, pool.parsed, self.emperor.reactor))
        self.tap.begin(_tell)

    def close(self) -> None:
        """Give everything back, at the end of the Emperor."""
        for name in list(self._held):
            self._release(name)
        if self.tap is not None:
            self.tap.close()
        self.makers.close()

    def owns(self, pid: int) -> bool:
        """Whether a process is the helper, or one that works for all vassals."""
        tap = self.tap
        beside = (tap.router, tap.resolver, tap.neighbours) if tap else ()
        return pid == self.makers.pid or pid in [one.pid for one in beside if one]

    # one vassal

    def prepare(self, vassal: Vassal, reading: Reading, prepared: Prepared) -> None:
        """Make the namespace in which ``vassal`` is to be born; ``prepared`` may be called
        later."""
        grant = reading.launch.jail.network_grant
        assert grant is not None
        self._release(vassal.name)
        if grant.kind != "tap":
            self._make(vassal, grant, prepared)
            return
        tap = self.tap
        assert tap is not None  # no pool, no address: the reading was refused

        def begun(problem: DonjonError | None) -> None:
            if problem is not None:
                prepared(problem)
                return
            tap.admit(vassal.name, tap.member(reading), admitted)

        def admitted(problem: DonjonError | None) -> None:
            if problem is not None:
                prepared(problem)
            else:
                self._make(vassal, grant, prepared)

        tap.begin(begun)

    def died(self, vassal: Vassal) -> None:
        """A vassal is dead, or was never born."""
        self._release(vassal.name)

    def change(self, vassal: Vassal, reading: Reading) -> None:
        """Give a running vassal what its file allows and publishes now."""
        held = self._held.get(vassal.name)
        if held is None or held.device is None or self.tap is None:
            return
        member = self.tap.member(reading)
        if not self.tap.differs(vassal.name, member):
            return

        def changed(problem: DonjonError | None) -> None:
            if problem is not None:
                vassal.error = log.one_line(str(problem))
                log.write(f"[emperor] vassal {vassal.name} keeps its network: {vassal.error}")

        self.tap.change(vassal.name, member, held.device, changed)

    def _make(self, vassal: Vassal, grant: NetworkGrant, prepared: Prepared) -> None:
        def made(found: list[Fd] | DonjonError) -> None:
            if isinstance(found, DonjonError):
                self._release(vassal.name)
                prepared(found)
                return
            namespace, *devices = found
            self._held[vassal.name] = held = Held(grant, devices[0] if devices else None)

            def attached(problem: DonjonError | None) -> None:
                if problem is None and self._held.get(vassal.name) is held:
                    prepared(namespace)
                    return
                namespace.close()
                if self._held.get(vassal.name) is held:
                    self._release(vassal.name)
                prepared(problem or DonjonError("its network was given back meanwhile"))

            if held.device is not None and self.tap is not None:
                self.tap.attach(vassal.name, held.device, attached)
            else:
                attached(None)

        self.makers.make(_wanted(grant), made)

    def _release(self, name: str) -> None:
        held = self._held.pop(name, None)
        if self.tap is not None:
            self.tap.dismiss(name)
        if held is not None and held.device is not None:
            self.makers.remove(held.device)

    # what is shown

    def ask_overview(self, done: Callable[[dict[str, Any]], None]) -> None:
        """Tell ``overview`` and what the rules counted, once the router has answered."""
        if self.tap is None:
            done(self.overview())
        else:
            self.tap.ask_counted(lambda more: done({**more, **self.overview()}))

    def overview(self) -> dict[str, Any]:
        """Return device, router and the network of each vassal, for ``donjon net``."""
        router = self.tap.router if self.tap else None
        resolver = self.tap.resolver if self.tap else None
        return {
            "device": self.emperor.spec.network_device if self.tap else "",
            "pool": list(self.tap.pool.networks) if self.tap else [],
            "router": {"pid": router.pid, "restarts": router.restarts} if router else None,
            "resolver": resolver and {"pid": resolver.pid, "restarts": resolver.restarts},
            "vassals": [self.row(name) for name in sorted(self._held)],
            "peers": self.tap.neighbours.overview() if self.tap and self.tap.neighbours else [],
        }

    def row(self, name: str) -> dict[str, Any]:
        """Return the network of a vassal; nothing for one that has none of its own."""
        held = self._held.get(name)
        if held is None:
            return {}
        grant = held.grant
        row: dict[str, Any] = {
            "name": name,
            "network": grant.kind,
            "bridge": grant.bridge,
            "addresses": list(grant.addresses),
            "routers": list(grant.routers),
            "device": INNER.get(grant.kind, ""),
        }
        row["counters"] = self.tap.counters(name) if self.tap else None
        return row

    # captures

    def capture(self, name: str, owner: object, bounds: dict[str, Any], done: Begun) -> None:
        """Begin to capture packets of a vassal; tell where they come."""
        if self._captures is None:
            from donjon.emperor.capture import Captures  # noqa: PLC0415  (few are asked for)

            self._captures = Captures(self.emperor.reactor)
        self._captures.begin(self.tap, name, owner, bounds, done)

    def end_capture(self, owner: object, done: Callable[[dict[str, Any]], None]) -> None:
        """End the capture of ``owner``, if any; tell how many packets came, and were lost."""
        if self._captures is None:
            done({})
        else:
            self._captures.end(self.tap, owner, done)

    # accidents

    def _helper_died(self) -> None:
        """Another one has to know what is to be removed in the end."""
        if self.tap is not None and self.tap.router is not None:
            self.tap.write_table()

    def _clean_up_after_another(self) -> None:
        """Remove what an Emperor left that was killed together with its helper.

        One that has its control socket beside ours may be alive: then the table stays.
        """
        spec = self.emperor.spec
        record = record_of(spec)
        if os.path.exists(record):
            table = table_name(spec.network_device)
            self.makers.make(Nat(table=table, record=record), _tell_cleaned)


def _check_peers(spec: EmperorSpec) -> None:
    """Refuse what needs something else that is not there. Raises OptionError."""
    if spec.network_peers and not spec.network_pool:
        raise OptionError("network-peer needs network-pool", origin=spec.network_peers[0].origin)
    if spec.network_peer_listen and not spec.network_peers:
        origin = spec.origins.get("network_peer_listen")
        raise OptionError("network-peer-listen needs a network-peer", origin=origin)


def record_of(spec: EmperorSpec) -> str:
    """Return the file that remembers how the host was, while a table of ours is there."""
    directory = os.path.dirname(os.path.abspath(spec.control or DEFAULT_SOCKET))
    return f"{directory}/network-{spec.network_device}.json"


def _wanted(grant: NetworkGrant) -> Namespace:
    if grant.kind == "none":
        return Namespace()
    inside = Interface(
        name=INNER[grant.kind],
        addresses=grant.addresses,
        routers=grant.routers,
        mtu=grant.mtu,
    )
    if grant.kind == "tap":
        return Namespace(tun=inside)
    # another one each time: the kernel removes a dead vassal's pair when it comes to it
    return Namespace(veth=inside, outer=f"{OUTER}{os.urandom(6).hex()}", bridge=grant.bridge)


def _tell(problem: DonjonError | None) -> None:
    if problem is not None:
        log.write(f"[emperor] no network for vassals: {problem}")


def _tell_cleaned(made: list[Fd] | DonjonError) -> None:
    if isinstance(made, DonjonError):
        log.write(f"[emperor] a table of nftables that was found here stays: {made}")
    else:
        log.write("[emperor] a killed Emperor's table of nftables is removed")
