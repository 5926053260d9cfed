"""The TunTap routers of an instance, begun where the original makes them (uwsgi-facts 2.1, 8).

Their rules are read again when the instance, or its Emperor, reads its configuration again: this
process only says so, over a pipe, and the keeper, which is root, reads them itself. A vassal's
configuration comes from its Emperor, which knows that other rules need another instance.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from donjon import log
from donjon.config.spec import Launch
from donjon.fd import Fd
from donjon.records import replace
from donjon.server import telling
from donjon.server.spec import ServerSpec


def begin(spec: ServerSpec, reread: Callable[[], Launch] | None = None) -> list[int]:
    """Make devices and sockets, and start who keeps the routers. Raises DonjonError.

    ``reread`` evaluates the configuration again. Returns descriptors that no child of the master
    has to hold.
    """
    if not spec.tuntap_routers:
        return []
    from donjon.tuntap import keeper  # noqa: PLC0415  (for who has a router alone)

    table, private = _table(spec), []
    _warn_of_routes(spec)
    for setting in spec.tuntap_routers:
        with_stats = replace(setting, stats=setting.stats or spec.tuntap_stats)
        asked, ask = (Fd(number) for number in os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))
        with asked:
            keeper.begin(
                with_stats,
                table,
                credentials=spec.tuntap_credentials,
                rules=_rules(reread) if reread is not None else None,
                asked=asked.fileno(),
                routes=spec.tuntap_routes,
            )
        telling.when_read_again(_teller(ask))
        private.append(ask.fileno())
    return private


def _warn_of_routes(spec: ServerSpec) -> None:
    if spec.tuntap_routes and not any(one.gateway for one in spec.tuntap_routers):
        log.write(
            f"donjon: {spec.tuntap_routes[0].origin}: tuntap-router-route: no tuntap-router has "
            "a gateway, its fourth word; no packet goes there"
        )


def _table(spec: ServerSpec) -> bytes:
    from donjon.tuntap.rules import Names, classic, compile_rules  # noqa: PLC0415

    rules = classic.chains(spec.tuntap_rules_in, spec.tuntap_rules_out)
    return compile_rules(rules, Names()).table


def _rules(reread: Callable[[], Launch]) -> Callable[[], bytes]:
    return lambda: _table(reread().server)


def _teller(ask: Fd) -> Callable[[], None]:
    """Return what writes to a pipe; in a child of the master that closed it, nothing."""
    which = os.fstat(ask.fileno())

    def tell() -> None:
        with contextlib.suppress(OSError):  # it was told already, or is no more
            if os.path.samestat(os.fstat(ask.fileno()), which):
                os.write(ask.fileno(), b"\n")

    return tell
