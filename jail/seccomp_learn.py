# ruff: noqa: D102  (what describe and execute are is said by Step)
"""``seccomp = learn``: which system calls a jail makes, and the profile that would be enough.

Every call but those of the group ``basic`` is reported to a process beside the jail's own
(seccomp_unotify(2)), which notes each kind once in a file and lets it go on. Nothing is refused,
and each reported call costs two switches between processes: it is for a day of a test, not for
keeping. When the recorder is killed, reported calls fail with ENOSYS.

The file has a line for each kind: the call and its group, which may follow from its arguments.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
from collections.abc import Iterable, Mapping
from typing import NoReturn

from donjon import syscalls
from donjon.errors import JailError
from donjon.jail.seccomp_groups import GROUPS, NUMBERS, Level, When
from donjon.jail.seccomp_profile import Profile
from donjon.jail.step import Builtin, Context
from donjon.records import dataclass, field

PLACE = "/run/donjon/seccomp"
"""Where records lie for which no file was named."""

_RECORD = "seccomp-record"
_SERVER_NEEDS = frozenset({"basic", "files", "process", "events", "limits", "network"})
"""What the server itself needs at moments that a day of learning may not have seen."""

_LINK, _OUTPUT = 0, 1  # descriptors of a recorder

_BELONGS: dict[str, str] = {call: group.name for group in GROUPS.values() for call in group.calls}
_WHEN: dict[str, list[tuple[str, When]]] = {}
for _group in GROUPS.values():
    for _when in _group.when:
        _WHEN.setdefault(_when.call, []).append((_group.name, _when))


def path_of(record: str | None, name: str) -> str:
    """Return the file of the vassal ``name``'s record."""
    return record or os.path.join(PLACE, name.replace("/", "%2F") or "instance")


def group_of(call: str, args: tuple[int, ...]) -> str:
    """Return the group that a call with these arguments belongs to."""
    for group, when in _WHEN.get(call, ()):
        if all(test.holds(args) for test in when.tests):
            return group
    return _BELONGS.get(call, "basic" if call in _WHEN else "unknown")


def propose(lines: Iterable[str]) -> Profile:
    """Return the narrowest profile that lets through what a record's ``lines`` name."""
    used = {line.split()[1] for line in lines if len(line.split()) == 2} & GROUPS.keys()
    more = {name for name in used if GROUPS[name].level > Level.STRICT}
    spare = {name for name, group in GROUPS.items() if group.level is Level.STRICT}
    return Profile("strict", frozenset(more), frozenset(spare - used - _SERVER_NEEDS))


def program() -> tuple[bytes, dict[int, str]]:
    """Return the program that reports calls, and the names of their numbers. Raises JailError."""
    from donjon.jail import libseccomp  # noqa: PLC0415  (ctypes is for who makes plans alone)

    rules = []
    names: dict[int, str] = {}
    for call in {*_BELONGS, *_WHEN, *NUMBERS}:
        number = libseccomp.number_of(call)
        if number is None:
            continue
        names[number] = call
        group = GROUPS.get(_BELONGS.get(call, ""))
        if group is not None and (group.error == errno.ENOSYS or call in group.absent):
            # a program that has another way must show it
            rules.append(libseccomp.Rule(number, syscalls.SECCOMP_RET_ERRNO | errno.ENOSYS))
        elif group is not None and group.name == "basic":
            rules.append(libseccomp.Rule(number, syscalls.SECCOMP_RET_ALLOW))
    rules.sort(key=lambda rule: rule.number)
    return libseccomp.compile_rules(syscalls.SECCOMP_RET_USER_NOTIF, rules), names


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRecord(Builtin):
    """Open the record while the host's files are in sight."""

    record: str | None

    def describe(self) -> str:
        return f"open {self.record or PLACE + '/NAME'}, a record of system calls"

    def execute(self, context: Context) -> None:
        path = path_of(self.record, context.name)
        if self.record is None:
            os.makedirs(PLACE, 0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        context.descriptors[_RECORD] = os.open(path, flags, 0o600)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCalls(Builtin):
    """Start a recorder and have every call reported to it."""

    code: bytes = field(repr=False)
    names: Mapping[int, str] = field(repr=False)

    def describe(self) -> str:
        return "record system calls, refusing none"

    def execute(self, context: Context) -> None:
        output = context.descriptors.pop(_RECORD)
        near, far = socket.socketpair()
        with near, far:
            if os.fork() == 0:
                _be_recorder(far.fileno(), output, self.names)
            os.close(output)
            far.close()
            # from here to the sending only calls of the group basic may happen
            flags = syscalls.SECCOMP_FILTER_FLAG_TSYNC | syscalls.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
            flags |= syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER
            listener = syscalls.seccomp_filter(self.code, flags)
            socket.send_fds(near, [b"l"], [listener])
            os.close(listener)
            if near.recvmsg(1)[0] != b"r":
                raise JailError("system calls cannot be recorded", reason="the recorder ended")


def _be_recorder(link: int, output: int, names: Mapping[int, str]) -> NoReturn:
    """Record until no process is left that the listener reports."""
    with contextlib.suppress(BaseException):  # its end is all that it can say
        os.setsid()  # a signal for the jail's group is not for it
        syscalls.set_name("donjon recorder")
        held = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10) for number in (link, output)]
        os.dup2(held[0], _LINK)
        os.dup2(held[1], _OUTPUT)
        syscalls.close_range(_OUTPUT + 1, 0xFFFFFFFF, 0)
        with socket.socket(fileno=_LINK) as near:
            listener = socket.recv_fds(near, 1, 1)[1][0]
            near.sendall(b"r")
        record(listener, _OUTPUT, names)
    os._exit(0)


def record(listener: int, output: int, names: Mapping[int, str]) -> None:
    """Write a line for each kind of call that ``listener`` reports, until it hangs up."""
    seen: set[str] = set()
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    while True:
        for _, events in poller.poll():
            if not events & select.POLLIN:
                return
            try:
                number, _, call, _, args = syscalls.seccomp_notif_recv(listener)
            except FileNotFoundError:
                continue  # the caller died meanwhile
            name = names.get(call, str(call))
            line = f"{name} {group_of(name, args)}\n"
            if line not in seen:
                seen.add(line)
                os.write(output, line.encode())
            with contextlib.suppress(FileNotFoundError):  # as above
                syscalls.seccomp_notif_continue(listener, number)
