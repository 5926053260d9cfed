"""Listeners lent from one instance to another."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "zerg"

OPTIONS = (
    *unbuilt(
        AREA,
        required="zerg zerg-server zergpool|zerg-pool",
    ),
    *unbuilt(
        AREA,
        nothing="zerg-fallback",
        harmless=True,
    ),
)
