"""The client of ``emperor-proxy-socket``: a process started elsewhere becomes a vassal.

Its starter names a socket in UWSGI_EMPEROR_PROXY. Each connection gets one message:
``uwsgi-emperor``, a native int that counts descriptors, and the descriptors: the control socket,
and the configuration socket where there is one (uwsgi-facts 1.5). We then look like a vassal that
the Emperor started itself.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import MutableMapping

from donjon import log

PROXY = "UWSGI_EMPEROR_PROXY"
_NAMES = ("UWSGI_EMPEROR_FD", "UWSGI_EMPEROR_FD_CONFIG")
_GREETING = b"uwsgi-emperor"
_COUNT = struct.Struct("i")
_SIZE = len(_GREETING) + _COUNT.size
_RETRY = 1.0  # seconds


def adopt_emperor(environ: MutableMapping[str, str]) -> None:
    """Fetch the descriptors that UWSGI_EMPEROR_PROXY offers and name them; retry until they come.

    To be called before any configuration is read. Does nothing where the variable is not set.
    """
    path = environ.pop(PROXY, "")
    while path:
        try:
            numbers = fetch(path)
        except OSError as error:
            log.write(f"cannot reach the Emperor's proxy {path}: {error.strerror or error}")
            time.sleep(_RETRY)
            continue
        for name, number in zip(_NAMES, numbers, strict=False):
            os.set_inheritable(number, True)  # noqa: FBT003  (os names it so)
            environ[name] = str(number)
        return


def fetch(path: str) -> list[int]:
    """Take the descriptors from one connection. Raises OSError; none is left open then."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect("\0" + path[1:] if path.startswith("@") else path)
        data, numbers, _, _ = socket.recv_fds(client, _SIZE, len(_NAMES))
    promised = _COUNT.unpack_from(data, len(_GREETING))[0] if len(data) == _SIZE else 0
    if not data.startswith(_GREETING) or promised != len(numbers) or not numbers:
        for number in numbers:
            os.close(number)
        raise OSError(f"{path} does not speak for an Emperor")
    return numbers
