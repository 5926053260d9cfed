"""The gateway of a ``tuntap-router``: packets to others over UDP.

A packet between two networks is sent, as it is, in one datagram to an address; a datagram that
arrives is a packet from outside (uwsgi-facts 5.5). Nobody vouches for who sends it, so there is
a gateway only where one was asked for.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from donjon.errors import reason_of
from donjon.origin import Origin
from donjon.tuntap.protocol import RouterError
from donjon.tuntap.routes import MOST_ROUTES, Route, endpoint_of


def open_gateway(text: str, routes: Sequence[Route], origin: Origin) -> socket.socket:
    """Bind the gateway ``[ADDR]:PORT`` that routes go through. Raises RouterError."""
    host, _, port = text.rpartition(":")
    if len(routes) > MOST_ROUTES:
        raise RouterError(f"more than {MOST_ROUTES} routes", origin=routes[MOST_ROUTES].origin)
    try:
        address, number = endpoint_of(text if host else f"0.0.0.0:{port}")
        for route in routes:
            if route.address.version != address.version:
                raise RouterError(
                    f"a route to {route.address} cannot go through the gateway {text}",
                    origin=route.origin,
                    reason=f"one is of IPv{route.address.version}, the other is not",
                )
        made = socket.socket(
            socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM
        )
        try:
            made.bind((str(address), number))
        except OSError:
            made.close()
            raise
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise RouterError(
            f"cannot bind the gateway {text} of a tuntap router", origin=origin, reason=reason
        ) from error
    made.settimeout(0)
    return made
