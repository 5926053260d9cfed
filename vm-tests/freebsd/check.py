"""Makes, enters and removes jails on a real FreeBSD, through the layer that donjon uses.

    sudo python3.11 vm-tests/freebsd/check.py

It loads the layer alone: the rest of donjon needs Linux. Each line is one fact, ``ok`` or
``FAILED``; the status is 1 if one failed. Jails are named donjon-check-*, and are removed.
``--library FILE`` asks another library than the system's, as the tests on Linux do.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import struct
import subprocess
import sys
import tempfile
import traceback
import types
from collections.abc import Callable
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "src"
PERSISTENT = "donjon-check-persistent"


def load_layer() -> None:
    """Import from the checkout, and only what runs on FreeBSD: not the extension for Linux."""
    sys.path.insert(0, str(SOURCES))
    package = types.ModuleType("donjon.syscalls")
    package.__path__ = [str(SOURCES / "donjon" / "syscalls")]
    sys.modules[package.__name__] = package


class Checks:
    """The facts that were looked at, and those that do not hold."""

    def __init__(self) -> None:
        self.failed = 0

    def fact(self, what: str, look: Callable[[], object], wanted: object) -> None:
        try:
            found = look()
        except Exception:
            found = traceback.format_exc()
        good = found == wanted
        self.failed += not good
        print(
            f"{'ok' if good else 'FAILED'}: {what}"
            + ("" if good else f": {found!r}, not {wanted!r}")
        )


def error_of(call: Callable[[], object]) -> object:
    """Return number and words of the error that a call ends with."""
    try:
        return call()
    except OSError as error:
        return error.errno, error.strerror


def in_child(run: Callable[[], str]) -> str:
    """Return what ``run`` returns in a process of its own, which may enter a jail."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = run()
        except BaseException:
            answer = traceback.format_exc()
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        found = pipe.read()
    os.waitpid(pid, 0)
    return found


class Layer:
    """The modules of donjon that are checked, and whether FreeBSD's kernel is behind them."""

    def __init__(self, library: str | None) -> None:
        load_layer()
        self.calls = importlib.import_module("donjon.syscalls.freebsd")
        self.libc = importlib.import_module("donjon.syscalls.freebsd_libc")
        self.params = importlib.import_module("donjon.jail.freebsd_params")
        self.jails = importlib.import_module("donjon.jail.freebsd")
        self.spec = importlib.import_module("donjon.jail.freebsd_spec")
        self.step = importlib.import_module("donjon.jail.step")
        self.phase = importlib.import_module("donjon.jail.phase").Phase.POST_JAIL
        self.simulated = library is not None
        if library:
            self.calls.use(self.libc.Library(library))

    def words(self, *given: str) -> tuple[object, ...]:
        """Return parameters as ``jail2`` has them."""
        return tuple(self.spec.JailParameter(*self.params.split(word)) for word in given)

    def pairs(self, *given: str) -> tuple[object, ...]:
        """Return parameters as the kernel takes them."""
        return self.params.pairs(self.words(*given))

    def entered(self, one: object) -> str:
        """Carry out a step in a process of its own; return what that process then sees."""
        return in_child(lambda: (one.execute(self.step.Context()), self.look_inside())[1])

    def look_inside(self) -> str:
        """Return what a jailed process sees of its jail."""
        if self.simulated:
            return "1 donjon-check"
        command = ["/sbin/sysctl", "-n", "security.jail.jailed"]
        jailed = subprocess.run(command, capture_output=True, text=True, check=True)
        return f"{jailed.stdout.strip()} {os.uname().nodename}"


def check_persistent(layer: Layer, checks: Checks) -> None:
    """Make a jail without a process, find it, change it, enter it, remove it."""
    calls, params = layer.calls, layer.params
    library = calls.library()
    pairs = layer.pairs(f"name={PERSISTENT}", "path=/", "host.hostname=donjon-check", "persist")
    update = layer.pairs(f"name={PERSISTENT}", "allow.mount=0")
    key = [params.encode("name", PERSISTENT)]
    jid = library.jail_set(pairs, calls.JAIL_CREATE)
    number = [(b"jid", struct.pack("=i", jid))]
    try:
        checks.fact("jail_get finds a name", lambda: library.jail_get(key)[0], jid)
        checks.fact(
            "jail_get tells the name",
            lambda: library.jail_get(number, {b"name": 256})[1][b"name"].rstrip(b"\0"),
            PERSISTENT.encode(),
        )
        checks.fact(
            "a second jail of that name is EEXIST",
            lambda: error_of(lambda: library.jail_set(pairs, calls.JAIL_CREATE)),
            (17, f'jail "{PERSISTENT}" already exists'),
        )
        checks.fact(
            "a jail can be updated", lambda: library.jail_set(update, calls.JAIL_UPDATE), jid
        )
        checks.fact(
            "an unknown parameter is EINVAL, with its name",
            lambda: error_of(lambda: library.jail_set([(b"moon", None), *pairs], 1)),
            (22, "unknown parameter: moon"),
        )
        for how, name in (("name", PERSISTENT), ("number", str(jid))):
            attach = layer.jails.AttachJail(phase=layer.phase, jail=name)
            checks.fact(f"jail-attach by {how}", lambda: layer.entered(attach), "1 donjon-check")  # noqa: B023
    finally:
        library.jail_remove(jid)
    checks.fact("a removed jail is ENOENT", lambda: error_of(lambda: library.jail_get(key))[0], 2)


def check_own(layer: Layer, checks: Checks) -> None:
    """Make jails that end with the process that made them."""
    with tempfile.TemporaryDirectory() as place:
        jidfile = os.path.join(place, "jid")
        new = layer.jails.CreateJail(
            phase=layer.phase,
            parameters=layer.words(
                *("name=donjon-check-new", "path=/", "host.hostname=donjon-check"),
                *("ip4.addr=127.0.0.1", "enforce_statfs=1", "allow.mount", "allow.sysvipc=1"),
            ),
            jidfile=jidfile,
        )
        checks.fact("jail2", lambda: layer.entered(new), "1 donjon-check")
        checks.fact("jidfile", lambda: str(int(Path(jidfile).read_text())) != "0", wanted=True)
    wish = layer.spec.OldJail("/", "donjon-check", "donjon-check-old")
    old = layer.jails.CreateOldJail(phase=layer.phase, jail=wish, ip4=("127.0.0.1",))
    checks.fact("jail and jail-ip4", lambda: layer.entered(old), "1 donjon-check")

    def nested() -> str:
        old.execute(layer.step.Context())
        again = layer.pairs("name=donjon-check-nested", "persist")
        return str(error_of(lambda: layer.calls.library().jail_set(again, 1))[0])

    checks.fact("no jail inside a jail: EPERM", lambda: in_child(nested), "1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--library")
    layer = Layer(parser.parse_args().library)
    if layer.calls.library() is None:
        print("this is no FreeBSD: nothing was checked", file=sys.stderr)
        return 2
    checks = Checks()
    checks.fact("struct jail has 56 bytes", lambda: ctypes.sizeof(layer.libc.Jail), 56)
    check_persistent(layer, checks)
    check_own(layer, checks)
    return int(checks.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
