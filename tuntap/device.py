"""Tun devices, whose packets carry a virtio header (linux/if_tun.h, linux/virtio_net.h).

With the header the kernel hands over super-packets of up to 64 KiB and leaves checksums to whoever
needs them: from tun to tun nothing is cut up or summed at all. A device lives as long as a
descriptor of it does.
"""

from __future__ import annotations

import os

from donjon import syscalls
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd

PATH = "/dev/net/tun"

VNET_HEADER = 10
"""Bytes of struct virtio_net_hdr."""

_BASIC = syscalls.TUN_F_CSUM | syscalls.TUN_F_TSO4 | syscalls.TUN_F_TSO6 | syscalls.TUN_F_TSO_ECN
_UDP = syscalls.TUN_F_USO4 | syscalls.TUN_F_USO6  # 6.2
_WANTED = syscalls.IFF_TUN | syscalls.IFF_NO_PI | syscalls.IFF_VNET_HDR


class DeviceError(DonjonError):
    """A tun device cannot be made."""


def open_tun(name: str) -> Fd:
    """Make tun device ``name`` in the network namespace of the caller, with all offloads.

    Needs CAP_NET_ADMIN there. It is down, and has no address. Raises DeviceError.
    """
    try:
        with Fd(os.open(PATH, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)) as device:
            syscalls.tunsetiff(device.fileno(), name, _WANTED)
            syscalls.tunsetvnethdrsz(device.fileno(), VNET_HEADER)
            set_offloads(device.fileno())
            return Fd(device.release())
    except OSError as error:
        raise DeviceError(
            f"cannot make the tun device {name}", reason=reason_of(error), hint=_hint(error)
        ) from error


def set_offloads(device: int) -> None:
    """Accept super-packets of TCP, and of UDP where the kernel has them. Raises OSError."""
    try:
        syscalls.tunsetoffload(device, _BASIC | _UDP)
    except OSError:
        syscalls.tunsetoffload(device, _BASIC)


def check(device: int) -> str:
    """Return the name of a device made by ``open_tun``. Raises DeviceError for anything else."""
    try:
        name, flags = syscalls.tungetiff(device)
    except OSError as error:
        raise DeviceError("this is no tun device", reason=reason_of(error)) from error
    if flags & (_WANTED | syscalls.IFF_MULTI_QUEUE) != _WANTED:
        raise DeviceError(
            f"tun device {name} is of another kind", reason="not IFF_TUN, IFF_NO_PI, IFF_VNET_HDR"
        )
    return name


def _hint(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"is {PATH} there? modprobe tun"
    if isinstance(error, PermissionError):
        return "a tun device needs CAP_NET_ADMIN in its network namespace"
    return ""
