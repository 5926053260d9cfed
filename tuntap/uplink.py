"""The client's side of a stream of frames: ``tuntap-device = DEV SOCKET``.

A child passes packets between the device and the router with the plane of C as a bridge. It has no
capability. Where the router ends, it connects again, as soon as there is another one; the original
ends the whole instance.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Sequence

from donjon import log, syscalls
from donjon.errors import DonjonError
from donjon.tuntap import device, endpoint
from donjon.tuntap._plane import Plane
from donjon.tuntap.counters import Board
from donjon.tuntap.keeper import fork
from donjon.tuntap.peers import GREETING
from donjon.tuntap.settings import DeviceSetting

DEVICE, ROUTER = 0, 1
"""The ports of the bridge."""

RETRY = 0.2
"""Seconds between attempts to connect."""

_RULES = struct.Struct("<BHB")


def begin(setting: DeviceSetting, rules: Sequence[bytes], *, credentials: bool) -> int:
    """Make the device in our network namespace, joined to its router; return who keeps it, a pid.

    Raises DonjonError. The device itself is never the caller's, who is an application soon: with
    it go packets from any address. It lasts as long as the caller, executed programs included.
    """
    with device.open_tun(setting.device) as tun:
        if not setting.address:
            return fork(_hold, {tun.fileno()})
        with _greet(setting, rules, endpoint.PATIENCE, credentials=credentials) as stream:

            def main(parent: int) -> None:
                _give_up_privileges()
                pump = Plane(Board().memory, 0, True)  # noqa: FBT003  (a bridge)
                pump.add_tun(DEVICE, tun.fileno(), (0, 0, 0, 0))
                pump.watch(parent)
                _pump(pump, setting, rules, stream, parent, credentials=credentials)

            return fork(main, {tun.fileno(), stream.fileno()})


def _hold(parent: int) -> None:
    """Have the device without a router until our parent ends."""
    _give_up_privileges()
    select.select([parent], [], [])


def _greet(
    setting: DeviceSetting, rules: Sequence[bytes], patience: float, *, credentials: bool
) -> socket.socket:
    """Connect, say who we are where that is asked for, and send our rules (uwsgi-facts 5.6)."""
    stream = endpoint.connect(setting.address, setting.origin, patience)
    if credentials:
        stream.sendall(GREETING)  # the kernel says who we are: SO_PASSCRED of unix(7)
    if rules:
        block = b"".join(rules)
        stream.sendall(_RULES.pack(0, len(block), 1) + block)
    stream.settimeout(0)
    return stream


def _give_up_privileges() -> None:
    syscalls.set_no_new_privs()
    syscalls.capset(0, 0, 0)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def _pump(
    pump: Plane,
    setting: DeviceSetting,
    rules: Sequence[bytes],
    stream: socket.socket,
    parent: int,
    *,
    credentials: bool,
) -> None:
    """Pass packets until the device or our parent ends; connect again when the router did."""
    while True:
        pump.add_stream(ROUTER, stream.fileno())
        events = pump.run()
        if events != [(True, ROUTER)]:
            return  # the device is gone, or our parent
        pump.remove(ROUTER)
        stream.close()
        log.write(f"tuntap server disconnected: {setting.address}")
        stream = _connect_again(setting, rules, parent, credentials=credentials)


def _connect_again(
    setting: DeviceSetting, rules: Sequence[bytes], parent: int, *, credentials: bool
) -> socket.socket:
    while not select.select([parent], [], [], RETRY)[0]:
        try:
            return _greet(setting, rules, endpoint.PATIENCE, credentials=credentials)
        except (DonjonError, OSError):
            continue  # there is none yet
    raise DonjonError(f"there is no tuntap router at {setting.address} any more")
