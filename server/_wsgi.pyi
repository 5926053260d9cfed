"""The C worker: accepts, parses, calls the application, answers.

A worker serves from listening sockets that others opened, in a process that was forked for it. One
thread is one core: each calls ``serve`` with its number. Nothing here reads configuration, changes
identity, forks or decides when to end; the master does, through ``stop`` and the shared counters.

**Counters.** ``stats`` is memory shared with the master, ``CORE_SIZE`` (128) bytes a core: native
unsigned 64-bit integers, written by that core only.

===== =================== ======================================================================
index name                meaning
===== =================== ======================================================================
0     requests            answered, also those that ended with an exception
1     exceptions          raised by the application
2     tx                  bytes of answers, heads included
3     running_time        µs from a request's arrival to its last byte handed to the kernel, summed
4     avg_rt              µs, moving average of the same
5     in_request          µs of CLOCK_MONOTONIC since which a request runs; 0 when none does
6     accepting           1 while new connections are taken
7     last_request        µs since the epoch at which the last request began
8     read_errors         requests refused, broken off or timed out
9     write_errors        answers that could not be delivered whole
10    connections         open, of all cores; in the block of core 0
11-15 reserved            0
===== =================== ======================================================================
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, Self, final

from typing_extensions import Buffer

STOPPED: int
"""What ``serve`` returns after ``stop``."""
MAX_REQUESTS: int
"""What ``serve`` returns when ``max_requests`` were answered."""
MERCY: int
"""What ``serve`` returns when ``reload_mercy`` ran out; open connections were cut."""
CORE_SIZE: int
"""Bytes of a core's block in ``stats``."""

class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...

@final
class FileWrapper:
    """``wsgi.file_wrapper``. A regular file is sent with sendfile(2), from its position on."""

    def __new__(cls, file: _Readable, block_size: int = 8192, /) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> bytes: ...
    def close(self) -> None: ...

@final
class Worker:
    """Serves applications on listening sockets.

    ``listeners``: (descriptor, protocol, SERVER_NAME, SERVER_PORT) each; protocol ``uwsgi``,
    ``http`` (one request a connection) or ``http11`` (keep-alive). The descriptors are lent, and
    set to O_NONBLOCK.
    ``applications``: (mountpoint, callable) each; the first answers where no mountpoint matches.
    ``processes``, ``threads``: for ``wsgi.multiprocess`` and ``wsgi.multithread``; there are
    ``threads`` cores.
    ``worker_id``: for log lines. ``version``, ``node``: ``uwsgi.version`` and ``uwsgi.node``.
    ``buffer_size``: the most bytes of a request's head (431 beyond), or of a packet's variables.
    ``post_buffering``: from how many bytes on (at least 64 KiB) a body is kept in an unlinked
    file. ``limit_post``: the most bytes of a body (413 beyond); 0: no limit.
    ``socket_timeout``: seconds for each step of a client that sends or receives slowly.
    ``keepalive_timeout``: seconds for which an idle connection is kept; 0: as socket_timeout.
    ``reload_mercy``: seconds that a graceful stop may take.
    ``max_requests``: after how many answers (of all cores) to stop, not before ``min_lifetime``
    seconds; 0: never.
    ``manage_script_name``: choose the application by PATH_INFO and move its mountpoint to
    SCRIPT_NAME. ``catch_exceptions``: show the traceback in the 500 page.
    ``emperor_fd``: gets byte 17 after the first answer, and byte 26 each ``heartbeat`` seconds;
    -1: there is none.
    ``log``: write request lines to descriptor 2, as uWSGI's or after ``log_format``; with
    ``log_x_forwarded_for`` the address is X-Forwarded-For's.
    ``errors``: ``wsgi.errors``; default ``sys.stderr``.
    ``stats``: see the module. ``totals``: 8 bytes shared by all workers: requests of all of them.

    Raises ValueError and TypeError for bad arguments, OSError when descriptors run out.
    """

    def __new__(
        cls,
        *,
        listeners: Iterable[tuple[int, str, str, int]] = (),
        applications: Sequence[tuple[str, Callable[..., Any]]] = (),
        processes: int = 1,
        threads: int = 1,
        worker_id: int = 1,
        version: bytes = ...,
        node: bytes = b"",
        buffer_size: int = 4096,
        post_buffering: int = 0,
        limit_post: int = 0,
        socket_timeout: float = 4,
        keepalive_timeout: float = 0,
        reload_mercy: float = 60,
        max_requests: int = 0,
        min_lifetime: float = 0,
        manage_script_name: bool = False,
        catch_exceptions: bool = False,
        emperor_fd: int = -1,
        heartbeat: float = 0,
        log: bool = True,
        log_format: str | None = None,
        log_x_forwarded_for: bool = False,
        errors: object = None,
        stats: Buffer | None = None,
        totals: Buffer | None = None,
    ) -> Self: ...
    def serve(self, core: int = 0) -> int:
        """Serve on a core until stopped; STOPPED, MAX_REQUESTS or MERCY.

        Core 0 belongs in the main thread: Python's signal handlers run there. A handler's
        exception leaves ``serve`` if the loop was waiting; inside an application it is the
        application's.
        """

    def stop(self, *, quick: bool = False) -> None:
        """Make ``serve`` return on all cores. Callable from any thread and any signal handler.

        Gracefully: no new connections; every connection that is open gets its next request
        answered, with ``Connection: close``. Quickly: only the answer being made is finished.
        """

    @property
    def wake_fd(self) -> int:
        """For ``signal.set_wakeup_fd``: so no signal waits for the next request. Lent."""
