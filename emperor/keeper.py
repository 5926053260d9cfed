"""The Emperor's ends of a living vassal: control socket, launch socket, pidfd, output and error
pipes.

What arrives on them is turned into events; what the table decides is carried out here. Every
descriptor is watched level-triggered and forgotten before it is closed.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
from collections.abc import Callable

from donjon import log
from donjon.emperor.logs import READ_SIZE as LOG_READ_SIZE
from donjon.emperor.nursery import Cradle, Nursery, send_signal
from donjon.emperor.orders import Answer
from donjon.emperor.protocol import READ_SIZE, FromVassal, ToVassal, decode
from donjon.emperor.reactor import Reactor
from donjon.emperor.roster import Vassal
from donjon.emperor.vassal import Event
from donjon.errors import DonjonError, reason_of
from donjon.records import dataclass, field

EXILE = 26
ERROR_LIMIT = 4096
OUTBOX_LIMIT = 16 << 20
DRAIN_READS = 16
"""Reads of a dead vassal's output, so that a descendant that still writes cannot hold us."""

Happen = Callable[[Vassal, Event], None]


@dataclass(slots=True)
class Ends:
    """Descriptors of one vassal that only the keeper touches."""

    log: int = -1
    error: int = -1
    error_text: bytearray = field(default_factory=bytearray)
    outbox: bytearray = field(default_factory=bytearray)


class Keeper:
    """Watches what leads to vassals, and speaks to them."""

    def __init__(self, reactor: Reactor, nursery: Nursery, happen: Happen) -> None:
        self.reactor = reactor
        self.nursery = nursery
        self.happen = happen
        self._ends: dict[str, Ends] = {}
        self.freeze: Callable[[Vassal], None] = lambda _vassal: None
        self.thaw: Callable[[Vassal], None] = lambda _vassal: None

    def adopt(self, vassal: Vassal, cradle: Cradle, answer: Answer) -> bool:
        """Take over a newborn. False when there is none; the reason is the vassal's error."""
        if answer.pid < 0:
            self._lose_cradle(vassal, cradle, answer.error)
            return False
        try:
            vassal.process = self.nursery.to_process(cradle, answer)
        except (OSError, DonjonError) as error:
            self.nursery.dismiss(answer.pidfd)
            reason = reason_of(error) if isinstance(error, OSError) else str(error)
            self._lose_cradle(vassal, cradle, reason)
            return False
        ends = Ends(log=cradle.log, error=cradle.error)
        self._ends[vassal.name] = ends
        watch = self.reactor.watch
        watch(vassal.process.pidfd.fileno(), lambda _events: self.reap(vassal))
        watch(cradle.control.fileno(), lambda events: self._hear(vassal, events))
        watch(ends.log, lambda _events: self._read_log(vassal, ends))
        watch(ends.error, lambda _events: self._read_error(vassal, ends))
        return True

    def _lose_cradle(self, vassal: Vassal, cradle: Cradle, reason: str) -> None:
        vassal.error = reason
        log.write(f"[emperor] cannot spawn vassal {vassal.name}: {reason}")
        cradle.close()

    def reap(self, vassal: Vassal) -> None:
        """Collect a vassal that ended. Does nothing when it did not."""
        process = vassal.process
        if process is None:
            return
        flags = os.WEXITED | os.WNOHANG
        result = os.waitid(os.P_PIDFD, process.pidfd.fileno(), flags)
        if result is None:
            return
        exited = result.si_code == os.CLD_EXITED
        how = f"exit code {result.si_status}" if exited else f"signal {result.si_status}"
        log.debug(f"[emperor] vassal {vassal.name} (pid {process.pid}) ended: {how}")
        ends = self._ends.get(vassal.name)
        if ends is not None:
            self._read_error(vassal, ends)
            if ends.error >= 0:  # the spawner did not close its copy yet: there is no end of file
                self._tell_error(vassal, bytes(ends.error_text))
        told = ends is not None and ends.error_text
        if not told and not (exited and result.si_status == 0):
            vassal.error = f"ended with {how}"
        self.happen(vassal, Event.EXILED if exited and result.si_status == EXILE else Event.DIED)

    def clean(self, vassal: Vassal) -> None:
        """Give back everything of a dead vassal."""
        process, vassal.process = vassal.process, None
        ends = self._ends.pop(vassal.name, None)
        if process is None or ends is None:
            return
        self._drain_log(vassal, ends)
        for fd in (ends.log, ends.error):
            self._close(fd)
        self.reactor.forget(process.pidfd.fileno())
        process.pidfd.close()
        for end in (process.control, process.launch):
            self._hang_up(end)
        self.nursery.groups.sweep(vassal.name)
        for path in vassal.leftovers:
            self.nursery.unnote(path)
        vassal.leftovers.clear()

    def tell(self, vassal: Vassal, byte: ToVassal) -> bool:
        """Say one byte. False when nobody listens."""
        self.thaw(vassal)
        process = vassal.process
        if process is None or process.control is None:
            return False
        try:
            process.control.send(bytes([byte]))
        except OSError:
            return False
        return True

    def send_launch(self, vassal: Vassal) -> None:
        """Send the new Launch; what does not fit follows as the vassal reads."""
        process = vassal.process
        ends = self._ends.get(vassal.name)
        if process is None or ends is None or process.launch is None or process.foreign:
            return
        data = pickle.dumps(process.reading.launch, protocol=pickle.HIGHEST_PROTOCOL)
        if len(ends.outbox) + len(data) > OUTBOX_LIMIT:
            log.write(f"[emperor] vassal {vassal.name} does not read its configurations")
            return
        idle = not ends.outbox
        ends.outbox += len(data).to_bytes(4, "little") + data
        if idle:
            self.reactor.watch(
                process.launch.fileno(),
                lambda _events: self._flush(vassal, ends),
                select.EPOLLOUT,
            )
            self._flush(vassal, ends)

    def signal(self, vassal: Vassal, number: signal.Signals) -> None:
        """Send a signal to the vassal's process."""
        self.thaw(vassal)
        if vassal.process is not None:
            send_signal(vassal.process, number)
            if number == signal.SIGKILL:
                self.nursery.groups.thaw(vassal.name)

    def _flush(self, vassal: Vassal, ends: Ends) -> None:
        launch = vassal.process.launch if vassal.process else None
        if launch is None:
            return
        try:
            sent = launch.send(ends.outbox)
            del ends.outbox[:sent]
        except BlockingIOError:
            return
        except OSError:
            ends.outbox.clear()  # a program of its own: it reads its configuration itself
        if not ends.outbox:
            self.reactor.forget(launch.fileno())

    def _hear(self, vassal: Vassal, events: int) -> None:
        control = vassal.process.control if vassal.process else None
        if control is None:
            return
        try:
            data = control.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(vassal)
            return
        pause = vassal.rate.spend(len(data), self.reactor.clock())
        if pause:
            self._mute(control, pause, events)
        for event in decode(data):
            self.happen(vassal, event)
        if FromVassal.FREEZE in data:
            self.freeze(vassal)

    def _mute(self, control: socket.socket, seconds: float, _events: int) -> None:
        """Stop listening to a vassal that shouts."""
        self.reactor.listen_for(control.fileno(), 0)

        def listen_again() -> None:
            if control.fileno() >= 0:
                self.reactor.listen_for(control.fileno(), select.EPOLLIN)

        self.reactor.after(seconds, listen_again)

    def _lose(self, vassal: Vassal) -> None:
        process = vassal.process
        if process is not None:
            self._hang_up(process.control)
            process.control = None
            self.happen(vassal, Event.LOST)

    def _read_log(self, vassal: Vassal, ends: Ends) -> None:
        try:
            data = os.read(ends.log, LOG_READ_SIZE)
        except BlockingIOError:
            return
        if data:
            vassal.log.feed(data)
        else:
            self._close(ends.log)
            ends.log = -1

    def _drain_log(self, vassal: Vassal, ends: Ends) -> None:
        for _ in range(DRAIN_READS):
            if ends.log < 0:
                break
            try:
                data = os.read(ends.log, LOG_READ_SIZE)
            except BlockingIOError:
                break
            if not data:
                break
            vassal.log.feed(data)
        vassal.log.flush()

    def _read_error(self, vassal: Vassal, ends: Ends) -> None:
        while ends.error >= 0:
            try:
                data = os.read(ends.error, ERROR_LIMIT)
            except BlockingIOError:
                return
            ends.error_text += data
            if not data or len(ends.error_text) > ERROR_LIMIT:
                self._close(ends.error)
                ends.error = -1
                self._tell_error(vassal, bytes(ends.error_text[:ERROR_LIMIT]))

    def _tell_error(self, vassal: Vassal, text: bytes) -> None:
        if text:
            vassal.error = log.one_line(text.decode("utf-8", "backslashreplace").strip())
            log.write(f"[emperor] vassal {vassal.name}: {vassal.error}")
            vassal.log.say(vassal.error)

    def _close(self, fd: int) -> None:
        if fd >= 0:
            self.reactor.forget(fd)
            os.close(fd)

    def _hang_up(self, end: socket.socket | None) -> None:
        if end is not None and end.fileno() >= 0:
            self.reactor.forget(end.fileno())
            end.close()
