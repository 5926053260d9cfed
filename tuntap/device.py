"""Tun devices, whose packets carry a virtio header (linux/if_tun.h, linux/virtio_net.h).

With the header the kernel hands over super-packets of up to 64 KiB and leaves checksums to whoever
needs them: from tun to tun nothing is cut up or summed at all. A device lives as long as a
descriptor of it does.
"""

from __future__ import annotations

from donjon import syscalls
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd
from donjon.netns import tun


class DeviceError(DonjonError):
    """A tun device cannot be made."""


def open_tun(name: str) -> Fd:
    """Make tun device ``name`` in the network namespace of the caller, with all offloads.

    Needs CAP_NET_ADMIN there. It is down, and has no address. Raises DeviceError.
    """
    try:
        return tun.open_tun(name)
    except OSError as error:
        raise DeviceError(
            f"cannot make the tun device {name}", reason=reason_of(error), hint=_hint(error)
        ) from error


def check(device: int) -> str:
    """Return the name of a device made by ``open_tun``. Raises DeviceError for anything else."""
    try:
        name, flags = syscalls.tungetiff(device)
    except OSError as error:
        raise DeviceError("this is no tun device", reason=reason_of(error)) from error
    if flags & (tun.FLAGS | syscalls.IFF_MULTI_QUEUE) != tun.FLAGS:
        raise DeviceError(
            f"tun device {name} is of another kind", reason="not IFF_TUN, IFF_NO_PI, IFF_VNET_HDR"
        )
    return name


def _hint(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"is {tun.PATH} there? modprobe tun"
    if isinstance(error, PermissionError):
        return "a tun device needs CAP_NET_ADMIN in its network namespace"
    return ""
