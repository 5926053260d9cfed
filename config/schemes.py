"""Ways to get a text that is not a file: descriptors, commands, HTTP, functions, the Emperor.

Each is bounded in size and time (``limits``) and raises ConfigError with the reason. The modules
for HTTP and for C functions are imported by ``preload`` or at first use: most configurations
never need them, and an Emperor that evaluates hundreds of files should not pay for them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import struct
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from donjon.config.limits import FETCH_SECONDS, MAX_BYTES, PUSH_SECONDS, RUN_SECONDS
from donjon.errors import ConfigError, reason_of
from donjon.fd import Fd

if TYPE_CHECKING:
    import http.client

_EMPEROR_CONFIG = 115
"""modifier1 of a configuration pushed by the Emperor (uwsgi-facts 1.5)."""


def preload() -> None:
    """Import what the schemes need, before a fork."""
    for name in ("donjon.hooks.calls", "encodings.idna", "http.client", "ssl"):
        importlib.import_module(name)


def drain(number: int, shown: str) -> bytes:
    """Return what a descriptor gives up to its end, at most MAX_BYTES."""
    parts: list[bytes] = []
    left = MAX_BYTES + 1
    try:
        while left > 0 and (part := os.read(number, min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
    except OSError as error:
        raise ConfigError(f"cannot read {shown}", reason=reason_of(error)) from error
    if left <= 0:
        raise too_big(shown)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def too_big(shown: str) -> ConfigError:
    """Return the error for a source of more than MAX_BYTES."""
    return ConfigError(
        f"cannot read {shown}",
        reason=f"it has more than {MAX_BYTES >> 20} MiB",
        hint="is this a configuration?",
    )


def run_shell(command: str, *, cwd: str, environ: Mapping[str, str]) -> bytes:
    """Return the standard output of ``/bin/sh -c command``; its exit status does not matter.

    posix_spawn(3), not subprocess: that imports threading, whose hook at fork dirties half a
    mebibyte of every process born from the zygote that has preloaded this.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with Fd(reading) as output:
        with Fd(writing) as end:
            pid = _spawn_shell(command, cwd, environ, end.fileno())
        with contextlib.ExitStack() as after:
            after.callback(os.waitpid, pid, 0)
            failed = after.enter_context(contextlib.ExitStack())
            failed.callback(os.killpg, pid, signal.SIGKILL)  # not the shell alone
            text = _drain_until(output.fileno(), f"exec://{command}", RUN_SECONDS)
            failed.pop_all()
        return text


def _spawn_shell(command: str, cwd: str, environ: Mapping[str, str], output: int) -> int:
    """Start a shell in a process group of its own, its output going to a descriptor."""
    argv = ["/bin/sh", "-c", command]
    if cwd != os.getcwd():  # posix_spawn(3) cannot change it
        argv = ["/bin/sh", "-c", 'cd -- "$0" && exec /bin/sh -c "$1"', cwd, command]
    try:
        return os.posix_spawn(
            argv[0],
            argv,
            environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
            ],
            setpgroup=0,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them
        )
    except OSError as error:
        raise ConfigError(f"cannot run {command}", reason=reason_of(error)) from error


def _drain_until(number: int, shown: str, seconds: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    deadline = time.monotonic() + seconds
    while True:
        if not _readable(number, deadline - time.monotonic()):
            raise ConfigError(f"{shown} did not end", reason=f"waited for {seconds:.0f} seconds")
        part = os.read(number, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise too_big(shown)


def _readable(number: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(max(0, int(seconds * 1000))))


def fetch_http(url: str, *, agent: str) -> bytes:
    """Return the body of the answer to a GET; any status but 2xx is an error, as before."""
    import http.client  # noqa: PLC0415  (with ssl 20 ms, for http:// only)

    try:
        connection, target = _http_connection(url)
        connection.request("GET", target, headers={"User-Agent": agent, "Connection": "close"})
        deadline = time.monotonic() + FETCH_SECONDS
        answer = connection.getresponse()
        if not 200 <= answer.status < 300:
            raise ConfigError(f"cannot read {url}", reason=f"{answer.status} {answer.reason}")
        return _read_body(answer, url, deadline)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = reason_of(error) if isinstance(error, OSError) and error.errno else str(error)
        raise ConfigError(f"cannot read {url}", reason=reason or type(error).__name__) from error


def _http_connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    import http.client  # noqa: PLC0415  (see fetch_http)
    from urllib.parse import urlsplit  # noqa: PLC0415  (see fetch_http)

    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=FETCH_SECONDS)
    return connection, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _read_body(answer: http.client.HTTPResponse, url: str, deadline: float) -> bytes:
    body = b""
    while part := answer.read1(1 << 16):
        body += part
        if len(body) > MAX_BYTES:
            raise too_big(url)
        if time.monotonic() > deadline:
            raise ConfigError(
                f"cannot read {url}", reason=f"no end after {FETCH_SECONDS:.0f} seconds"
            )
    answer.close()
    return body


def call(name: str, *, integer: bool) -> str:
    """Return what a function gives when it is called without arguments.

    ``module:attribute`` is Python (an attribute that cannot be called is the value itself), a name
    alone a C function of this process: it returns an int where ``integer``, a string elsewhere.
    """
    try:
        value = _call_python(name) if ":" in name else _call_symbol(name, integer=integer)
    except Exception as error:
        reason = str(error) if ":" not in name else f"{type(error).__name__}: {error}"
        hint = "" if ":" in name else "write module:function for a Python function"
        raise ConfigError(f"cannot call {name}", reason=reason, hint=hint) from error
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _call_python(name: str) -> object:
    module, _, attribute = name.partition(":")
    value = getattr(importlib.import_module(module), attribute)
    return value() if callable(value) else value


def _call_symbol(name: str, *, integer: bool) -> object:
    import ctypes  # noqa: PLC0415  (for call:// only)

    from donjon.hooks.calls import symbol  # noqa: PLC0415  (the same)

    function = symbol(name)
    function.restype = ctypes.c_int if integer else ctypes.c_char_p
    value = function()
    return b"" if value is None else value


def receive_pushed(number: str) -> bytes:
    """Return the configuration that the Emperor sends on the descriptor ``number``.

    A 4-byte uwsgi header (modifier1 115, 16-bit little-endian size, modifier2 0), then the text.
    The descriptor stays open: the next configuration comes over it after a reload.
    """
    if not number.isdecimal():
        raise ConfigError(
            "there is no configuration from the Emperor",
            reason="UWSGI_EMPEROR_FD_CONFIG is not set",
        )
    modifier, size, _ = struct.unpack("<BHB", _receive(int(number), 4))
    if modifier != _EMPEROR_CONFIG or not size:
        raise ConfigError(
            "the Emperor sent no configuration", reason=f"modifier {modifier}, size {size}"
        )
    return _receive(int(number), size)


def _receive(number: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        try:
            if not _readable(number, PUSH_SECONDS):
                raise ConfigError(
                    "no configuration from the Emperor",
                    reason=f"waited for {PUSH_SECONDS:.0f} seconds",
                )
            part = os.read(number, size - len(data))
        except OSError as error:
            raise ConfigError(
                "cannot read the configuration from the Emperor", reason=reason_of(error)
            ) from error
        if not part:
            raise ConfigError("the Emperor closed the configuration socket early")
        data += part
    return data
