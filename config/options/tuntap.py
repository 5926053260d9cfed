"""Packets between a jail and the host."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "tuntap"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        tuntap-router tuntap-device tuntap-router-firewall-in tuntap-router-firewall-out
        tuntap-router-route tuntap-device-rule
        """,
        optional="tuntap-use-credentials",
    ),
    *unbuilt(
        AREA,
        required="tuntap-router-stats",
        harmless=True,
    ),
)
