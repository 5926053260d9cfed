"""The firewall in C for Python: tests, benchmarks, and rules tried out by hand.

The router's data plane links the same C files and asks them itself.
"""

from typing import final

from _typeshed import ReadableBuffer as Buffer

@final
class Firewall:
    """A table of ``donjon.tuntap.rules`` in force, its connections and its counters."""

    def __new__(cls, table: Buffer) -> Firewall:
        """Put a table in force. Raises ValueError with the reason where it is not a whole one."""

    def replace(self, table: Buffer) -> None:
        """Put another table in force; connections stay, and rules that both have go on counting.

        Raises ValueError with the reason; then the old one stays in force.
        """

    def check(self, out: bool, flow: Buffer, now_ns: int, /) -> int:
        """Return what becomes of a packed ``donjon.tuntap.flow.Flow``: 0 accept, 1 drop, 2 reject.

        ``now_ns`` is a clock that does not go back.
        """

    def check_many(self, out: bool, flows: Buffer, checks: int, now_ns: int, /) -> int:
        """Check packed flows in turn, over and over; return how many were accepted."""

    def forget(self, jail: int, /) -> None:
        """Forget the connections of a jail that is gone."""

    def counts(self) -> list[tuple[int, int, int]]:
        """Return (identity, packets, bytes) of the rules of IN, of OUT, and of both policies."""

    def restore(self, identity: int, packets: int, bytes: int, /) -> bool:  # noqa: A002
        """Add what a rule counted before a restart; return whether there is such a rule."""

    def totals(self) -> dict[str, int]:
        """Return what all rules did: see struct firewall_totals in firewall.h."""

    def note(self) -> tuple[int, int, bool, bytes] | None:
        """Take the oldest packet to be logged: (now_ns, rule, out, packed flow)."""
