"""What a master asks of a child: which workers to be, with which configuration and sockets."""

from __future__ import annotations

import contextlib
import os
import select
import signal

from donjon import syscalls
from donjon.records import dataclass
from donjon.server.board import Board
from donjon.server.channel import Channel, Message, Word
from donjon.server.link import ToEmperor
from donjon.server.phases import Phases
from donjon.server.sockets import Bound, Sockets
from donjon.server.spec import ServerSpec

GO_AHEAD = 0.25
"""Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the master asks of a child: the workers of ``slots``, the first by the child itself.

    ``before`` is the configuration that a reload replaces. ``adopt`` is what the first worker of
    this generation made of the environment, for one that comes later. ``must`` lets the child end
    where the application cannot be loaded instead of serving an error page. ``pty_line`` is where
    worker 1 gives its terminal, -1 for none; with ``shell`` it is an interpreter to type into.
    """

    number: int
    spec: ServerSpec
    phases: Phases
    sockets: Sockets
    served: tuple[Bound, ...]
    board: Board
    channel: Channel | None
    master: int
    slots: tuple[int, ...]
    bank: int = 0
    before: ServerSpec | None = None
    adopt: bytes | None = None
    once: frozenset[int] = frozenset()  # slots in which the hooks that run once did so
    must: bool = False
    emperor_fd: int = -1
    go_fd: int = -1  # readable when the master has done its part after LOADED
    die_with_parent: bool = False
    pty_line: int = -1
    shell: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this is the first child of its generation, not a replacement."""
        return self.adopt is None

    @property
    def loads_late(self) -> bool:
        """Whether each worker loads the application for itself."""
        return self.spec.lazy_apps or self.spec.master_as_root

    def bind_to_parent(self) -> None:
        """Die with the master where that was asked for, even if it died meanwhile."""
        if not self.die_with_parent or self.master == os.getpid():
            return
        syscalls.set_pdeathsig(signal.SIGKILL)
        if os.getppid() != self.master:
            raise SystemExit(1)

    def say(self, word: Word, *, slot: int = 0, pid: int = 0, payload: bytes = b"") -> None:
        """Tell the master; without one there is nobody to tell."""
        if self.channel is not None:
            slot, pid = slot or self.slots[0], pid or os.getpid()
            self.channel.send(Message(word, self.number, slot, pid, payload))

    def wait_for_go(self) -> None:
        """Let the master be ready, and its hook be done, before workers accept.

        Not for longer than GO_AHEAD: a hook of the master may itself wait for an answer of ours.
        """
        if self.go_fd >= 0:
            select.select([self.go_fd], [], [], GO_AHEAD)
            os.close(self.go_fd)  # workers have no use for it

    def tell_emperor(self, byte: ToEmperor) -> None:
        """Send one byte to the Emperor, if there is one."""
        if self.emperor_fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self.emperor_fd, bytes([byte]))
