"""The Emperor's proxy: a vassal hands its control socket to a program that was started elsewhere.

``emperor-proxy-socket P``: whoever connects to P gets the words ``uwsgi-emperor``, a count, and
the control socket with SCM_RIGHTS (uwsgi-facts 1.5); from then on that program speaks with the
Emperor. The socket is of mode 0600: only the vassal's own user can take its place.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct

from donjon import log
from donjon.errors import DonjonError
from donjon.origin import DEFAULT
from donjon.server.loop import Loop
from donjon.server.sockets import Bound, Sockets
from donjon.server.spec import Listener, ServerSpec

WORDS = b"uwsgi-emperor"


class EmperorProxy:
    """The listener, and the control socket that it gives away."""

    def __init__(self, loop: Loop, emperor_fd: int) -> None:
        """Hold nothing yet; ``set`` listens."""
        self._loop = loop
        self._emperor_fd = emperor_fd
        self._sockets = Sockets()
        self._listening: Bound | None = None

    def set(self, spec: ServerSpec) -> bool:
        """Listen if ``spec`` asks for it and there is an Emperor; returns whether it does."""
        path = spec.emperor_proxy_socket
        if path is None or self._emperor_fd < 0 or self._listening is not None:
            return self._listening is not None
        listener = Listener(path, "proxy", spec.origins.get("emperor_proxy_socket", DEFAULT))
        previous = os.umask(0o177)
        try:
            self._listening = self._sockets.open_one(listener, spec)
        except DonjonError as error:
            log.write(f"donjon: {error}")
            return False
        finally:
            os.umask(previous)
        self._loop.watch(self._listening.fileno(), self._give)
        return True

    def _give(self) -> None:
        assert self._listening is not None  # watched only while it listens
        with self._listening.duplicate() as listener, contextlib.suppress(OSError):
            client, _ = listener.accept()
            with client:
                count = struct.pack("=i", 1)
                rights = array.array("i", [self._emperor_fd])
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                client.sendmsg([WORDS + count], ancillary)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._listening is not None:
            self._loop.forget(self._listening.fileno())
            self._listening = None
        self._sockets.close(vacuum=True)
