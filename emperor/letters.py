"""The router's client for who must not wait: each answer is an event of the loop.

Steps are walked one after the other, in the order in which they were posted. A router that does
not answer for ``PATIENCE`` is told of as lost; what is posted from then on is told that it is gone
(and the client keeps it for the next one) until ``resume_with`` has another.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from donjon.emperor.reactor import Reactor, Timer
from donjon.errors import DonjonError, reason_of
from donjon.records import dataclass
from donjon.tuntap import client, protocol
from donjon.tuntap.client import Request, RouterClient, Steps
from donjon.tuntap.protocol import Message, RouterError, RouterGoneError

T = TypeVar("T")
Done = Callable[[T | DonjonError], None]
"""Gets what steps returned, or why they could not be walked to their end."""


@dataclass(frozen=True, slots=True)
class Posted:
    """Steps that nobody walked yet, or that are being walked."""

    steps: Steps[Any]
    done: Done[Any]


class Letters(RouterClient):
    """A router client on a reactor."""

    def __init__(self, channel: socket.socket, reactor: Reactor, lost: Callable[[], None]) -> None:
        """Begin on ``channel``; ``lost`` is called when the router does not answer any more."""
        self._reactor = reactor
        self._on_lost = lost
        self._is_lost = False
        self._waiting: deque[Posted] = deque()
        self._current: Posted | None = None
        self._asked: Request | None = None
        self._patience: Timer | None = None
        self._walking = False
        self.heard = reactor.clock()
        super().__init__(channel)

    def _open(self) -> None:
        self._listen_to(self._channel)
        self.post(self._beginning(), _nobody)

    @property
    def idle(self) -> bool:
        """Whether nothing is being asked."""
        return self._current is None

    def post(self, steps: Steps[T], done: Done[T]) -> None:
        """Walk steps after those that were posted before; ``done`` may be called at once."""
        self._waiting.append(Posted(steps, done))
        self._walk()

    def resume_with(self, channel: socket.socket, done: Done[dict[str, RouterError]]) -> None:
        """Go on with a new router, as ``resume``."""
        self.leave()
        self._channel.close()
        self._channel = channel
        self._listen_to(channel)
        self.post(self.resuming(), done)

    def leave(self, reason: str = "it ended") -> None:
        """Hear nothing more of this router: what was asked of it is told that it is gone."""
        if self._is_lost:
            return
        self._is_lost = True
        self._reactor.forget(self._channel.fileno())
        if self._asked is not None:
            self._answered(self._lost(self._asked, reason))

    def close(self) -> None:
        """As RouterClient; what was posted is told that there is no router."""
        self.leave()
        super().close()

    # -- walking

    def _walk(self) -> None:
        """Go on until an answer is awaited or nothing is left."""
        if self._walking:
            return
        self._walking = True
        try:
            while self._current is None and self._waiting:
                self._current = self._waiting.popleft()
                self._step(None)
        finally:
            self._walking = False

    def _step(self, answer: Message | RouterError | None) -> None:
        """Walk the current steps until they wait for the router, or end."""
        assert self._current is not None
        one = self._current
        while True:
            try:
                if isinstance(answer, RouterError):
                    request = one.steps.throw(answer)
                elif answer is None:
                    request = next(one.steps)
                else:
                    request = one.steps.send(answer)
            except StopIteration as end:
                self._finish(one, end.value)
                return
            except DonjonError as error:
                self._finish(one, error)
                return
            except OSError as error:  # there are no descriptors left, say
                self._finish(one, RouterError("cannot ask the router", reason=reason_of(error)))
                return
            refused = self._ask_for(request)
            if refused is None:
                return
            answer = refused

    def _finish(self, one: Posted, result: object) -> None:
        self._current = None
        one.done(result)

    def _ask_for(self, request: Request) -> RouterError | None:
        """Send a request; return why it cannot be answered."""
        if self._is_lost:
            return RouterGoneError(f"there is no router that could {request.do.value}")
        try:
            self._send(request)
        except OSError as error:
            self._lose()
            return self._lost(request, error.strerror or str(error))
        except RouterError as error:
            return error
        self._asked = request
        self._patience = self._reactor.after(client.PATIENCE, self._hung)
        return None

    def _answered(self, answer: Message | RouterError) -> None:
        self._asked = None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._walking, before = True, self._walking
        try:
            self._step(answer)
        finally:
            self._walking = before
        self._walk()

    # -- the router

    def _listen_to(self, channel: socket.socket) -> None:
        channel.setblocking(False)  # noqa: FBT003  (socket names it so)
        self._is_lost = False
        self._reactor.watch(channel.fileno(), lambda _events: self._hear())

    def _hear(self) -> None:
        """Take an answer; what nobody asked for, or the end, is the end of this router."""
        request = self._asked
        try:
            message = protocol.receive(self._channel)
        except BlockingIOError:
            return
        except (OSError, RouterError):
            message = None
        if message is None or request is None:
            if message is not None:
                message.close()
            self._lose()
            return
        self.heard = self._reactor.clock()
        try:
            answer: Message | RouterError = self._accepted(request, message)
        except RouterError as error:
            answer = error
        self._answered(answer)

    def _hung(self) -> None:
        self._lose("it hangs")

    def _lose(self, reason: str = "it ended") -> None:
        """This router is good for nothing any more."""
        self._on_lost()
        self.leave(reason)

    def _run(self, steps: Steps[T]) -> T:
        """Walk steps and wait: for who can, and after all that was posted."""
        while self._asked is not None:
            poller = select.poll()  # select(2) knows no descriptor from 1024 on
            poller.register(self._channel, select.POLLIN)
            if not poller.poll(client.PATIENCE * 1000):
                self._hung()
            else:
                self._hear()
        result = super()._run(steps)
        self._channel.setblocking(False)  # noqa: FBT003  (socket names it so)
        return result


def _nobody(_result: object) -> None:
    """A router that cannot begin is lost, which is told."""
