"""An address of the master's own: who connects is answered at once and hung up on."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from donjon import log
from donjon.errors import DonjonError
from donjon.server.loop import Loop
from donjon.server.sockets import Bound, Sockets
from donjon.server.spec import Listener, ServerSpec


class Reception:
    """A listener, and what it does with each client, which must not wait."""

    def __init__(self, loop: Loop, answer: Callable[[socket.socket], None]) -> None:
        """Hold nothing yet; ``move`` listens. An OSError of ``answer`` is the client's loss."""
        self._loop = loop
        self._answer = answer
        self._sockets = Sockets()
        self._listening: Bound | None = None
        self._wanted: tuple[object, ...] | None = None

    def move(self, listener: Listener | None, spec: ServerSpec) -> bool:
        """Listen there and nowhere else; return whether that is new. A failure is logged."""
        wanted = (listener.address, spec.chmod_socket, spec.chown_socket) if listener else None
        if wanted == self._wanted:
            return False
        self.close()
        if listener is None:
            return False
        try:
            self._listening = self._sockets.open_one(listener, spec)
        except DonjonError as error:
            log.write(f"donjon: {error}")  # the next configuration is another try
            return False
        self._wanted = wanted
        self._loop.watch(self._listening.fileno(), self._accept)
        return True

    def fileno(self) -> int:
        """Return the descriptor that listens, -1 where none does."""
        return self._listening.fileno() if self._listening else -1

    def _accept(self) -> None:
        assert self._listening is not None  # watched only while it listens
        with contextlib.suppress(OSError), self._listening.duplicate() as listener:
            client, _ = listener.accept()
            with client:
                client.setblocking(False)  # noqa: FBT003  (socket names it so)
                self._answer(client)

    def close(self) -> None:
        """Stop listening and remove the socket, as ``vacuum`` does with all of them."""
        if self._listening is not None:
            self._loop.forget(self._listening.fileno())
            self._listening = None
        self._wanted = None
        self._sockets.close(vacuum=True)
