"""A worker of the plainest kind: one process, one thread, one WSGI file, no hooks.

Most vassals are so. ``work`` does for it what ``generation`` and ``worker`` do for all others, in
one stretch: every function that is called and every object that is used lies on some page of the
memory that all vassals share, and becomes this worker's own copy. What it needs was worked out by
whoever read the configuration (``tell``), in values that marshal knows.
"""

from __future__ import annotations

import contextlib
import gc
import marshal
import os
import sys
from collections.abc import Callable

from donjon.server import environment, loader, uwsgi_module
from donjon.server.board import CORE, HEADER
from donjon.server.channel import Word, pack
from donjon.server.link import ToEmperor
from donjon.server.spec import ServerSpec
from donjon.server.uwsgi_module import Life
from donjon.server.worker import Server, call_post_fork_hook, settings_of

FIRST = 1
"""The generation and the slot."""

_SPAWNED, _ACCEPTING = bytes([ToEmperor.SPAWNED]), bytes([ToEmperor.ACCEPTING])
_LOADED, _ONCE = Word.LOADED, Word.ONCE


def tell(spec: ServerSpec, ports: tuple[int, ...]) -> bytes | None:
    """Return what ``work`` is told, None where ``spec`` asks for more than a plain worker does.

    ``ports`` are those of its listeners, 0 for a unix socket.
    """
    if not _is_plain(spec):
        return None
    protocols = [
        (listener.protocol, port) for listener, port in zip(spec.listeners, ports, strict=True)
    ]
    path, name = loader.split(spec.applications[0].target, spec.callable)
    told = (
        settings_of(spec, under_emperor=True),
        protocols,
        (path, name, loader.name_of(path)),
        spec.need_app,
        spec.environment,
        (spec.pyargv or "").split(),
        spec.chdir2 or "",
        spec.max_requests + spec.max_requests_delta if spec.max_requests else 0,
    )
    return marshal.dumps(told)


DONE = frozenset(
    {
        "listeners", "listen", "chmod_socket", "umask", "socket_timeout", "buffer_size",
        "post_buffering", "limit_post", "reuse_port", "vacuum", "master", "enable_threads",
        "need_app", "max_requests", "max_requests_delta", "min_worker_lifetime", "reload_mercy",
        "worker_reload_mercy", "die_on_term", "exit_on_reload", "no_orphans", "heartbeat",
        "applications", "callable", "chdir", "chdir2", "pyargv", "manage_script_name",
        "single_interpreter", "catch_exceptions", "environment", "options", "disable_logging",
        "log_format", "log_x_forwarded_for", "alarms", "origins",
    }
)  # fmt: skip
"""What of a configuration ``work`` does, or others do before or after it."""

_UNASKED = ServerSpec()
_MORE = tuple(name for name in ServerSpec.__annotations__ if name not in DONE)


def _is_plain(spec: ServerSpec) -> bool:
    """Whether nothing is asked for but one file; what is not known here counts as more."""
    if any(getattr(spec, name) != getattr(_UNASKED, name) for name in _MORE):
        return False
    applications = spec.applications
    return (
        len(applications) == 1
        and applications[0].kind == "wsgi-file"
        and not applications[0].mountpoint
    )


def work(
    text: bytes,
    life: Callable[[], Life],
    *,
    fds: list[int],
    writer: int,
    emperor_fd: int,
    board: memoryview,
) -> int:
    """Be the worker; return its exit status.

    ``fds`` are its listeners, ``writer`` the line to its master. ``life`` is called if the
    application wants to know about it. Raises AppLoadError.
    """
    settings, protocols, file, need_app, pairs, argv, chdir2, most = marshal.loads(text)
    pid = os.getpid()
    if pairs:
        environment.apply_pairs(pairs)
    module = uwsgi_module.install_lazily(life)
    sys.argv = ["uwsgi", *argv]
    sys.path[:0] = ["."]
    applications: list[tuple[str, loader.App]] = []
    try:
        applications.append(("", loader.load_file(*file)))
    except Exception as error:
        loader.report(life().spec.applications[0], error, must=need_app)
    if "applications" in module.__dict__:
        applications += loader.declared(module)
    loader.announce(applications, need_app=need_app)
    gc.freeze()

    def say(word: Word) -> None:
        with contextlib.suppress(OSError):  # as Channel.send: the application may have closed it
            os.write(writer, pack(word, FIRST, FIRST, pid))

    os.write(emperor_fd, _SPAWNED)
    say(_LOADED)
    if chdir2:
        environment.change_directory(chdir2)
    call_post_fork_hook(module)
    os.write(emperor_fd, _ACCEPTING)
    say(_ONCE)
    return Server(
        settings,
        [(fd, protocol, port) for fd, (protocol, port) in zip(fds, protocols, strict=True)],
        applications,
        slot=FIRST,
        max_requests=most,
        emperor_fd=emperor_fd,
        counters=(board[HEADER : HEADER + CORE], board[:8]),
        say=say,
    ).run()
