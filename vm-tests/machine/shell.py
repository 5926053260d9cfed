"""A terminal on the serial line of a guest that runs a shell there instead of the agent."""

import contextlib
import dataclasses
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import tty
from pathlib import Path

from machine import flavours, guests, images, kernels


def main() -> int:
    """Start the flavour that the command line names, and carry the terminal to it."""
    table = flavours.load()
    if len(sys.argv) != 2 or sys.argv[1] not in table:
        names = "\n".join(f"  {one.name:14} {one.about}" for one in table.values())
        print(f"usage: vm-tests/shell FLAVOUR\n{names}", file=sys.stderr)
        return 2
    chosen = table[sys.argv[1]]
    flavour = dataclasses.replace(chosen, append=f"{chosen.append} donjon.shell")
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))  # or what is made here stays
    line, theirs = socket.socketpair()
    with tempfile.TemporaryDirectory(prefix="donjon-vm-", dir="/dev/shm") as scratch:
        kernel, root = kernels.obtain(flavour.kernel), images.root()
        with theirs, Path(scratch, "console").open("wb") as console:
            words = guests.command(flavour, kernel, root, Path(scratch), None, theirs.fileno())
            guest = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                pass_fds=[theirs.fileno()], start_new_session=True,
                env={**os.environ, "TMPDIR": scratch},
            )  # fmt: skip
        try:
            with line:
                carry(line)
        finally:
            guest.kill()
            guest.wait()
    return 0


def carry(line: socket.socket) -> None:
    """Pass bytes between this terminal and the line, until either ends."""
    before = tty.tcgetattr(0) if os.isatty(0) else None
    if before is not None:
        tty.setraw(0)
    sources: list[socket.socket | int] = [line, 0]
    try:
        while line in sources:
            for source in select.select(sources, [], [])[0]:
                piece = os.read(source if isinstance(source, int) else source.fileno(), 65536)
                if not piece:
                    sources.remove(source)
                elif source == 0:
                    line.sendall(piece)
                else:
                    os.write(1, piece)
    finally:
        if before is not None:
            with contextlib.suppress(termios.error):  # a terminal that hung up
                tty.tcsetattr(0, tty.TCSADRAIN, before)


if __name__ == "__main__":
    sys.exit(main())
