# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""Gates: start-up waits until something is there, with a time limit.

An interface is awaited by the kernel's own news (rtnetlink(7)); /sys/class/net is not asked,
because it shows the network namespace in which it was mounted. The others have no news that
crosses mount points, so they are looked at, soon at first and then more rarely.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import time
from collections.abc import Callable

from donjon.errors import JailError
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

_RTMGRP_LINK = 1  # linux/rtnetlink.h
_FIRST, _LONGEST = 0.005, 0.25  # seconds between two looks


def _is_mountpoint(path: str) -> bool:
    """Whether something is mounted on ``path``; a bind of the same file system counts too."""
    if not os.path.isdir(path):
        return False
    real = os.path.realpath(path)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return any(_unescape(line.split(" ", 5)[4]) == real for line in table)


def _unescape(field: str) -> str:
    r"""Undo ``\040`` and its kin of proc(5)."""
    if "\\" not in field:
        return field
    for code in ("040", "011", "012", "134"):
        field = field.replace("\\" + code, chr(int(code, 8)))
    return field


def _accepts(address: str) -> bool:
    """Whether a connection to ``address`` (a path, ``@name`` or ``host:port``) is taken."""
    host, colon, port = address.rpartition(":")
    try:
        if colon and not address.startswith(("/", "@")):
            with socket.create_connection((host or "127.0.0.1", int(port)), timeout=1):
                return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.connect("\0" + address[1:] if address.startswith("@") else address)
            return True
    except (OSError, ValueError):
        return False


CONDITIONS: dict[str, Callable[[str], bool]] = {
    "fs": os.path.exists,
    "file": lambda path: os.path.exists(path) and not stat.S_ISDIR(os.stat(path).st_mode),
    "dir": os.path.isdir,
    "mountpoint": _is_mountpoint,
    "socket": _accepts,
}
"""What a kind of gate waits for. ``file`` and ``dir`` mean what they say (WFR-02)."""

TITLES = {"fs": "file or directory", "dir": "directory", "mountpoint": "mount point"}


def wait_for(kind: str, target: str, timeout: float) -> None:
    """Return when ``target`` is there. Raises JailError after ``timeout`` seconds. Blocks."""
    if kind == "interface":
        found = _wait_for_interface(target, timeout)
    else:
        found = _look(lambda: CONDITIONS[kind](target), timeout)
    if not found:
        raise JailError(
            f"waited for the {TITLES.get(kind, kind)} {target}",
            reason=f"it is not there after {timeout:g} seconds",
        )


def _look(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    pause = _FIRST
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST)
    return True


def _has_interface(name: str) -> bool:
    try:
        return socket.if_nametoindex(name) > 0
    except OSError:
        return False


def _wait_for_interface(name: str, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    ) as news:
        news.bind((0, _RTMGRP_LINK))  # before the first look, so that nothing is missed
        while not _has_interface(name):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if select.select([news], [], [], left)[0]:
                _drain(news)
    return True


def _drain(news: socket.socket) -> None:
    """Forget what was said: the interface is looked up instead. Too much news is ENOBUFS."""
    try:
        while news.recv(65536):
            pass
    except OSError:
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate(Builtin):
    """``wait-for-KIND = TARGET``."""

    kind: str
    target: str
    timeout: int

    def describe(self) -> str:
        what = TITLES.get(self.kind, self.kind)
        return f"wait for the {what} {self.target}, {self.timeout} seconds at most"

    def execute(self, context: Context) -> None:
        wait_for(self.kind, self.target, self.timeout)
