"""tun devices made in a network namespace: linux/if_tun.h.

A device lives in the network namespace of who made it, and as long as one descriptor of it is
open. Its packets have no header of the kernel's own (IFF_NO_PI) and a struct virtio_net_hdr
before them (IFF_VNET_HDR), so that large and unfinished ones pass (TUNSETOFFLOAD).
"""

from __future__ import annotations

import os

from donjon import syscalls
from donjon.fd import Fd

PATH = "/dev/net/tun"
HEADER = 10
"""Bytes of struct virtio_net_hdr (linux/virtio_net.h)."""

FLAGS = syscalls.IFF_TUN | syscalls.IFF_NO_PI | syscalls.IFF_VNET_HDR
_TCP = syscalls.TUN_F_CSUM | syscalls.TUN_F_TSO4 | syscalls.TUN_F_TSO6 | syscalls.TUN_F_TSO_ECN
_UDP = syscalls.TUN_F_USO4 | syscalls.TUN_F_USO6


def open_tun(name: str) -> Fd:
    """Make a device in this network namespace. It is down. Raises OSError."""
    with Fd(os.open(PATH, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)) as device:
        number = device.fileno()
        syscalls.tunsetiff(number, name, FLAGS)
        syscalls.tunsetvnethdrsz(number, HEADER)
        set_offloads(number)
        return Fd(device.release())


def set_offloads(number: int) -> None:
    """Accept super-packets of TCP, and of UDP where the kernel has them. Raises OSError."""
    try:
        syscalls.tunsetoffload(number, _TCP | _UDP)
    except OSError:  # before Linux 6.2 datagrams are not segmented
        syscalls.tunsetoffload(number, _TCP)
