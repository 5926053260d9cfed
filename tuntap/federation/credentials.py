"""What our end shows and believes: a certificate, its key, and the authority of all peers.

The three texts are the operator's files, which the supervisor reads. OpenSSL takes certificate and
key from files alone, so they are for a moment in the only directory that the process has, its own.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Mapping
from typing import Any

from donjon.fd import Fd
from donjon.records import dataclass
from donjon.tuntap.protocol import RouterError

LARGEST = 1 << 20
"""Bytes of each text."""

TEXTS = ("cert", "key", "ca")


@dataclass(frozen=True, slots=True)
class Credentials:
    """How we speak to those whom we dial, and to those who dial us."""

    client: ssl.SSLContext
    server: ssl.SSLContext


def make(texts: Mapping[str, Any], place: str) -> Credentials:
    """Return what ``texts`` come to, by way of the directory ``place``. Raises RouterError."""
    for name in TEXTS:
        if not isinstance(texts.get(name), str) or len(texts[name]) > LARGEST:
            raise RouterError(f"network-peer-{name} is no text of at most {LARGEST} characters")
    cert, key = paths = [os.path.join(place, name) for name in TEXTS[:2]]
    try:
        for path, name in zip(paths, TEXTS, strict=False):
            _write(path, texts[name].encode())
        return Credentials(
            _context(ssl.PROTOCOL_TLS_CLIENT, cert, key, texts["ca"]),
            _context(ssl.PROTOCOL_TLS_SERVER, cert, key, texts["ca"]),
        )
    finally:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _write(path: str, data: bytes) -> None:
    """Write a new file that is ours alone, with few system calls."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with Fd(os.open(path, flags, 0o600)) as file:
        view = memoryview(data)
        while view:
            view = view[os.write(file.fileno(), view) :]


def _context(protocol: int, cert: str, key: str, ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # nobody resumes a session: each link asks for certificates anew
    try:
        context.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise RouterError("network-peer-ca is no certificate", reason=_words(error)) from error
    try:
        context.load_cert_chain(cert, key, password="")  # one with a password is never asked for
    except (OSError, ValueError) as error:
        raise RouterError(
            "network-peer-cert and network-peer-key do not go together, or cannot be read",
            reason=_words(error),
        ) from error
    return context


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error)
