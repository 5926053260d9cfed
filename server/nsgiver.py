"""``setns-socket``: the master gives its namespaces to whoever connects and is known.

What is sent and who is known is ``donjon.jail.setns``'s. A client is answered at once and hung up
on. With ``setns-preopen`` the namespaces were opened before privileges were dropped.
"""

from __future__ import annotations

import contextlib
import socket

from donjon import log
from donjon.errors import DonjonError, reason_of
from donjon.jail import setns
from donjon.origin import DEFAULT
from donjon.records import replace
from donjon.server.loop import Loop
from donjon.server.sockets import Bound, Sockets
from donjon.server.spec import Listener, ServerSpec

_QUEUE = 16
_CLOSED, _OPEN = 0o600, 0o666
"""The original's mode; where more users are known, each is asked who he is anyway."""


class NamespaceGiver:
    """The listener and its answers."""

    def __init__(self, loop: Loop) -> None:
        """Hold nothing yet; ``set`` listens."""
        self._loop = loop
        self._sockets = Sockets()
        self._listening: Bound | None = None
        self._address: str | None = None
        self._skip: frozenset[str] = frozenset()
        self._uids: frozenset[int] = frozenset()

    def set(self, spec: ServerSpec) -> None:
        """Listen where ``spec`` says. A failure is logged, as those of other services are."""
        self._skip, self._uids = frozenset(spec.setns_skip), frozenset(spec.setns_uids)
        if spec.setns_socket == self._address:
            return
        self.close()
        self._address = spec.setns_socket
        if spec.setns_socket is None:
            return
        origin = spec.origins.get("setns_socket", DEFAULT)
        listener = Listener(spec.setns_socket, "setns", origin)
        mode = _OPEN if self._uids else _CLOSED
        how = replace(spec, chmod_socket=mode, chown_socket=None, listen=_QUEUE)
        try:
            self._listening = self._sockets.open_one(listener, how)
        except DonjonError as error:
            log.write(f"donjon: {error}")
            return
        self._loop.watch(self._listening.fileno(), self._answer)

    def _answer(self) -> None:
        assert self._listening is not None
        try:
            with self._listening.duplicate() as listener:
                client, _ = listener.accept()
        except OSError:
            return
        with client:
            client.setblocking(False)  # noqa: FBT003  (socket names it so)
            pid, uid = setns.credentials(client)
            if not setns.is_known(uid, self._uids):
                log.write(f"refused our namespaces to uid {uid} (process {pid})")
                return
            try:
                self._give(client)
            except OSError as error:
                log.write(f"cannot give our namespaces: {error.filename}: {reason_of(error)}")

    def _give(self, client: socket.socket) -> None:
        """Give what was opened before, or what we are in now."""
        if setns.held():
            setns.give(client, [one for one in setns.held() if one[0] not in self._skip])
            return
        with contextlib.ExitStack() as opened:
            files = setns.open_own(self._skip)
            for _, file in files:
                opened.enter_context(file)
            setns.give(client, files)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._listening is not None:
            self._loop.forget(self._listening.fileno())
            self._listening = None
        self._sockets.close(vacuum=True)
