"""The loop of a zygote, and plain births from it, without an interpreter.

``serve`` carries out plain orders (``donjon.emperor.flat``) and returns in three kinds of process:

- in the zygote, with what it does not do itself: PACKET_CAME (the packet and its descriptors,
  the caller's now; an empty one: the Emperor is gone), PROCESS_ENDED (its pidfd), NOTES_FULL
  (``take_notes()`` makes room) or TEMPLATE_WANTED (an order waits for a new look at the host's
  files, and is carried out by the next call);
- in a newborn that could not do an act: STOPPED; ``resume()`` says where to go on;
- in a process beside a newborn (BUILDER), which shares its root and descriptors and is to put its
  jail together;
- in worker 1 of a newborn (WORKER), or in its master once something happened (MASTER). Signals are
  blocked in the master then.
"""

STOPPED: int
WORKER: int
MASTER: int
PACKET_CAME: int
PROCESS_ENDED: int
NOTES_FULL: int
TEMPLATE_WANTED: int
BUILDER: int

def serve(link: int, epoll: int, template: int, /) -> tuple[int, bytes, list[int]]:
    """Carry out orders from ``link`` and reap by ``epoll``; (what came, packet, descriptors).

    Both stay open and are watched by ``epoll``. ``template`` is the descriptor of the template of
    host roots, -1 for none. Raises OSError.
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
