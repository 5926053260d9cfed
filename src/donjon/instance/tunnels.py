"""The TunTap routers of an instance, begun where the original makes them (uwsgi-facts 2.1, 8)."""

from __future__ import annotations

from donjon import log
from donjon.records import replace
from donjon.server.spec import ServerSpec


def begin(spec: ServerSpec) -> None:
    """Make devices and sockets, and start who keeps the routers. Raises DonjonError."""
    if not spec.tuntap_routers:
        return
    from donjon.tuntap import keeper  # noqa: PLC0415  (for who has a router alone)
    from donjon.tuntap.rules import Names, classic, compile_rules  # noqa: PLC0415

    rules = classic.chains(spec.tuntap_rules_in, spec.tuntap_rules_out)
    table = compile_rules(rules, Names()).table
    if spec.tuntap_routes and not any(one.gateway for one in spec.tuntap_routers):
        log.write(
            f"donjon: {spec.tuntap_routes[0].origin}: tuntap-router-route: no tuntap-router has "
            "a gateway, its fourth word; no packet goes there"
        )
    for setting in spec.tuntap_routers:
        with_stats = replace(setting, stats=setting.stats or spec.tuntap_stats)
        keeper.begin(
            with_stats, table, credentials=spec.tuntap_credentials, routes=spec.tuntap_routes
        )
