"""Engines that serve many requests in one thread."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "loop engines"

OPTIONS = (
    *unbuilt(
        AREA,
        required="async loop gevent asyncio tornado stackless coroae",
        nothing="gevent-monkey-patch ugreen greenlet fiber",
    ),
    *unbuilt(
        AREA,
        required="clock ugreen-stacksize",
        nothing="""
        clock-list|clocks-list loop-list|loops-list gevent-early-monkey-patch
        gevent-wait-for-hub
        """,
        harmless=True,
    ),
)
