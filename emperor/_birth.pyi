"""The loop of a zygote, and plain births from it, without an interpreter.

``serve`` carries out plain orders (``donjon.emperor.flat``) and returns in three kinds of process:

- in the zygote, with what it does not do itself: PACKET_CAME (the packet and its descriptors,
  the caller's now; an empty one: the Emperor is gone), PROCESS_ENDED (its pidfd) or NOTES_FULL
  (``take_notes()`` makes room);
- in a newborn that could not do an act: STOPPED; ``resume()`` says where to go on;
- in worker 1 of a newborn (WORKER), or in its master once something happened (MASTER). Signals are
  blocked in the master then.
"""

STOPPED: int
WORKER: int
MASTER: int
PACKET_CAME: int
PROCESS_ENDED: int
NOTES_FULL: int

def serve(link: int, epoll: int, /) -> tuple[int, bytes, list[int]]:
    """Carry out orders from ``link`` and reap by ``epoll``; (what came, packet, descriptors).

    Both stay open and are watched by ``epoll``. Raises OSError.
    """

def alive() -> list[int]:
    """Pidfds of the processes that were born here and did not end; lent."""

def take_notes() -> bytes:
    """Packets for the janitor, each after its length of 4 bytes; they are forgotten here."""

def resume() -> int:
    """Where an interpreter goes on after STOPPED: see ``donjon.emperor.birth.Begun``."""

def record() -> bytes:
    """The whole order, pickled by the Emperor."""

def told() -> bytes:
    """What worker 1 is told: see ``donjon.emperor.flat``."""

def listeners() -> list[tuple[int, int, int]]:
    """(descriptor, device, inode) of each open listener."""

def board() -> memoryview:
    """The counters that master and workers share; the memory is mapped until the process ends."""

def channel() -> tuple[int, int]:
    """(reader, writer) of the line from the workers to the master."""

def workers() -> list[tuple[int, int, int, bool, bool, float]]:
    """(slot, pid, pidfd, accepting, once, born) of each worker, ``born`` of CLOCK_MONOTONIC."""

def woken() -> tuple[bool, bool, bytes, bytes, int]:
    """(loaded, serving, environment, packet, signals) of a master; a bit for each signal."""
