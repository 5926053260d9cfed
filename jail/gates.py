# ruff: noqa: D102, ARG002  (what describe and execute are is said by Step)
"""Gates: start-up waits until something is there, with a time limit.

An interface is awaited by the kernel's own news (``netns.links``). The others have no news that
crosses mount points, so they are looked at, soon at first and then more rarely; by a child, since
a look at a file system whose server hangs does not return.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable

from donjon.errors import JailError
from donjon.jail import bounded
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass

_FIRST, _LONGEST = 0.005, 0.25  # seconds between two looks
_THERE = "there"
_SLACK = 1.0  # seconds that a last look may take


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
        from donjon.netns import links  # noqa: PLC0415  (slow, and most jails never need it)

        found = links.wait_for(target, timeout)
    else:
        condition = CONDITIONS[kind]
        told = bounded.ask(
            lambda: str(_look(lambda: condition(target), timeout)), timeout + _SLACK
        )
        found = told == "True"
    if not found:
        raise JailError(
            f"waited for the {TITLES.get(kind, kind)} {target}",
            reason=f"it is not there after {timeout:g} seconds",
        )


def _tell(kind: str, target: str, timeout: float) -> str:
    condition = CONDITIONS[kind]
    return _THERE if _look(lambda: condition(target), timeout) else ""


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
