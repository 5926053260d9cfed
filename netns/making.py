"""Making what is wanted, in the process that does nothing else (``helper``).

A namespace is made by unshare(2), configured from inside, and left again by setns(2): it is held
by its descriptor alone, and is gone with the last one. Links, addresses and routes are made
through pyroute2; the tables of ``Nat`` by nft(8) with a script on its standard input: pyroute2
has no expressions for dnat, masquerade and maps. Importing this module imports pyroute2.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from ipaddress import ip_address, ip_interface

from pyroute2 import AsyncIPRoute  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from donjon import syscalls
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd
from donjon.netns import tun
from donjon.netns.wanted import HostDevice, Interface, Namespace, Nat, Wanted

OWN = "/proc/self/ns/net"
LOW_PORTS = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
PATIENCE = 10.0
"""Seconds to wait for the helper of an Emperor that ended: it may be removing the same table."""

_LOOPBACK = 1  # the first link of every namespace: net/core/dev.c


def make(wanted: Wanted) -> list[Fd]:
    """Do it; return the descriptors that come of it, the namespace's first. Raises DonjonError."""
    if isinstance(wanted, Namespace):
        return _namespace(wanted)
    if isinstance(wanted, HostDevice):
        return [_host_device(wanted.interface)]
    if isinstance(wanted, Nat):
        _nat(wanted)
    return []


# -- namespaces


def _namespace(wanted: Namespace) -> list[Fd]:
    with contextlib.ExitStack() as stack:
        found: list[Fd] = []
        with _inside_a_new_one() as namespace:
            found.append(stack.enter_context(namespace))
            if wanted.tun is not None:
                found.append(stack.enter_context(_tun(wanted.tun)))
            _write(LOW_PORTS, "0")  # they are nobody's but the jail's, whatever its user
            asyncio.run(_raise_loopback())
            if wanted.tun is not None:
                asyncio.run(_configure(wanted.tun))
        if wanted.veth is not None:
            asyncio.run(_connect(wanted, namespace.fileno()))
            with _inside(namespace):
                asyncio.run(_configure(wanted.veth))
        stack.pop_all()  # they are the caller's
        return found


@contextlib.contextmanager
def _inside_a_new_one() -> Iterator[Fd]:
    with Fd(os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)) as home:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
        except OSError as error:
            raise DonjonError(
                "cannot make a network namespace", reason=reason_of(error)
            ) from error
        try:
            yield Fd(os.open(OWN, os.O_RDONLY | os.O_CLOEXEC))
        finally:
            _return_to(home)


@contextlib.contextmanager
def _inside(namespace: Fd) -> Iterator[None]:
    with Fd(os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)) as home:
        syscalls.setns(namespace.fileno(), syscalls.CLONE_NEWNET)
        try:
            yield
        finally:
            _return_to(home)


def _return_to(home: Fd) -> None:
    """Be where we were; who cannot must not go on where it is."""
    try:
        syscalls.setns(home.fileno(), syscalls.CLONE_NEWNET)
    except OSError:
        os._exit(1)


# -- links


def _tun(interface: Interface) -> Fd:
    try:
        return tun.open_tun(interface.name)
    except OSError as error:
        hint = ""
        if error.errno in (errno.EBUSY, errno.EINVAL):  # another's tun, or no tun at all
            hint = "there is a device of this name already: network-device names another"
        elif error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            hint = "this kernel has no tun devices: modprobe tun"
        reason = reason_of(error)
        raise DonjonError(
            f"cannot make the device {interface.name}", reason=reason, hint=hint
        ) from error


def _host_device(interface: Interface) -> Fd:
    if interface.addresses:
        asyncio.run(_refuse_overlaps(interface))
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(_tun(interface))
        asyncio.run(_configure(interface))
        stack.pop_all()  # it is the caller's
        return device


async def _refuse_overlaps(interface: Interface) -> None:
    """Refuse a network that the host is in already: answers would go where they do not belong."""
    wanted = [ip_interface(one).network for one in interface.addresses]
    async with _talking("cannot read the addresses of the host") as route:
        async for one in await route.addr("dump"):
            name = socket.if_indextoname(one["index"])
            there = ip_interface(f"{one.get('IFA_ADDRESS')}/{one['prefixlen']}").network
            for network in wanted if name != interface.name else ():
                if network.version == there.version and network.overlaps(there):
                    raise DonjonError(
                        f"network-pool = {network} overlaps with {there}",
                        reason=f"the host has that on {name}",
                    )


@contextlib.asynccontextmanager
async def _talking(what: str) -> AsyncIterator[AsyncIPRoute]:
    """Speak to the kernel; what it refuses is one line."""
    try:
        async with AsyncIPRoute() as route:
            yield route
    except NetlinkError as error:
        raise DonjonError(what, reason=os.strerror(error.code)) from error
    except OSError as error:
        raise DonjonError(what, reason=reason_of(error)) from error


async def _raise_loopback() -> None:
    async with _talking("cannot bring up the loopback device") as route:
        await route.link("set", index=_LOOPBACK, state="up")


async def _configure(interface: Interface) -> None:
    """Give an interface MTU, addresses and default routes, and bring it up.

    Nobody else is on it: an IPv6 address is not looked for among neighbours first (nodad).
    """
    async with _talking(f"cannot configure {interface.name}") as route:
        index = await _index_of(route, interface.name)
        _quiet(interface)
        if interface.mtu:
            await route.link("set", index=index, mtu=interface.mtu)
        for text in interface.addresses:
            address = ip_interface(text)
            more = {"flags": 2} if address.version == 6 else {}  # IFA_F_NODAD
            await route.addr(
                "add",
                index=index,
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
                **more,
            )
        await route.link("set", index=index, state="up")
        for router in interface.routers:
            everything = "default" if ip_address(router).version == 4 else "::/0"
            await route.route("add", dst=everything, gateway=router, oif=index)


def _quiet(interface: Interface) -> None:
    """Say nothing that nobody asked for: no address of IPv6 but those given, if any."""
    has = any(":" in one for one in interface.addresses)
    file, value = ("addr_gen_mode", "1") if has else ("disable_ipv6", "1")
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        _write(f"/proc/sys/net/ipv6/conf/{interface.name}/{file}", value)


async def _connect(wanted: Namespace, namespace: int) -> None:
    """Make a pair: one end in the bridge, the other in the namespace."""
    assert wanted.veth is not None
    async with _talking(f"cannot join the bridge {wanted.bridge}") as route:
        bridge = await _index_of(route, wanted.bridge)
        peer = {"ifname": wanted.veth.name, "net_ns_fd": namespace}
        await route.link("add", ifname=wanted.outer, kind="veth", peer=peer)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(route.link, "del", ifname=wanted.outer)
            index = await _index_of(route, wanted.outer)
            await route.link("set", index=index, master=bridge)
            await route.link("set", index=index, state="up")
            stack.pop_all()


async def _index_of(route: AsyncIPRoute, name: str) -> int:
    found: Sequence[int] = await route.link_lookup(ifname=name)
    if not found:
        raise OSError(errno.ENODEV, f"there is no interface {name}")
    return found[0]


# -- translation


_locks: dict[str, Fd] = {}
"""The tables that are this process's, by their records."""


def _nat(wanted: Nat) -> None:
    """Replace the table whole, in one transaction; the switches of forwarding go with it."""
    if wanted.record not in _locks:
        _locks[wanted.record] = _locked(wanted)
    remove = f"add table inet {wanted.table}\ndelete table inet {wanted.table}\n"
    if wanted.script or shutil.which("nft"):
        _nft(remove + wanted.script)
    if wanted.script:
        _switch_on(wanted)
    else:
        _switch_back(wanted)


def _locked(wanted: Nat) -> Fd:
    """Have a table for the life of this process: another's is neither replaced nor removed."""
    path = f"{wanted.record}.lock"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        lock = Fd(os.open(path, flags, 0o600))
    except OSError as error:
        raise DonjonError(f"cannot lock {path}", reason=reason_of(error)) from error
    end = time.monotonic() + (PATIENCE if wanted.script else 0.0)
    while True:
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < end:
                time.sleep(0.02)
                continue
            lock.close()
            raise DonjonError(
                f"the table {wanted.table} is of an Emperor that runs", reason=f"it has {path}"
            ) from None
        return lock


def _nft(script: str) -> None:
    words = ["nft", "-f", "-"]
    try:
        done = subprocess.run(words, input=script.encode(), capture_output=True, check=False)
    except OSError as error:
        raise DonjonError(
            "cannot run nft",
            reason=reason_of(error),
            hint="network = tap needs the package nftables",
        ) from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = said[0] if said else f"status {done.returncode}"
        raise DonjonError("nft refuses the host's table of network = tap", reason=reason)


def _switch_on(wanted: Nat) -> None:
    """Note what the switches were, on disk before they are changed, and turn them on; those that
    the last table needed and this one does not are what they were."""
    known = _recorded(wanted.record)
    for path in known.keys() - set(wanted.switches):
        with contextlib.suppress(FileNotFoundError):  # a switch of a device that is gone
            _write(path, known[path])
    new = {path: _read(path) for path in wanted.switches if path not in known}
    found = {**{path: known[path] for path in wanted.switches if path in known}, **new}
    if found != known or not os.path.exists(wanted.record):
        _record(wanted.record, found)
    for path in wanted.switches:
        _write(path, "1")


def _switch_back(wanted: Nat) -> None:
    for path, value in _recorded(wanted.record).items():
        with contextlib.suppress(FileNotFoundError):  # a switch of the device, which is gone
            _write(path, value)
    with contextlib.suppress(FileNotFoundError):  # nothing was ever changed
        os.unlink(wanted.record)


def _recorded(path: str) -> dict[str, str]:
    """Return what was noted; a note that is damaged says nothing."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        str(name): str(value)
        for name, value in found.items()
        if str(name).startswith("/proc/sys/net/")
    }


def _record(path: str, values: dict[str, str]) -> None:
    try:
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(values, file)
        os.rename(f"{path}.new", path)
    except OSError as error:
        raise DonjonError(f"cannot write {path}", reason=reason_of(error)) from error


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        raise DonjonError(f"cannot read {path}", reason=reason_of(error)) from error


def _write(path: str, value: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(value)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DonjonError(f"cannot write {path}", reason=reason_of(error)) from error
