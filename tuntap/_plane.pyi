"""The data plane in C: see plane.h."""

from typing import final

from _typeshed import ReadableBuffer, WriteableBuffer

CAUSES: int

def seal(links: bool = False, /) -> bytes:
    """Return the filter of the system calls that are left to a router, or to who holds links to
    other hosts: struct sock_filter[]."""

@final
class Plane:
    """Ports, addresses, rules, and the loop that passes packets between them.

    Descriptors are lent: they stay open until ``remove`` and ``unwatch``. Numbers of ports are
    below ``counters.PORTS``. One thread uses a Plane.
    """

    def __new__(
        cls,
        counters: WriteableBuffer,
        secret: int,
        bridge: bool = False,
    ) -> Plane:
        """Make one that counts in ``counters`` (``counters.Board``).

        A ``bridge`` joins ports 0 and 1 and asks nothing.
        """

    def add_tun(self, number: int, fd: int, limits: tuple[int, int, int, int], /) -> None:
        """Add a tun device with virtio headers; limits as ``client.Bandwidth``."""

    def add_stream(self, number: int, fd: int, /) -> None:
        """Add a stream of frames, whose first address of each family becomes its own."""

    def cap(self, number: int, connections: int, /) -> None:
        """Let a port have so many connections at once; 0 is as many as all may."""

    def add_trunk(self, number: int, fd: int, /) -> None:
        """Add a stream of frames from another router: outside, with what ``own`` gives it."""

    def add_gateway(self, number: int, fd: int, routes: ReadableBuffer, /) -> None:
        """Add a socket of UDP and its routes, ``gateway.ROUTE`` one after the other."""

    def allot(self, number: int, address: ReadableBuffer, bits: int, /) -> bool:
        """Let a port, and no other, own addresses of a network; it owns none elsewhere then.

        The port need not be there. False if another one has a part of the network.
        """

    def disallot(self, number: int, /) -> None:
        """Take all networks from a port."""

    def remove(self, number: int, /) -> None:
        """Forget a port, its addresses and its connections."""

    def own(self, number: int, address: ReadableBuffer, /) -> bool:
        """Give a port an address, IPv4 as ::ffff:a.b.c.d; False if it is another port's."""

    def disown(self, number: int, /) -> None:
        """Take all addresses from a port."""

    def addresses(self, number: int, /) -> list[bytes]:
        """Return the addresses of a port."""

    def watch(self, fd: int, /) -> None:
        """Have ``run`` tell when a descriptor of the caller's is readable."""

    def unwatch(self, fd: int, /) -> None:
        """Do not, any more."""

    def load(self, table: ReadableBuffer, /) -> None:
        """Put a table of rules in force; a bad one raises ValueError and changes nothing."""

    def note(self, fd: int, /) -> None:
        """Tell on a socket, lent for good, what rules note (notes.h); never waits for it."""

    def rule_counts(self) -> list[tuple[int, int, int]]:
        """Return (identity, packets, bytes) of each rule."""

    def restore(self, identity: int, packets: int, bytes: int, /) -> bool:  # noqa: A002
        """Add what a rule counted before a restart; whether there is such a rule."""

    def totals(self) -> dict[str, int]:
        """Return what all rules did, by the names of struct firewall_totals."""

    def capture(self, number: int, fd: int, packets: int, bytes: int, seconds: int, /) -> None:  # noqa: A002
        """Give packets of a port, both ways, to a SEQPACKET socket as records of a pcap file.

        The descriptor is lent until ``end_capture``; the socket is shut down at a bound.
        """

    def end_capture(self) -> tuple[int, int]:
        """End it; return how many packets were captured, and how many lost to a slow reader."""

    def run(self) -> list[tuple[bool, int]]:
        """Pass packets on until there is something for the caller.

        ``(False, fd)`` is a watched descriptor that is readable, ``(True, number)`` a port that
        died and is to be removed.
        """
