"""The loop under the resolver: sockets, what is called when they are ready, and who is overdue."""

from __future__ import annotations

import selectors
import socket
import time
import traceback
from collections.abc import Callable

from donjon import log

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

TOLD = 10
"""Mistakes of ours that are written down; a question that finds one may be asked for ever."""


class Loop:
    """Watched sockets, of which ``first`` is served before all others that are ready with it.

    ``now`` is the time of the turn, seconds.
    """

    def __init__(self, first: socket.socket) -> None:
        self._first = first.fileno()
        self.now = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._mistakes = 0

    def watch(self, link: socket.socket, events: int, ready: Callable[[], None]) -> None:
        """Call ``ready`` when one of ``events`` is; instead of what was watched for before."""
        self.forget(link)
        self._selector.register(link, events, ready)

    def forget(self, link: socket.socket) -> None:
        """Do not, any more. Must come before it is closed; a second time does nothing."""
        if link.fileno() in self._selector.get_map():
            self._selector.unregister(link)

    def turn(self, patience: float | None) -> None:
        """Wait at most ``patience`` seconds and serve what came.

        A mistake in serving one ends that one: all others would have to wait for the next
        resolver.
        """
        found = self._selector.select(patience)
        found.sort(key=lambda one: one[0].fd != self._first)
        self.now = time.monotonic()
        for key, _events in found:
            if self._selector.get_map().get(key.fd) is not key:
                continue  # forgotten meanwhile
            try:
                key.data()
            except BrokenPipeError:
                raise  # the supervisor is gone
            except Exception:
                self._tell_mistake()

    def _tell_mistake(self) -> None:
        self._mistakes += 1
        if self._mistakes <= TOLD:
            log.write(f"donjon: the resolver made a mistake: {traceback.format_exc()}")
