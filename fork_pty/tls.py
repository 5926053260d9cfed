"""TLS on a connection, at both ends: a socket that is encrypted, and is used as one that is not.

What OpenSSL wants before it can go on (SSL_get_error(3)) is told as BlockingIOError, for a loop
that asks again. A piece that is read holds a whole record (16 KiB at most, RFC 8446 §5.1), so
nothing decrypted waits where epoll does not see it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time
from collections.abc import Callable

from donjon.errors import DonjonError, reason_of
from donjon.fork_pty.loop import READ, WRITE, Loop, Timer
from donjon.fork_pty.spec import RouterSpec
from donjon.records import dataclass

PATIENCE = 10.0
"""Seconds for a handshake."""

AT_ONCE = 64
AT_ONCE_EACH = 8
"""Handshakes that are under way together, and of one address."""

_WANTED = {ssl.SSLWantReadError: READ, ssl.SSLWantWriteError: WRITE}


class Link:
    """An encrypted connection that never blocks."""

    encrypted = True

    def __init__(self, tls: ssl.SSLSocket) -> None:
        """Own it; the handshake is still to be done."""
        self._tls = tls

    @property
    def family(self) -> socket.AddressFamily:
        """Its family."""
        return socket.AddressFamily(self._tls.family)

    def fileno(self) -> int:
        """Lend the descriptor."""
        return self._tls.fileno()

    def shake(self) -> int:
        """Go on with the handshake; return the events that it waits for, 0 when it is done.

        Raises OSError.
        """
        try:
            self._tls.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
            return _WANTED[type(wanted)]
        return 0

    def recv(self, count: int) -> bytes:
        """Read. Raises BlockingIOError, OSError."""
        try:
            return self._tls.recv(count)
        except ssl.SSLZeroReturnError:
            return b""
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
            raise BlockingIOError from wanted

    def send(self, data: bytes | bytearray, _flags: int = 0) -> int:
        """Write what is taken; who gets BlockingIOError goes on with the same bytes. Raises
        OSError.
        """
        try:
            return self._tls.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
            raise BlockingIOError from wanted

    def sendall(self, data: bytes) -> None:
        """Write all, and wait for that. Raises OSError."""
        while data:
            try:
                data = data[self.send(data) :]
            except BlockingIOError:
                select.select([], [self], [], PATIENCE)

    def close(self) -> None:
        """Say that it is the end, if that can be said now, and close."""
        with contextlib.suppress(OSError, ValueError):  # the other side does not wait for it
            self._tls.unwrap()
        self._tls.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def server(spec: RouterSpec) -> ssl.SSLContext:
    """Return what a router shakes hands with. Raises DonjonError."""
    assert spec.tls_cert is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    _load(context, spec.tls_cert, spec.tls_key, "forkpty-tls-cert")
    if spec.tls_ca is not None:
        _trust(context, spec.tls_ca, "forkpty-tls-ca")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client(ca: str | None, cert: str | None) -> ssl.SSLContext:
    """Return what a client shakes hands with; ``ca`` is whom it trusts instead of the system's.

    Raises DonjonError.
    """
    context = ssl.create_default_context()
    if ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _trust(context, ca, "--ca")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        _load(context, cert, None, "--cert")
    return context


def _load(context: ssl.SSLContext, cert: str, key: str | None, option: str) -> None:
    def refuse() -> str:  # OpenSSL would ask on the terminal
        raise DonjonError(f"the key of {option} {cert} has a password", hint="it must have none")

    try:
        context.load_cert_chain(cert, key, refuse)
    except OSError as error:
        where = f" with the key {key}" if key else ""
        raise DonjonError(f"cannot use {option} = {cert}{where}", reason=_reason(error)) from error


def _trust(context: ssl.SSLContext, path: str, option: str) -> None:
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise DonjonError(f"cannot use {option} = {path}", reason=_reason(error)) from error


def _reason(error: OSError) -> str:
    """Return what is wrong, in OpenSSL's words or the system's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        words = (error.reason or "").lower().replace("_", " ")
        return words if words not in {"", "pem lib"} else "not a certificate and key in PEM"
    return reason_of(error) if error.errno else str(error)


def dial(link: socket.socket, host: str, ca: str | None, cert: str | None) -> Link:
    """Shake hands as a client on a connection, which is closed if that fails. Raises DonjonError.

    ``host`` is whom the certificate has to name.
    """
    try:
        context = client(ca, cert)
        link.setblocking(False)  # noqa: FBT003  (socket names it so)
        found = Link(
            context.wrap_socket(link, server_hostname=host, do_handshake_on_connect=False)
        )
        until = time.monotonic() + PATIENCE
        while events := found.shake():
            reads = [found] if events == READ else []
            writes = [] if reads else [found]
            left = until - time.monotonic()
            if left <= 0 or not any(select.select(reads, writes, [], left)):
                raise TimeoutError(110, os.strerror(110))
    except ssl.SSLCertVerificationError as error:
        link.close()
        raise DonjonError(
            f"the certificate of {host} is not to be trusted",
            reason=error.verify_message,
            hint="--ca FILE names whom to trust",
        ) from error
    except OSError as error:
        link.close()
        raise DonjonError(f"no TLS with {host}", reason=_reason(error)) from error
    except DonjonError:
        link.close()
        raise
    return found


@dataclass(slots=True, eq=False)
class Shaking:
    """A handshake under way."""

    link: Link
    host: str
    done: Callable[[Link], None]
    failed: Callable[[str], None]
    timer: Timer


class Handshakes:
    """Those of a router: bounded in time and number, in its loop."""

    def __init__(self, loop: Loop, context: ssl.SSLContext) -> None:
        """Shake no hands yet."""
        self._loop = loop
        self._context = context
        self._going: set[Shaking] = set()

    def begin(
        self, link: socket.socket, host: str, done: Callable[[Link], None],
        failed: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Own a connection from ``host``; one of the two is called, now or later."""
        of_one = sum(one.host == host for one in self._going)
        if of_one >= AT_ONCE_EACH or len(self._going) >= AT_ONCE:
            link.close()
            failed("too many handshakes")
            return
        try:
            tls = self._context.wrap_socket(link, server_side=True, do_handshake_on_connect=False)
        except OSError as error:  # it has left
            link.close()
            failed(_reason(error))
            return
        one = Shaking(Link(tls), host, done, failed, Timer(lambda: None))
        one.timer = self._loop.after(PATIENCE, lambda: self._fail(one, "it took too long"))
        self._going.add(one)
        self._loop.watch(one.link.fileno(), READ, lambda _events: self._go_on(one))

    def _go_on(self, one: Shaking) -> None:
        try:
            events = one.link.shake()
        except OSError as error:
            self._fail(one, _reason(error))
            return
        if events:
            self._loop.change(one.link.fileno(), events)
            return
        self._forget(one)
        one.done(one.link)

    def _fail(self, one: Shaking, why: str) -> None:
        self._forget(one)
        one.link.close()
        one.failed(why)

    def _forget(self, one: Shaking) -> None:
        self._going.discard(one)
        one.timer.cancel()
        self._loop.forget(one.link.fileno())

    def close(self) -> None:
        """Shake no hands any more."""
        for one in tuple(self._going):
            self._forget(one)
            one.link.close()
