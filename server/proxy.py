"""The Emperor's proxy: a vassal hands its control socket to a program that was started elsewhere.

``emperor-proxy-socket P``: whoever connects to P gets the words ``uwsgi-emperor``, a count, and
the control socket with SCM_RIGHTS (uwsgi-facts 1.5); from then on that program speaks with the
Emperor. The socket is of mode 0600: only the vassal's own user can take its place.
"""

from __future__ import annotations

import array
import socket
import struct

from donjon.origin import DEFAULT
from donjon.records import replace
from donjon.server.loop import Loop
from donjon.server.reception import Reception
from donjon.server.spec import Listener, ServerSpec

WORDS = b"uwsgi-emperor"


class EmperorProxy:
    """The listener, and the control socket that it gives away."""

    def __init__(self, loop: Loop, emperor_fd: int) -> None:
        """Hold nothing yet; ``set`` listens."""
        self._emperor_fd = emperor_fd
        self._reception = Reception(loop, self._give)

    def set(self, spec: ServerSpec) -> bool:
        """Listen if ``spec`` asks for it and there is an Emperor; returns whether it does.

        What once listens stays: the program that takes over is told where once.
        """
        path = spec.emperor_proxy_socket
        if path is not None and self._emperor_fd >= 0 and self._reception.fileno() < 0:
            listener = Listener(path, "proxy", spec.origins.get("emperor_proxy_socket", DEFAULT))
            self._reception.move(listener, replace(spec, chmod_socket=0o600, chown_socket=None))
        return self._reception.fileno() >= 0

    def _give(self, client: socket.socket) -> None:
        rights = array.array("i", [self._emperor_fd])
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        client.sendmsg([WORDS + struct.pack("=i", 1)], ancillary)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._reception.close()
