"""Announcing an instance to the routers in front of it."""

from __future__ import annotations

from donjon.config.options.rows import unbuilt

AREA = "subscription"

OPTIONS = (
    *unbuilt(
        AREA,
        required="""
        multicast subscriptions-sign-check subscriptions-sign-skip-uid
        subscriptions-credentials-check subscription-algo subscribe-to|st|subscribe
        subscribe2 subscribe-with-modifier1
        """,
        nothing="""
        subscriptions-use-credentials subscription-dotsplit start-unsubscribed
        """,
    ),
    *unbuilt(
        AREA,
        required="""
        weight auto-weight multicast-ttl multicast-loop notify-socket
        subscription-notify-socket subscriptions-sign-check-tolerance subscribe-freq
        subscription-tolerance
        """,
        nothing="unsubscribe-on-graceful-reload",
        harmless=True,
    ),
)
