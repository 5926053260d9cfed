"""What is counted of each port, in memory that the supervisor owns and the router only adds to.

The memory is a memfd that outlives the router: the next one goes on counting in it. It is an array
of ``struct counters`` (counters.h) by port number; what nobody used is not there in RAM.
"""

from __future__ import annotations

import mmap
import os
import struct

from donjon.fd import Fd
from donjon.records import dataclass

PORTS = 65536
"""Port numbers; FLOW_JAILS of flow.h. 0 is the router's own device."""

FIRST_PEER = 32768
"""From here on the router numbers framed peers itself; below, the supervisor numbers jails."""

GATEWAY = FIRST_PEER - 1
"""The port of the gateway; jails have those before it."""

CAUSES = (
    "malformed", "fragment", "extension", "offload", "spoofed", "claimed", "unregistered",
    "no-receiver", "control", "firewall-out", "firewall-in", "full", "bandwidth", "too-big",
    "refused", "connections",
)  # fmt: skip
"""Why packets were dropped, in the order of enum drop (counters.h).

Up to ``firewall-out`` they are counted where the packet came from, after it where it should have
gone; ``connections`` at the jail on whose account it is. ``malformed``: lengths and versions.
``fragment``: one that could hide what the firewall looks at. ``extension``: a chain of IPv6
headers that is too long or unknown. ``offload``: a virtio header that does not fit its packet.
``spoofed``: a source that is not the port's. ``claimed``: one that is another port's.
``unregistered``: from a peer without an address yet. ``control``: rules sent by a peer.
``full``: a slow receiver. ``bandwidth``: no room to wait for its turn. ``too-big``: for a frame.
``refused``: an error of the device. ``connections``: one more than its jail may have.
"""

_LAYOUT = struct.Struct(f"={5 + len(CAUSES)}Q")
SIZE = 256
"""Bytes of one port: sizeof(struct counters)."""


@dataclass(frozen=True, slots=True)
class PortCounters:
    """One port. All only grow.

    ``out`` is from the jail to the router, ``in`` the opposite (TUN-05); bytes are those of IP
    packets, and a super-packet counts as one.
    """

    out_packets: int
    out_bytes: int
    in_packets: int
    in_bytes: int
    waits: int  # times that reading from the port paused for its bandwidth
    drops: dict[str, int]

    @property
    def dropped(self) -> int:
        """Drops of all causes."""
        return sum(self.drops.values())


class Board:
    """The memory of all counters."""

    def __init__(self, descriptor: Fd | None = None) -> None:
        """Map ``descriptor``, or memory of its own."""
        self.descriptor = descriptor or Fd(os.memfd_create("tuntap-counters", os.MFD_CLOEXEC))
        if os.fstat(self.descriptor.fileno()).st_size < PORTS * SIZE:
            os.ftruncate(self.descriptor.fileno(), PORTS * SIZE)
        self.memory = mmap.mmap(self.descriptor.fileno(), PORTS * SIZE)

    def port(self, number: int) -> PortCounters:
        """Return what was counted of port ``number``."""
        values = _LAYOUT.unpack_from(self.memory, number * SIZE)
        drops = dict(zip(CAUSES, values[5:], strict=True))
        return PortCounters(values[0], values[1], values[2], values[3], values[4], drops)

    def clear(self, number: int) -> None:
        """Begin again at 0, for a port number that is given to somebody else."""
        self.memory[number * SIZE : (number + 1) * SIZE] = bytes(SIZE)

    def close(self) -> None:
        """Unmap and close."""
        self.memory.close()
        self.descriptor.close()
