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

SPARE = 16
"""Room for IPv4 addresses that come while they are read."""

_IFREQ = 40  # sizeof(struct ifreq), netdevice(7)
_IFCONF = "iP"
_BLOCK = 1 << 16


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
    """Opened in the host's network namespace, asked from anywhere.

    Every socket answers to SIOCGIFCONF. One of AF_INET would send for a router that was taken
    over, from the host to the host; one of AF_UNIX that is shut down does not send at all.
    """

    def __init__(self) -> None:
        """Open what is asked later."""
        self._four = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._four.shutdown(socket.SHUT_RDWR)
        self._six: Fd | None = None
        if os.path.exists("/proc/self/net/if_inet6"):  # not without IPv6
            self._six = Fd(os.open("/proc/self/net/if_inet6", os.O_RDONLY | os.O_CLOEXEC))

    def read(self) -> list[bytes]:
        """Return all addresses that the host has now, as ``packed``."""
        return [*self._read_four(), *self._read_six()]

    def _read_four(self) -> list[bytes]:
        while True:
            room = array.array("B", bytes(self._ask(0, 0) + SPARE * _IFREQ))
            length = self._ask(*reversed(room.buffer_info()))
            if length < len(room):
                break  # else there are more by now
        return [
            packed(ipaddress.IPv4Address(room[at + 20 : at + 24].tobytes()))
            for at in range(0, length, _IFREQ)
        ]

    def _ask(self, size: int, address: int) -> int:
        """Have the kernel write to memory; return the bytes used, or needed where it is NULL."""
        asked = struct.pack(_IFCONF, size, address)
        answer = fcntl.ioctl(self._four, syscalls.SIOCGIFCONF, asked)
        return int(struct.unpack(_IFCONF, answer)[0])

    def _read_six(self) -> list[bytes]:
        if self._six is None:
            return []
        data = b""
        while block := os.pread(self._six.fileno(), _BLOCK, len(data)):  # a page at a time comes
            data += block
        return [bytes.fromhex(line.split()[0]) for line in data.decode("ascii").splitlines()]

    def close(self) -> None:
        """Close both sources."""
        self._four.close()
        if self._six is not None:
            self._six.close()
