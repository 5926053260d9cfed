"""As many workers as the traffic needs."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "cheaper"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        cheaper cheaper-initial cheaper-algo cheaper-step cheaper-overload
        cheaper-rss-limit-soft cheaper-rss-limit-hard cheaper-busyness-max
        cheaper-busyness-min cheaper-busyness-multiplier cheaper-busyness-penalty
        cheaper-busyness-backlog-alert cheaper-busyness-backlog-multiplier
        cheaper-busyness-backlog-step cheaper-busyness-backlog-nonzero
        """,
        nothing="""
        cheap cheaper-algo-list|cheaper-algos-list|cheaper-list cheaper-busyness-verbose
        """,
        harmless=True,
    ),
)
