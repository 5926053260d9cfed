"""Packets between a jail and the host."""

from __future__ import annotations

from donjon.config.options.option import Takes
from donjon.config.options.rows import Rows
from donjon.origin import Origin
from donjon.tuntap import routes, settings
from donjon.tuntap.settings import DeviceSetting, RouterSetting

AREA = "tuntap"

_server = Rows(AREA, "server", operator=True)


def _with_origin(text: str, origin: Origin) -> tuple[str, Origin]:
    return text, origin


def _router(words: tuple[str, ...], origin: Origin) -> RouterSetting:
    device, address, stats, udp = (*words, "", "")[:4]
    return RouterSetting(device, address, stats, udp, origin)


def _device(words: tuple[str, ...], origin: Origin) -> DeviceSetting:
    device, *address = words
    return DeviceSetting(device, "".join(address), origin)


_RULE = {"metavar": "ACTION [SRC[/N] DST[/N]]", "example": "deny 192.168.0.0/24 0.0.0.0"}

OPTIONS = (
    _server.several(
        "tuntap-router",
        "Run a TunTap router: a tun device, and a socket that jails connect to.",
        field="tuntap_routers",
        factory=_router,
        parse=settings.parse_router,
        metavar="DEV SOCKET [STATS] [GATEWAY]",
        example="emperor0 /run/tuntap.socket",
    ),
    _server.several(
        "tuntap-router-firewall-in",
        "A rule for packets to jails; the first that matches decides, else they are allowed.",
        field="tuntap_rules_in",
        factory=_with_origin,
        **_RULE,
    ),
    _server.several(
        "tuntap-router-firewall-out",
        "A rule for packets from jails; the first that matches decides, else they are allowed.",
        field="tuntap_rules_out",
        factory=_with_origin,
        **_RULE,
    ),
    _server.text(
        "tuntap-router-stats",
        "Serve the router's statistics as JSON.",
        field="tuntap_stats",
        metavar="ADDRESS",
        example="/run/tuntap.stats",
    ),
    _server.several(
        "tuntap-device",
        "Make a tun device in the jail, and join it to a TunTap router.",
        field="tuntap_devices",
        factory=_device,
        parse=settings.parse_device,
        metavar="DEV [SOCKET]",
        example="uwsgi0 /run/tuntap.socket",
    ),
    _server.several(
        "tuntap-device-rule",
        "A rule that an original router is asked to obey; ours obeys its operator's alone.",
        field="tuntap_device_rules",
        parse=settings.parse_rule,
        metavar="in|out SRC[/N] DST[/N] ACTION [ADDR:PORT]",
        example="out 192.168.0.2 0.0.0.0/0 allow",
    ),
    _server.flag(
        "tuntap-use-credentials",
        "Peers of a router say who they are before anything else, over AF_UNIX.",
        field="tuntap_credentials",
        takes=Takes.OPTIONAL,
        parse=settings.parse_credentials,
    ),
    _server.several(
        "tuntap-router-route",
        "Send packets between two networks to another router's gateway, over UDP and as they are.",
        field="tuntap_routes",
        factory=routes.route,
        parse=routes.parse_route,
        metavar="SRC[/N] DST[/N] ADDR:PORT",
        example="0.0.0.0 192.168.1.0/24 198.51.100.2:7000",
    ),
)
