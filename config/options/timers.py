"""The signal framework, timers and cron."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "signals and timers"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        signal signal-timer|timer signal-rbtimer|rbtimer touch-signal fs-reload
        fs-brutal-reload fs-signal udp cron cron2 unique-cron legion-cron|cron-legion
        unique-legion-cron|unique-cron-legion curl-cron legion-curl-cron
        """,
    ),
    *unbuilt(
        AREA,
        required="signal-bufsize|signals-bufsize cron-harakiri",
        harmless=True,
    ),
)
