"""``setns-socket``: the master gives its namespaces to whoever connects and is known.

What is sent and who is known is ``donjon.jail.setns``'s. A client is answered at once and hung up
on. With ``setns-preopen`` the namespaces were opened before privileges were dropped.
"""

from __future__ import annotations

import contextlib
import socket

from donjon import log
from donjon.errors import reason_of
from donjon.jail import setns
from donjon.origin import DEFAULT
from donjon.records import replace
from donjon.server.loop import Loop
from donjon.server.reception import Reception
from donjon.server.spec import Listener, ServerSpec

_QUEUE = 16
_CLOSED, _OPEN = 0o600, 0o666
"""The original's mode; where more users are known, each is asked who he is anyway."""


class NamespaceGiver:
    """The listener and its answers."""

    def __init__(self, loop: Loop) -> None:
        """Hold nothing yet; ``set`` listens."""
        self._reception = Reception(loop, self._answer)
        self._skip: frozenset[str] = frozenset()
        self._uids: frozenset[int] = frozenset()

    def set(self, spec: ServerSpec) -> None:
        """Listen where ``spec`` says. A failure is logged, as those of other services are."""
        self._skip, self._uids = frozenset(spec.setns_skip), frozenset(spec.setns_uids)
        listener = None
        if spec.setns_socket is not None:
            origin = spec.origins.get("setns_socket", DEFAULT)
            listener = Listener(spec.setns_socket, "setns", origin)
        mode = _OPEN if self._uids else _CLOSED
        how = replace(spec, chmod_socket=mode, chown_socket=None, listen=_QUEUE)
        self._reception.move(listener, how)

    def _answer(self, client: socket.socket) -> None:
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
        self._reception.close()
