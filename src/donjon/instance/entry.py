"""The two ways into an instance: from a command line, and as a vassal that was forked.

What fails before the instance is ready goes to the Emperor as one line on ``error_fd``. A new
Launch comes over ``launch_fd`` before the byte that asks for a reload. The pickle is the
Emperor's: it travels from the more trusted to the less trusted process only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import select
import struct
import sys
from typing import NoReturn

from donjon import log
from donjon.config.spec import EmperorSpec, Launch
from donjon.emperor import loop
from donjon.emperor.birth import Birth
from donjon.errors import ConfigError, DonjonError
from donjon.instance.fallback import EMPEROR_FD
from donjon.instance.startup import EmperorMain, ReadAgain, start

_LENGTH = struct.Struct("<I")
_ERROR_LIMIT = 4096  # bytes: what a pipe takes in one piece, PIPE_BUF of pipe(7)
_ENOUGH = {
    errno.ENOMEM: "raise limit-as, or the memory of its cgroup",
    errno.EAGAIN: "raise limit-nproc, or the processes of its cgroup",
    errno.EMFILE: "raise max-fd",
    errno.ENFILE: "raise fs.file-max of the host",
    errno.ENOSPC: "a file system, or a limit of the kernel's, is full",
}
"""What to do about errors of a start that are nobody's mistake but a limit's."""


def run(
    launch: Launch,
    *,
    birth: Birth | None = None,
    reread: ReadAgain | None = None,
    emperor_main: EmperorMain | None = None,
) -> int:
    """Carry out a Launch; see ``startup.start``.

    Without ``emperor_main`` an Emperor is one of our own: its vassals are instances too, and if it
    is a vassal itself, the environment names its control socket.
    """

    def be_emperor(spec: EmperorSpec) -> int:
        upper = os.environ.get(EMPEROR_FD, "")
        link = int(upper) if upper.isdecimal() else None
        argv0 = [sys.argv[0]]
        return loop.run(
            spec, entry=vassal_main, hooks=launch.hooks, argv0=argv0, emperor_link=link
        )

    chosen = emperor_main or be_emperor
    return start(launch, emperor_main=chosen, birth=birth, reread=reread)


def vassal_main(birth: Birth) -> NoReturn:
    """Be the vassal; never returns, whatever happens: nothing of the spawner's goes on here."""
    status = 1
    try:
        status = run(birth.launch, birth=birth, reread=_Latest(birth))
    except SystemExit as leaving:
        status = _status_of(leaving)
    except DonjonError as error:
        _report(birth, str(error))
        status = error.exit_status
    except BaseException as error:
        if (shortage := _shortage(error)) is not None:
            _report(birth, str(shortage))
        else:
            _report(birth, f"internal error: {type(error).__name__}: {error}")
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        with contextlib.suppress(OSError, ValueError):  # output that nobody reads
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _shortage(error: BaseException) -> DonjonError | None:
    """Return the error for something that the host, or a limit, does not give; else None."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError):
        number = errno.ENOMEM
    hint = _ENOUGH.get(number or 0)
    if hint is None or number is None:
        return None
    return DonjonError("cannot start", reason=os.strerror(number), hint=hint)


def _status_of(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    return leaving.code if isinstance(leaving.code, int) else 1


def _report(birth: Birth, text: str) -> None:
    """Say the reason in the vassal's log, and to the Emperor while it still listens."""
    log.write(f"donjon: {text}")
    line = " ".join(text.split("\n")).encode("utf-8", "backslashreplace")
    with contextlib.suppress(OSError):  # closed since the instance is ready
        os.write(birth.error_fd, line[: _ERROR_LIMIT - 1] + b"\n")


class _Latest:
    """The configuration for a reload: the last one that the Emperor sent, else that of the start.

    A reload need not be the Emperor's wish (SIGHUP, ``uwsgi.reload()``, a touched file): nothing
    was sent for it then, and nothing may be waited for.
    """

    def __init__(self, birth: Birth) -> None:
        self._launch = birth.launch
        self._number = birth.launch_fd

    def __call__(self) -> Launch:
        while select.select([self._number], [], [], 0)[0]:
            self._launch = _receive(self._number)
        return self._launch


def _receive(number: int) -> Launch:
    """Read the Launch that the Emperor sent before it asked for a reload."""
    (length,) = _LENGTH.unpack(_read(number, _LENGTH.size))
    launch = pickle.loads(_read(number, length))
    if not isinstance(launch, Launch):
        raise ConfigError("the Emperor sent something that is no configuration")
    return launch


def _read(number: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = os.read(number, count - len(data))
        if not more:
            raise ConfigError("the Emperor sent no configuration", reason="end of its channel")
        data += more
    return data
