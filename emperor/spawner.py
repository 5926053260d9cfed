"""The zygote: the process from which every vassal is cloned.

It is forked before any vassal's configuration is read, has one thread, and holds nothing but its
socket pair: no secret of any customer, no descriptor. What it imported and collected is frozen
(gc.freeze), so that its pages stay shared with all vassals. One order comes in, one clone3(2) with
CLONE_PARENT follows: the child is the Emperor's own, which alone reaps it, and pid and pidfd go
back as the answer.

When the Emperor dies, be it by SIGKILL, the pair reports end of file, and the spawner turns into
the janitor (``janitor``) before it exits.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from donjon import log, syscalls
from donjon.emperor import _arenas, _birth, begun, direct, evaluator, flat, mercy, orders, packing
from donjon.emperor.janitor import Janitor
from donjon.emperor.newborn import Entry, change_environment, live
from donjon.emperor.orders import Adopted, Answer, Leftover, Made, Order
from donjon.emperor.prepare import vassal_environment
from donjon.errors import DonjonError, reason_of
from donjon.fd import Fd
from donjon.jail import lending, mountmaps, plan, template, zygote
from donjon.records import replace

QUIET_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Aimed at the Emperor by a terminal or an init system; the spawner ends when its Emperor does."""

NAME = "donjon"
"""What ps and top call a vassal until its program says otherwise."""

LINK_FD = 3
"""Where a zygote holds its end of the pair."""

FRESH = (
    "from donjon.emperor import _arenas; _arenas.gather(); "
    "from donjon.emperor.spawner import main; main()"
)
"""What is executed: its objects are gathered as those of the Emperor's start are (``verbs``)."""

OUT_OF_THE_WAY = 60
"""Descriptors of the spawner's own that newborns inherit lie from here on."""

OWN_NETWORK = "/proc/self/ns/net"

FINAL_PATIENCE = 5.0
"""Seconds that a buried Emperor waits for its spawner."""


class Spawner:
    """The Emperor's side: sends orders, receives answers."""

    def __init__(self, link: socket.socket, pid: int, pidfd: int) -> None:
        self.link = link
        self.pid = pid
        self.pidfd = pidfd

    @classmethod
    def start(cls, entry: Entry, *, preload: Sequence[str] = ()) -> Spawner:
        """Fork the zygote. ``entry`` is what a forked vassal runs; ``preload`` modules it
        imports."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        emperor_pid = os.getpid()
        pid, pidfd = _clone()
        if pid == 0:
            _become_zygote(far, entry, preload, emperor_pid)
            os._exit(0)
        far.close()
        return cls(near, pid, pidfd)

    @classmethod
    def start_afresh(cls, entry: Entry, *, preload: Sequence[str] = ()) -> Spawner:
        """Execute a zygote, for an Emperor that has read configurations since its first one.

        It shares nothing with the Emperor's memory. Raises DonjonError if ``entry`` cannot be
        imported by name.
        """
        module = sys.modules.get(entry.__module__)
        if getattr(module, entry.__qualname__, None) is not entry or module is None:
            raise DonjonError(f"{entry.__qualname__} cannot be imported by another process")
        words = [
            entry.__module__,
            entry.__qualname__,
            json.dumps([sys.path, sys.argv, list(preload)]),
        ]
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        emperor_pid = os.getpid()
        pid, pidfd = _clone()
        if pid == 0:
            mercy.as_before()
            os.dup2(far.fileno(), LINK_FD)
            command = [sys.executable, "-P", "-c", FRESH, str(emperor_pid), *words]
            os.execv(command[0], command)
        far.close()
        return cls(near, pid, pidfd)

    def send(self, message: Order | Leftover | Made | Adopted, fds: tuple[int, ...] = ()) -> None:
        """Send an order. Never waits long: the caller keeps few orders under way."""
        packet = flat.write(message) if isinstance(message, Order) else None
        if packet is None:
            orders.send(self.link, message, fds)
        else:
            self._note_groups(message)
            orders.send_packet(self.link, packet, fds)

    def _note_groups(self, message: Order | Leftover | Made | Adopted) -> None:
        """Tell the janitor of the groups of a plain order, which is carried out unread."""
        if isinstance(message, Order) and (message.cgroups or message.parents):
            orders.send(self.link, Made(cgroups=message.cgroups, parents=message.parents))

    def receive(self) -> Answer | None:
        """Return the next answer (its pidfd is the caller's now), or None when the spawner
        died."""
        packet = orders.receive(self.link)
        if packet is None:
            return None
        answer, fds = packet
        if not isinstance(answer, Answer):
            raise TypeError("the spawner answered with something else")
        if not fds:
            return answer
        return Answer(number=answer.number, pid=answer.pid, error=answer.error, pidfd=fds[0])

    def close(self) -> None:
        """Let the spawner go and wait until it is gone; a second time does nothing."""
        if self.pidfd < 0:
            return
        self.link.close()
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        if not poller.poll(FINAL_PATIENCE * 1000):
            syscalls.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)
        self.pidfd = -1


def _clone() -> tuple[int, int]:
    """Make the process of a spawner. Raises DonjonError."""
    try:
        return syscalls.clone3(syscalls.CLONE_PIDFD)
    except OSError as error:
        raise DonjonError(
            "cannot start the spawner, from which vassals are born",
            reason=f"clone3: {reason_of(error)}",
            hint="donjon doctor tells what this host allows",
        ) from error


def _become_zygote(
    link: socket.socket, entry: Entry, preload: Sequence[str], emperor_pid: int
) -> None:
    """Shed what was inherited, import what is wanted, freeze, serve until the Emperor is gone."""
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN, None):
                signal.signal(number, signal.SIG_DFL)
        for number in QUIET_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        os.setpgid(0, 0)  # a terminal's ^C is for the Emperor, which then tells everyone
        syscalls.set_name("donjon spawner")
        fd = link.detach()
        if fd != LINK_FD:  # dup3(2) refuses the same number
            fd = os.dup2(fd, LINK_FD, inheritable=False)
        fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        syscalls.close_range(LINK_FD + 1, 0xFFFFFFFF, 0)
        link = socket.socket(fileno=fd)
        change_environment(vassal_environment(os.environ))  # once, for all
        from donjon.emperor import provisions  # noqa: PLC0415  (its Emperor does without)

        provisions.provide()
        plan.warm()
        _preload(preload)
        _hold_template()
        provisions.rehearsal.rehearse()
        zygote_loop = Zygote(link, entry, emperor_pid)
        gc.collect()
        packing.fill_holes()
        _arenas.settle()
        gc.freeze()
        zygote_loop.serve()
    except BaseException as error:
        log.write(f"[spawner] died: {type(error).__name__}: {error}")
        os._exit(1)


def _return_to(home: Fd) -> None:
    try:
        syscalls.setns(home.fileno(), syscalls.CLONE_NEWNET)
    except OSError as error:
        raise RuntimeError(f"cannot return to the host's network: {error.strerror}") from error


def main() -> NoReturn:
    """Be a zygote that was executed: its arguments are those of ``start_afresh``."""
    emperor_pid, module, name, words = sys.argv[1:]
    sys.path[:], sys.argv[:], preload = json.loads(words)
    entry = getattr(importlib.import_module(module), name)
    _become_zygote(socket.socket(fileno=LINK_FD), entry, preload, int(emperor_pid))
    os._exit(0)


def _hold_template() -> None:
    """Make the template of host roots, at a number that no newborn needs for something else."""
    zygote.prepare()
    held = template.lend()
    if held is not None:
        number = fcntl.fcntl(held.number, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)
        template.keep(replace(held, number=number))


def _preload(names: Sequence[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            log.write(f"[spawner] cannot preload {name}: {error}")


class Zygote:
    """The spawner's own loop."""

    def __init__(self, link: socket.socket, entry: Entry, emperor_pid: int) -> None:
        self.link = link
        self.entry = entry
        self.emperor_pid = emperor_pid
        self.janitor = Janitor()
        self.poller = select.epoll()
        self.poller.register(link.fileno(), select.EPOLLIN)

    def serve(self) -> None:
        """Carry out orders until the Emperor is gone, then clean up."""
        while True:
            held = (*template.descriptors(), -1)[0]
            what, packet, fds = _birth.serve(self.link.fileno(), self.poller.fileno(), held)
            if what == _birth.PROCESS_ENDED:
                self.poller.unregister(fds[0])
                self.janitor.gone(fds[0])
            elif what == _birth.TEMPLATE_WANTED:
                zygote.refresh()
            elif what == _birth.NOTES_FULL:
                self._read_notes()
            elif what != _birth.PACKET_CAME:
                begun.go_on(what, self.entry)
            elif packet:
                self._obey(packet, fds)
            else:
                self.link.close()
                self._read_notes()
                self.janitor.clean(_birth.alive())
                return

    def _obey(self, packet: bytes, fds: list[int]) -> None:
        message = orders.decode(packet, fds)
        try:
            if isinstance(message, Adopted):
                self._keep(fds.pop(), message)
            elif isinstance(message, Order):
                self._bear(message, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _read_notes(self) -> None:
        for message in orders.notes(_birth.take_notes()):
            self.janitor.note(message)

    def _bear(self, order: Order, fds: list[int]) -> None:
        flags = syscalls.CLONE_PARENT | syscalls.CLONE_PIDFD | order.clone_flags
        cgroup = fds[order.roles.index("cgroup")] if "cgroup" in order.roles else -1
        if order.birth is not None and order.birth.launch.jail.rootfs == "host":
            zygote.refresh()
        try:
            if order.birth is not None and order.clone_flags & syscalls.CLONE_NEWUSER:
                lending.lend(order.birth.launch.jail)
            played = direct.bear(order, fds, self.entry)
            pid, pidfd = played or self._clone(order, fds, flags, cgroup)
        except (OSError, DonjonError) as error:
            mountmaps.forget()
            reason = f"cannot clone: {error.strerror}" if isinstance(error, OSError) else error
            orders.send(self.link, Answer(number=order.number, error=str(reason)))
            return
        if pid == 0:
            self._leave_nest()
            if order.evaluate is not None:
                evaluator.work(order, fds)
            live(order, fds, self.entry)
        mountmaps.forget()
        orders.send(self.link, Answer(number=order.number, pid=pid), (pidfd,))
        self._keep(pidfd, order)

    def _clone(self, order: Order, fds: list[int], flags: int, cgroup: int) -> tuple[int, int]:
        """Clone a vassal, in the network namespace that was made for it if there is one.

        We are there for that moment alone: a vassal in a user namespace of its own has no right
        to enter. Who cannot come back must not bear anybody else there.
        """
        if "network" not in order.roles:
            return syscalls.clone3(flags, exit_signal=0, cgroup=cgroup)
        with Fd(os.open(OWN_NETWORK, os.O_RDONLY | os.O_CLOEXEC)) as home:
            syscalls.setns(fds[order.roles.index("network")], syscalls.CLONE_NEWNET)
            pid = -1
            try:
                pid, pidfd = syscalls.clone3(flags, exit_signal=0, cgroup=cgroup)
            finally:
                if pid != 0:
                    _return_to(home)
        return pid, pidfd

    def _keep(self, pidfd: int, order: Order | Adopted) -> None:
        self.janitor.born(pidfd, order)
        self.poller.register(pidfd, select.EPOLLIN)

    @staticmethod
    def _leave_nest() -> None:
        """Signals are as a program expects them, and the name is not the spawner's; descriptors
        are closed by whoever arranges them."""
        syscalls.set_name(NAME)
        for number in QUIET_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
