"""Actions that wait until something exists, as long as ``wait-for-…-timeout`` says.

A child looks for paths: a look at a file system whose server hangs does not return.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable

from donjon import log
from donjon.hooks.action import ActionError, Scene, Words
from donjon.jail import bounded, mountcheck

_PAUSE = 0.05  # seconds between two looks
_SLACK = 1.0  # seconds that a last look may take


def wait_for_fs(args: Words, scene: Scene) -> None:
    """wait_for_fs PATH: anything of that name."""
    timeout = scene.facts.wait_for_fs_timeout
    _wait_for_path(args[0], "", lambda: os.path.exists(args[0]), timeout)


def wait_for_file(args: Words, scene: Scene) -> None:
    """wait_for_file PATH: a regular file."""
    timeout = scene.facts.wait_for_fs_timeout
    _wait_for_path(args[0], "file ", lambda: _is(args[0], stat.S_ISREG), timeout)


def wait_for_directory(args: Words, scene: Scene) -> None:
    """wait_for_dir PATH: a directory."""
    timeout = scene.facts.wait_for_fs_timeout
    _wait_for_path(args[0], "directory ", lambda: _is(args[0], stat.S_ISDIR), timeout)


def wait_for_socket(args: Words, scene: Scene) -> None:
    """wait_for_socket ADDRESS: somebody accepts connections there."""
    timeout = scene.facts.wait_for_socket_timeout
    _wait(args[0], "socket ", lambda: _accepts(args[0]), timeout)


def check_mountpoint(args: Words, _scene: Scene) -> None:
    """mountpoint_check DIR: the file system there answers, though its server may hang."""
    fault = mountcheck.fault_of(args[0])
    if fault:
        raise ActionError(f"{args[0]}: {fault}")


def _wait_for_path(name: str, kind: str, there: Callable[[], bool], timeout: float) -> None:
    told = bounded.ask(lambda: _outcome(name, kind, there, timeout), timeout + _SLACK)
    if told is None:
        told = f"{kind}{name} was not there within {timeout:g} seconds"
    if told:
        raise ActionError(told)


def _outcome(name: str, kind: str, there: Callable[[], bool], timeout: float) -> str:
    """Wait; return why in vain, "" if not."""
    try:
        _wait(name, kind, there, timeout)
    except ActionError as error:
        return str(error)
    return ""


def _wait(name: str, kind: str, there: Callable[[], bool], timeout: float) -> None:
    if there():
        return
    log.write(f"waiting for {kind}{name} (max {timeout:g} seconds)...")
    end = time.monotonic() + timeout
    while not there():
        if time.monotonic() >= end:
            raise ActionError(f"{kind}{name} was not there within {timeout:g} seconds")
        time.sleep(_PAUSE)


def _is(path: str, kind: Callable[[int], bool]) -> bool:
    try:
        return kind(os.stat(path).st_mode)
    except OSError:
        return False


def _accepts(address: str) -> bool:
    host, colon, port = address.rpartition(":")
    family = socket.AF_INET if colon else socket.AF_UNIX
    if colon and not port.isdecimal():
        raise ActionError(f"not an address: {address}")
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            if colon:
                client.connect((host or "127.0.0.1", int(port)))
            else:
                client.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return False
    return True
