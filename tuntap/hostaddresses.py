"""The addresses of the host itself, asked of its network namespace by who has left it.

A socket and a file of /proc belong for ever to the namespace in which they were opened.
"""

from __future__ import annotations

import array
import fcntl
import ipaddress
import os
import socket
import struct

from donjon import syscalls
from donjon.fd import Fd

MOST = 256
"""IPv4 addresses that are asked for at once."""

_IFREQ = 40  # sizeof(struct ifreq), netdevice(7)


def packed(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    """Return 16 bytes, of IPv4 as ::ffff:a.b.c.d (flow.h)."""
    if address.version == 4:
        return bytes(10) + b"\xff\xff" + address.packed
    return address.packed


def unpacked(data: bytes) -> str:
    """Return the text of what ``packed`` made."""
    address = ipaddress.IPv6Address(data)
    return str(address.ipv4_mapped or address)


class HostAddresses:
    """Opened in the host's network namespace, asked from anywhere."""

    def __init__(self) -> None:
        """Open what is asked later."""
        self._four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._six: Fd | None = None
        if os.path.exists("/proc/self/net/if_inet6"):  # not without IPv6
            self._six = Fd(os.open("/proc/self/net/if_inet6", os.O_RDONLY | os.O_CLOEXEC))

    def read(self) -> list[bytes]:
        """Return all addresses that the host has now, as ``packed``."""
        return [*self._read_four(), *self._read_six()]

    def _read_four(self) -> list[bytes]:
        room = array.array("B", bytes(MOST * _IFREQ))
        address, size = room.buffer_info()
        answer = fcntl.ioctl(self._four, syscalls.SIOCGIFCONF, struct.pack("iP", size, address))
        length = struct.unpack("iP", answer)[0]
        found = room.tobytes()[:length]
        return [
            packed(ipaddress.IPv4Address(found[at + 20 : at + 24]))
            for at in range(0, length, _IFREQ)
        ]

    def _read_six(self) -> list[bytes]:
        if self._six is None:
            return []
        text = os.pread(self._six.fileno(), 1 << 18, 0).decode("ascii", "replace")
        return [bytes.fromhex(line.split()[0]) for line in text.splitlines()]

    def close(self) -> None:
        """Close both sources."""
        self._four.close()
        if self._six is not None:
            self._six.close()
