"""Jails for tests: a child goes through a whole plan and tells what it then sees."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from donjon import syscalls
from donjon.errors import DonjonError
from donjon.jail import namespaces, plan, userns, users
from donjon.jail.phase import Phase
from donjon.jail.spec import JailSpec
from donjon.jail.step import Context, Step
from donjon.origin import DEFAULT, Origin

ALL = tuple(Phase)
FIVE = frozenset({"fs", "ipc", "pid", "uts", "net"})
NEW_CALLS = (
    "open_tree", "move_mount", "mount_setattr", "fsopen", "fsconfig", "fsmount", "openat2",
)  # fmt: skip
"""What kernels do not have that mount by path only."""

SWAPPER = """
import ctypes, sys
libc = ctypes.CDLL(None)
a, b = (name.encode() for name in sys.argv[1:])
print("ready", flush=True)
while True:
    libc.renameat2(-100, a, -100, b, 2)
"""


@contextlib.contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Have somebody exchange two names all the time."""
    arguments = [sys.executable, "-c", SWAPPER, str(one), str(other)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as swapper:
        try:
            assert swapper.stdout is not None
            swapper.stdout.readline()
            yield
        finally:
            swapper.kill()


@dataclass(frozen=True, slots=True)
class Note:
    """A hook of a test: calls ``action`` with the context."""

    phase: Phase
    action: Callable[[Context], None]
    origin: Origin = DEFAULT
    text: str = "note"

    def describe(self) -> str:
        return self.text

    def execute(self, context: Context) -> None:
        self.action(context)


@dataclass(frozen=True, slots=True)
class Told:
    """What came back from a jail: a value, or the line of an error, and the exit status."""

    value: Any = None
    error: str = ""
    status: int = 0


@dataclass(slots=True)
class Jailer:
    """Runs plans in children."""

    def __call__(
        self,
        spec: JailSpec,
        look: Callable[[], Any] = lambda: None,
        *,
        born_in: frozenset[str] = frozenset(),
        hooks: Sequence[Step] = (),
        inject: tuple[Any, ...] | None = None,
    ) -> Any:
        """Return what ``look`` returns inside. Fails the test if the jail could not be made."""
        told = self.tell(spec, look, born_in=born_in, hooks=hooks, inject=inject)
        assert not told.error, told.error
        return told.value

    def tell(
        self,
        spec: JailSpec,
        look: Callable[[], Any] = lambda: None,
        *,
        born_in: frozenset[str] = frozenset(),
        hooks: Sequence[Step] = (),
        inject: tuple[Any, ...] | None = None,
    ) -> Told:
        made = plan.build(spec, hooks, born_in=born_in, root=True)
        reader, writer = os.pipe()
        go_read, go_write = os.pipe()
        pid, pidfd = syscalls.clone3(namespaces.clone_flags(born_in))
        if pid == 0:
            os.close(reader)
            os.close(go_write)
            os.read(go_read, 1)
            os.close(go_read)
            os._exit(_live(made, look, writer, inject, born_in))
        os.close(writer)
        os.close(go_read)
        if "user" in born_in:
            userns.write_id_map(pid, userns.map_of(spec, users.resolve(spec)))
        os.write(go_write, b"g")
        os.close(go_write)
        with os.fdopen(reader, "rb") as pipe:
            data = pipe.read()
        status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status
        os.close(pidfd)
        if not data:
            return Told(status=status)
        value, error = pickle.loads(data)
        return Told(value, error, status)


def _live(made, look, writer, inject, born_in) -> int:
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if inject:
            syscalls.inject(*inject)
        context = Context(born_in=born_in)
        made.run(context, ALL)
        answer = (look(), "")
        status = 0
    except DonjonError as error:
        answer, status = (None, str(error)), 1
    except BaseException:
        answer, status = (None, traceback.format_exc()), 2
    os.write(writer, pickle.dumps(answer))
    os.close(writer)
    return status


def status_of(name: str, pid: str = "self") -> str:
    """Return a field of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return line.partition(":")[2].strip()
    raise LookupError(name)
